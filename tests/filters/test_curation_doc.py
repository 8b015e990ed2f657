"""The recipes of docs/curation.md work: each of its blocks is run over small tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
import yaml
from table_rows import WRONG, called, out, problems, sample, samples

from gristmill.core.records import Score
from gristmill.core.registry import find
from gristmill.core.stages import Relation

TEXT = (Path(__file__).parents[2] / "docs" / "curation.md").read_text()
BLOCKS = [yaml.safe_load(block)["stages"] for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]


def tables() -> dict[str, pl.LazyFrame]:
    ours = [
        sample(
            f"p{i}",
            j,
            completion="x" * (i + 1),
            scores=(Score("length", i * 100.0), Score("reward", (i * j) % 3 / 2)),
            meta='{"subject": "algebra", "source": {"year": 2024}}',
        )
        for i in range(20)
        for j in range(3)
    ]
    theirs = [sample(f"p{i}", j, verdict=WRONG) for i in range(10) for j in range(2)]
    return {
        "problems": problems(*(f"p{i}" for i in range(20)), level=2),
        "samples": samples(*ours),
        "others": samples(*theirs),
    }


def walked(stages: list[dict[str, Any]]) -> dict[str, pl.DataFrame]:
    """What comes out of each stage, by its name."""
    made, given, before = {}, tables(), ""
    for entry in stages:
        kind = find("stages", entry["stage"])
        options = {key: value for key, value in entry.items() if key not in ("stage", "as", "from")}
        stage = msgspec.convert(options, kind)
        names = entry.get("from", before)
        names = names if isinstance(names, list) else [names]
        stage = stage.for_inputs(names) if isinstance(stage, Relation) else stage
        before = entry.get("as", entry["stage"])
        made[before] = out(stage, *(given[name] for name in names))
        given[before] = made[before].lazy()
    return made


@pytest.mark.parametrize("stages", BLOCKS, ids=lambda stages: "-".join(entry["stage"] for entry in stages))
def test_every_block_runs_and_leaves_rows(stages: list[dict[str, Any]]) -> None:
    assert [name for name, rows in walked(stages).items() if rows.is_empty()] == []


def test_every_stage_of_the_table_is_registered_under_that_name_and_shown() -> None:
    listed = re.findall(r"^\| \[(.*?)\]\(#.*?\) \| `(\w+)` \|", TEXT, re.MULTILINE)
    named = {name: kind for names, kind in listed for name in re.findall(r"`(\w+)`", names)}
    assert {name: find("stages", name).__name__ for name in named} == named
    assert {entry["stage"] for block in BLOCKS for entry in block} == set(named)


def test_the_first_block_gives_the_two_shortest_right_answers_in_one_part_each() -> None:
    made = walked(BLOCKS[0])
    assert len(made["divided"]) == 40
    assert len(made["train"]) + len(made["test"]) == 40
    assert set(made["train"]["problem_id"]).isdisjoint(made["test"]["problem_id"])


def test_grouping_keeps_problems_that_have_enough_rows() -> None:
    stages = next(block for block in BLOCKS if block[0]["stage"] == "group")
    assert called(find("stages", "explode")(), walked(stages)["where"].lazy()).height == 60
