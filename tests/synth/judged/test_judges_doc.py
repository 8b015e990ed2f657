"""docs/judges.md: its recipes load, and its table has every scorer that asks a judge."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from gristmill.core.registry import find, names
from gristmill.pipelines.recipe import from_dict
from gristmill.synth import judged

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "judges.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


def test_every_recipe_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(Path(__file__).parent / "known.jsonl", tmp_path / "known.jsonl")
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"id": "p1", "instructions": "Add up."}))
    monkeypatch.chdir(tmp_path)
    sample = {"stage": "sample", "samples": 4}
    for block in BLOCKS:
        # A block that begins with a stage goes on from samples.
        text = f"stages:\n{block}" if block.lstrip().startswith("- ") else block
        written = yaml.safe_load(text)
        kinds = {entry["stage"] for entry in written["stages"]}
        if not kinds & {"sample", "score_pairs", "rate_together", "refine_judge_prompt"}:
            written["stages"] = [sample, *written["stages"]]
        base = {"name": "page", "engine": {"kind": "llamacpp"}}
        source = {} if {"source", "sources"} & set(written) else {"source": {"path": "rows.jsonl"}}
        assert from_dict(base | source | written).stages
    assert len(BLOCKS) > 4


def test_the_table_has_every_scorer_that_asks_a_judge() -> None:
    table = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    ours = {name for name in names("scorers") if find("scorers", name).__name__ in judged.__all__}
    assert len(ours) == 11 and not ours - table


def test_the_table_has_every_stage_of_the_package() -> None:
    ours = [n for n in names("stages") if find("stages", n).__module__.startswith("gristmill.synth.judged")]
    assert len(ours) == 7 and not [name for name in ours if f"`{name}`" not in TEXT]
