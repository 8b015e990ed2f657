"""Every method's recipe on the scripted engine: its rows are what its header expects; plain samples are not.

``pytest -m methods`` runs all of them; the quick suite too.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from gristmill.core.errors import GristmillError
from gristmill.pipelines.methods import METHODS, entries, entry, unmet
from gristmill.pipelines.methods.choosing import choose
from gristmill.pipelines.methods.gallery import Entry
from gristmill.pipelines.methods.merging import merge_of, merge_tiny
from gristmill.pipelines.methods.page import page
from gristmill.pipelines.running.runner import run

ROOT = Path(__file__).parents[3]
TABLE = ROOT.parent / "shared" / "reference" / "methods.tsv"
LOOPS = METHODS.parent / "loops"
RUNNABLE = sorted(path.stem for path in METHODS.glob("*.yaml"))


def _set(values: dict[str, Any]) -> list[str]:
    return [f"{place}={json.dumps(value)}" for place, value in values.items()]


def _entry(name: str) -> Entry:
    found = entry(METHODS / f"{name}.yaml")
    assert found is not None
    return found


@pytest.mark.methods
@pytest.mark.parametrize("name", RUNNABLE)
def test_a_method_makes_what_its_header_expects_and_plain_sampling_does_not(
    name: str, tmp_path: Path
) -> None:
    found = _entry(name)
    if found.method.status == "none":
        assert found.method.why
        return
    if (plan := merge_of(found.path)) is not None:
        merge_tiny(plan, found.method, tmp_path / "merged")
        assert not unmet(found.method, tmp_path / "merged"), unmet(found.method, tmp_path / "merged")
        off = merge_of(found.path, _set(found.method.without))
        assert off is not None
        merge_tiny(off, found.method, tmp_path / "off")
        assert unmet(found.method, tmp_path / "off"), "'expect' holds without the method too"
        return
    chosen = choose(found.path, "scripted")
    given: dict[str, Any] = {"log": tmp_path / "log.sqlite", "quiet": True}
    done = run(found.path, overrides=chosen, runs=tmp_path / "runs", **given)
    assert not unmet(found.method, done), "\n".join(unmet(found.method, done))
    off = _set(found.method.without or {"stages": [{"stage": "sample", "verify": False}], "exports": []})
    try:
        plain = run(found.path, overrides=[*chosen, *off], runs=tmp_path / "plain", **given)
    except GristmillError:
        assert not found.method.without, "'without' cannot be run"
        return  # plain sampling cannot even be asked of these sources
    assert unmet(found.method, plain), "'expect' holds without the method too"


@pytest.mark.methods
def test_every_method_of_the_table_has_an_entry() -> None:
    if not TABLE.exists():
        pytest.skip("../shared is not there: the list of methods that the gallery is held against")
    with TABLE.open(encoding="utf-8") as file:
        wanted = {row["system"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
    have = {e.method.title for e in entries()}
    assert not wanted - have, sorted(wanted - have)


def test_enough_methods_work_and_name_loops_that_there_are() -> None:
    found = entries()
    assert sum(e.method.status == "works" for e in found) >= 140
    named = {e.method.loop for e in found if e.method.loop}
    assert named <= {path.stem for path in LOOPS.glob("*.yaml")}


def test_the_page_of_methods_is_current() -> None:
    made = page(entries())
    assert (ROOT / "docs" / "methods.md").read_text(encoding="utf-8") == made, (
        "write it again: python -m gristmill.pipelines.methods.page > docs/methods.md"
    )
