"""The recipes of docs/preferences.md load, and the first takes UltraFeedback's layout to a trainer."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from paths import ROOT

from gristmill.core.errors import InputError
from gristmill.pipelines import run
from gristmill.pipelines.recipe.recipe import from_dict
from gristmill.pipelines.report.pairs import report
from gristmill.pipelines.report.reading import PairsRead

TEXT = (ROOT / "docs" / "preferences.md").read_text()
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]


def rated(problem: str, *answers: tuple[str, float]) -> dict[str, object]:
    completions = [{"model": f"m{i}", "response": r, "overall_score": s} for i, (r, s) in enumerate(answers)]
    return {"instruction": problem, "source": "made", "completions": completions}


def test_the_first_recipe_takes_an_ultrafeedback_file_to_a_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        rated("Name a colour.", ("Red.", 9), ("Pink.", 6), ("Loud.", 2)),
        rated("Name a day.", ("Monday, or Tuesday, or Friday.", 9), ("Noon.", 2)),  # too much longer
        rated("Name a city.", ("Oslo.", 7), ("Rome.", 6)),  # too near
        rated("Name a tree.", ("Oak.", 5), ("Elm.", 5)),  # a tie
    ]
    (tmp_path / "ultrafeedback.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    written = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[0]
    assert len(written.splitlines()) < 20
    (tmp_path / "recipe.yaml").write_text(written)
    done = run(tmp_path / "recipe.yaml", quiet=True)
    exports = {
        name: [
            json.loads(line) for line in (done.path / "exports" / f"{name}.jsonl").read_text().splitlines()
        ]
        for name in ("pairs", "labelled")
    }
    assert [(r["chosen"][0]["content"], r["rejected"][0]["content"]) for r in exports["pairs"]] == [
        ("Red.", "Loud.")
    ]
    assert [(r["completion"][0]["content"], r["label"]) for r in exports["labelled"]] == [
        ("Red.", True),
        ("Loud.", False),
    ]
    reading = PairsRead("preferences")
    assert (reading.name, report(reading).pairs) == ("preferences:curated", 1)
    assert report(PairsRead("preferences:clear")).pairs == 2
    with pytest.raises(InputError, match=r"the stage holds no pairs\..*'curated'"):
        PairsRead("preferences:unpaired")


def test_every_recipe_of_the_page_loads() -> None:
    base = {
        "name": "page",
        "engines": {
            name: {"kind": "scripted", "model": name, "replies": [{"texts": ["1"]}]}
            for name in ("small", "large")
        },
        "verifier": {"kind": "math"},
    }
    assert len(BLOCKS) == 4
    for block in BLOCKS[1:]:
        asks = any(stage["stage"] == "sample" for stage in block["stages"])
        sources = {
            "problems" if asks else "samples": {"path": "rows.jsonl"} | ({} if asks else {"reads": "samples"})
        }
        assert from_dict(base | {"sources": sources} | block).stages
