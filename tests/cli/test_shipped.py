"""Recipes that come with Gristmill, from a directory that knows nothing of the repository."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gristmill.cli.continuing import continued
from gristmill.cli.main import app
from gristmill.cli.options import NONE, RUNS, SOME
from gristmill.cli.shipped import DATA, copy, find, shipped, shown
from gristmill.core.errors import RecipeError
from gristmill.pipelines.recipe.recipe import load, to_dict
from gristmill.pipelines.rundir.results import open_run

SCRIPTED = "engine={kind: scripted, replies: [{texts: ['It is \\\\boxed{2}.']}]}"
"""In place of the embedded model."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sources(recipe: dict[str, Any]) -> list[dict[str, Any]]:
    return [recipe["source"]] if "source" in recipe else list(recipe["sources"].values())


def gristmill(*words: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.output


def test_each_says_in_its_first_line_what_it_does() -> None:
    assert [r.name for r in shipped()] == [p.stem for p in sorted((DATA / "recipes").iterdir())]
    assert [r.name for r in shipped() if not (20 < len(r.summary) < 110 and r.summary.endswith("."))] == []
    assert [r.name for r in shipped() if load(find(r.name)).name != r.name] == []


def test_one_runs_by_its_name(tmp_path: Path) -> None:
    gristmill("run", "quickstart", "--limit", "2", "--quiet", "--set", SCRIPTED, status=NONE)
    assert (tmp_path / "runs" / "quickstart" / "summary.json").is_file()
    assert "quickstart: 2 problems" in gristmill("plan", "quickstart", "--limit", "2", "--set", SCRIPTED)


def test_the_quickstart_keeps_what_there_is_where_one_kind_is_missing(tmp_path: Path) -> None:
    """As on a slow machine, which gets to few problems: here to one, wrong at first and then corrected."""
    replies = [
        {"match": "Is it 15", "texts": ["6 + 10 = 16. Is 16 equal to 15? No. [VERIFY] wrong."]},
        {"match": "It is not 15", "texts": ["6 + 10 = 16. \\boxed{16}"]},
        {"texts": ["6 + 10 = 15. \\boxed{15}"]},
    ]
    engine = f"engine={json.dumps({'kind': 'scripted', 'replies': replies})}"
    gristmill(
        "run", "quickstart", "--limit", "1", "--quiet", "--set", engine, status=SOME
    )  # no pair comes out
    told = open_run(tmp_path / "runs" / "quickstart").rows("curated").collect()
    assert told["subset"].to_list() == ["D1"]


def test_the_command_that_goes_on_names_it_as_it_was_named(tmp_path: Path) -> None:
    assert shlex.split(continued(find("quickstart"), [], 2, RUNS, None))[2] == "quickstart"
    (tmp_path / "quickstart").write_text("name: mine")
    assert shown(DATA / "recipes" / "quickstart.yaml") != "quickstart"


def test_a_file_comes_before_a_shipped_recipe_and_a_folder_does_not(tmp_path: Path) -> None:
    (tmp_path / "refusal").mkdir()
    (tmp_path / "quickstart").write_text("name: mine")
    assert find("quickstart") == Path("quickstart")
    assert find("refusal") == DATA / "recipes" / "refusal.yaml"


def test_a_wrong_name_says_what_there_is() -> None:
    with pytest.raises(RecipeError, match=r"'quikstart' is neither .* Did you mean 'quickstart'"):
        find("quikstart")
    with pytest.raises(RecipeError, match=r"Known: .*quickstart, .*refusal"):
        copy("zzz", Path())


def test_a_copy_is_the_same_recipe_with_its_data_beside_it(tmp_path: Path) -> None:
    for recipe in shipped():
        output = gristmill("new", "recipe", recipe.name, "--out", recipe.name)
        mine = tmp_path / recipe.name / f"{recipe.name}.yaml"
        assert f"gristmill run {recipe.name}/{recipe.name}.yaml" in output
        theirs, copied = to_dict(load(recipe.path)), to_dict(load(mine))
        for own, other in zip(sources(copied), sources(theirs), strict=True):
            data = Path(own.pop("path"))
            assert data.parent.samefile(mine.parent)
            assert data.read_bytes() == Path(other.pop("path")).read_bytes()
        assert copied == theirs


def test_an_edited_copy_is_not_overwritten(tmp_path: Path) -> None:
    gristmill("new", "recipe", "refusal")
    gristmill("new", "recipe", "refusal")
    (tmp_path / "refusal.yaml").write_text("name: mine")
    with pytest.raises(RecipeError, match=r"refusal\.yaml is there already"):
        copy("refusal", Path())
    assert (tmp_path / "refusal.yaml").read_text() == "name: mine"
