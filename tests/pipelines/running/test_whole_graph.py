"""Every kind of node in one recipe: run, planned, and in tasks, with the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from distributed_parts import ENGINE, Here, in_tasks, outputs

from gristmill.pipelines import Run, plan, run
from gristmill.pipelines.distributed.executors import KINDS
from gristmill.pipelines.planning.text import table

STAGES: list[dict[str, Any]] = [
    {"stage": "sample", "as": "draw", "from": "problems", "samples": 2},
    {"stage": "where", "as": "right", "condition": "verdict == 'correct'"},
    {"stage": "derive", "as": "derived", "from": "draw", "columns": {"characters": "LENGTH(completion)"}},
    {"stage": "union", "as": "both", "from": ["draw", "former"]},
    {"stage": "mix", "as": "mixed", "from": ["draw", "former"], "weights": {"draw": 2, "former": 1}},
    {"stage": "join", "as": "with_level", "from": ["draw", "problems"]},
    {"stage": "measure", "as": "measured", "scores": {"length": "characters"}},
    {"stage": "where", "as": "hard", "condition": "level > 2 AND scores.length > 3"},
    {"stage": "group", "as": "by_problem", "from": "both"},
    {"stage": "explode", "as": "exploded"},
    {"stage": "measure", "as": "exploded_measured", "scores": {"length": "characters"}},
    {"stage": "sort", "as": "sorted", "by": ["problem_id", "id"], "descending": True},
    {"stage": "take", "as": "best", "rows": 1, "per": "problem"},
    {"stage": "split", "as": "divided", "from": "draw", "shares": {"train": 0.5, "test": 0.5}},
    {"stage": "take", "as": "some", "from": "problems", "rows": 7, "random": True},
    {"stage": "sample", "as": "again", "samples": 3, "verify": False},
    {"stage": "measure", "as": "counted", "from": "again", "scores": {"words": "words"}},
    {"stage": "measure_pairs", "as": "pairs_measured", "from": "pairs", "scores": {"length": "characters"}},
    {"stage": "join", "as": "pairs_with", "from": ["pairs_measured", "right"], "columns": ["completion"]},
]


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def place(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Problems (one unusable), pairs on them, and a former run."""
    monkeypatch.chdir(workspace.path)
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)
    monkeypatch.setitem(KINDS, "local", Here)
    rows = [{"id": f"p{i}", "problem": f"problem {i}", "answer": "2", "level": i % 5} for i in range(30)]
    lines(workspace.path / "problems.jsonl", [*rows, {"problem": ""}])
    pairs = [
        {"id": f"w{i}", "question": f"{i}?", "chosen": "a", "rejected": "bc", "of": f"p{i}"} for i in range(9)
    ]
    lines(workspace.path / "pairs.jsonl", pairs)
    workspace.write_recipe(ENGINE, name="first", stages=[{"stage": "sample", "verify": False}], limit=20)
    run("first.yaml", quiet=True)
    return workspace


def whole(place: Any) -> Path:
    sources = {
        "problems": {"path": "problems.jsonl"},
        "former": {"run": "first", "stage": "sample"},
        "pairs": {
            "path": "pairs.jsonl",
            "reads": "pairs",
            "columns": {"prompt": "question", "problem_id": "of"},
        },
    }
    recipe: Path = place.write_recipe(ENGINE, stages=STAGES, sources=sources, part_rows=7)
    data = json.loads(recipe.read_text())
    del data["source"]
    data["exports"] = [
        {"format": "trl-dpo", "from": "pairs", "path": "given.jsonl"},
        {"format": "trl-dpo", "from": "pairs_with", "path": "with.jsonl"},
    ]
    recipe.write_text(json.dumps(data))
    return recipe


def column(done: Run, stage: str, name: str = "id") -> list[Any]:
    return done.rows(stage).collect()[name].to_list()


def test_every_kind_of_node_gives_what_it_should(place: Any) -> None:
    done = run(whole(place), quiet=True)
    counts = {stage.name: stage for stage in done.summary.stages}
    drawn = [f"p{i}/{k}" for i in range(30) for k in range(2)]
    assert column(done, "draw") == drawn and counts["problems"].rejected
    assert column(done, "problems") == [f"p{i}" for i in range(30)]
    assert column(done, "both") == [*drawn, *(f"p{i}/0#2" for i in range(20))]
    assert len(column(done, "mixed")) == 60 and counts["mixed"].rejected == {"mix: above its share": 20}
    assert column(done, "exploded")[:3] == ["p0/0", "p0/1", "p0/0#2"]
    assert column(done, "sorted") == sorted(
        column(done, "exploded"), key=lambda i: (i.split("/")[0], i), reverse=True
    )
    assert len(set(column(done, "best", "problem_id"))) == len(column(done, "best")) == 30
    assert set(column(done, "divided", "part")) == {"train", "test"}
    assert len(column(done, "again")) == len(column(done, "counted")) == 21
    assert column(done, "derived", "characters") == [len(text) for text in column(done, "draw", "completion")]


def test_columns_that_a_join_added_pass_through_a_stage_that_does_not_know_them(place: Any) -> None:
    done = run(whole(place), quiet=True)
    assert column(done, "measured", "level") == [i % 5 for i in range(30) for _ in range(2)]
    assert {i % 5 for i in range(30)} - set(column(done, "hard", "level")) == {0, 1, 2}
    given = [json.loads(line) for line in (done.path / "exports/given.jsonl").read_text().splitlines()]
    assert [row["id"] for row in given] == [f"w{i}" for i in range(9)]
    right = set(done.rows("right").collect()["problem_id"])
    exported = [json.loads(line) for line in (done.path / "exports/with.jsonl").read_text().splitlines()]
    assert {row["id"].partition("#")[0] for row in exported} == {
        f"w{i}" for i in range(9) if f"p{i}" in right
    }


def test_in_tasks_and_at_any_concurrency_it_has_the_same_bytes(place: Any) -> None:
    recipe = whole(place)
    one = run(recipe, runs="one", log="one.sqlite", quiet=True)
    slow = run(recipe, overrides=["engine.concurrency=1"], runs="slow", log="slow.sqlite", quiet=True)
    many = in_tasks(recipe, 4, runs="many", log="many.sqlite")
    assert outputs(slow.path) == outputs(one.path)
    assert outputs(many.path) == outputs(one.path)
    assert len([name for name in outputs(one.path) if name.endswith(".parquet")]) > 50


def test_the_plan_has_every_row_once_it_has_run(place: Any) -> None:
    recipe = whole(place)
    done = run(recipe, quiet=True)
    found = plan(recipe)
    assert [s.name for s in found.stages if not s.known or s.open_rows or s.completions_max] == []
    counts = {stage.name: stage.rows_in for stage in done.summary.stages}
    assert {s.name: s.rows for s in found.stages} == {s.name: counts[s.name] for s in found.stages}
    text = table(found)
    assert "Still to be paid for" in text and "?" not in text


def test_another_run_is_read_with_the_columns_that_it_has(place: Any) -> None:
    run(whole(place), quiet=True)
    stages = [
        {"stage": "where", "condition": "level == 4"},
        {"stage": "measure", "scores": {"words": "words"}},
    ]
    recipe = place.write_recipe(
        ENGINE, name="next", source={"run": "test", "stage": "measured"}, stages=stages
    )
    done = run(recipe, quiet=True)
    assert set(column(done, "measure", "level")) == {4}
    names = [score["name"] for score in column(done, "measure", "scores")[0]]
    assert names == ["length", "words"]
