"""``plan`` behind filters and relations: what it knows, what it bounds, and why where there is no bound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gristmill.pipelines import plan, run
from gristmill.pipelines.planning.text import rendered, table

ENGINE = {"kind": "scripted", "replies": [{"texts": ["\\boxed{1}", "\\boxed{2}"]}]}
BRIEF = {"max_tokens": 10}


@pytest.fixture
def place(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(workspace.path)
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)
    workspace.write_problems(20, answer="1")
    return workspace


def recipe(place: Any, *stages: dict[str, Any], **keys: Any) -> Path:
    written: Path = place.write_recipe(ENGINE, stages=list(stages), **keys)
    return written


def lines(found: str) -> list[list[str]]:
    """The rows of the table, divided at blanks where there are two or more."""
    body = found.split("\n\n")[1]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in body.splitlines()]


def test_a_filter_whose_rows_are_all_there_is_seen_past(place: Any) -> None:
    written = recipe(
        place,
        {"stage": "where", "as": "few", "condition": "id < 'p13'"},
        {"stage": "sample", "sampling": BRIEF},
    )
    [few, sample] = plan(written).stages
    assert (few.rows, few.done, few.known) == (20, 20, True)
    assert (sample.rows, sample.completions_min, sample.completions_max, sample.tokens_out) == (5, 5, 5, 50)


def test_behind_rows_that_are_not_there_costs_are_bounded(place: Any) -> None:
    written = recipe(
        place,
        {"stage": "sample", "as": "draw", "samples": 2, "sampling": BRIEF},
        {"stage": "take", "as": "one", "rows": 1, "per": "problem"},
        {"stage": "join", "as": "asked", "from": ["source", "one"], "how": "semi"},
        {"stage": "sample", "as": "again", "samples": 3, "sampling": BRIEF},
        {"stage": "where", "as": "right", "condition": "verdict == 'correct'"},
    )
    found = plan(written)
    at = {stage.name: stage for stage in found.stages}
    assert [s.known for s in found.stages] == [True, False, False, False, False]
    assert (at["draw"].completions_min, at["draw"].completions_max) == (40, 40)
    assert (at["one"].rows_most, at["asked"].rows_most) == (40, 20 + 40)
    # Nothing is there for the join yet, so nothing tells what its rows will cost.
    assert not at["again"].bounded and at["again"].note.startswith("no bound: no row of its kind")
    assert at["right"].rows_most is None
    run(written, limit=5, quiet=True)
    at = {stage.name: stage for stage in plan(written).stages}
    assert (at["again"].completions_min, at["again"].completions_max) == (0, 60)
    assert at["again"].bounded and at["again"].note.startswith("at most 20 rows")
    assert at["right"].rows_most == 60
    run(written, quiet=True, resume=True)
    assert [s.name for s in plan(written).stages if not s.known or s.completions_max or s.note] == []


def test_a_number_of_rows_without_a_bound_is_said(place: Any) -> None:
    written = recipe(
        place,
        {"stage": "sample", "as": "draw"},
        {"stage": "group", "as": "groups"},
        {"stage": "explode", "as": "exploded"},
        {"stage": "measure", "scores": {"length": "characters"}},
    )
    found = plan(written)
    measure = found.stages[-1]
    assert (measure.rows_most, measure.bounded) == (None, False)
    assert measure.note == "no bound: nothing limits how many rows reach it"
    assert lines(table(found))[-1] == ["measure", "?", "?", "?", "?", "?", "?"]
    assert "draw" in table(found) and "groups, exploded: waiting for rows that are not there yet." in table(
        found
    )


def test_the_table_reads_as_a_sentence_would(place: Any) -> None:
    (place.path / "others.jsonl").write_text(json.dumps({"id": "p1", "problem": "1?"}) + "\n{}\n")
    written = recipe(
        place,
        {"stage": "sample", "as": "draw", "sampling": BRIEF},
        {"stage": "join", "as": "both", "from": ["draw", "others"], "how": "semi"},
        until={"stage": "both", "rows": 10, "at_most": 12, "minutes": 5},
    )
    data = json.loads(written.read_text())
    data["sources"] = {"problems": data.pop("source"), "others": {"path": "others.jsonl"}}
    written.write_text(json.dumps(data))
    text = table(plan(written))
    assert text.splitlines()[0] == (
        "test: 13 problems (problems 12, others 1), 1 rows rejected. Still to be paid for:"
    )
    assert lines(text) == [
        ["stage", "rows", "done", "in the log", "completions", "tokens in", "tokens out"],
        ["draw", "12", "0", "0", "12", "<= 24", "<= 120"],
        ["both", "<= 13", "?", "?", "0", "0", "0"],
    ]
    assert text.splitlines()[-2:] == [
        "both: waiting for rows that are not there yet.",
        "It ends earlier with 10 rows of both or after 5 minutes.",
    ]


def test_a_stage_that_will_end_the_run_is_told_of(place: Any) -> None:
    written = recipe(
        place,
        {"stage": "where", "as": "none", "condition": "id = 'x'"},
        {"stage": "mix", "from": ["source", "none"]},
        {"stage": "sample"},
    )
    [_, mix, sample] = plan(written).stages
    assert mix.note.startswith("it will end the run: mix: table 2 has no rows")
    assert (sample.completions_max, sample.rows_most, sample.note) == (0, 0, "")


def test_the_priors_expectation_stands_beside_the_bounds_until_rows_have_told_more(place: Any) -> None:
    few = {"want": {"D1": 1, "D2": 0, "D3": 0}, "attempts": 8, "evaluations": 3, "corrections_of_wrong": 3}
    written = recipe(place, {"stage": "explore_self_correction", "min_chance": 0.1, **few})
    [stage] = plan(written).stages
    assert stage.completions_expected is not None
    assert 1.5 * stage.completions_min < stage.completions_expected < stage.completions_max / 4
    assert lines(table(plan(written)))[0][4:6] == ["completions", "expected"]
    done = run(written, limit=5, quiet=True).summary.stages[-1].completions
    [stage] = plan(written).stages
    # Every row is the same to the scripted engine; the rows of which the log has nothing cost as those did.
    assert stage.completions_expected == pytest.approx(15 * done / 5, abs=1)


def test_costs_are_bounded_where_there_are_prices_and_batches_pay_half(place: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")
    costs = {}
    for kind in ("openai", "openai-batch"):
        engine = {"kind": kind, "base_url": "http://127.0.0.1:1/v1", "model": "m"}
        written = place.write_recipe(
            engine,
            stages=[{"stage": "sample", "sampling": {"max_tokens": 1000}}],
            prices={"m": {"input": 0, "output": 5}},
        )
        costs[kind] = plan(written).stages[0].usd
        assert lines(table(plan(written)))[0][-1] == "cost"
    assert costs == {
        "openai": pytest.approx(20 * 1000 * 5e-6),
        "openai-batch": pytest.approx(10 * 1000 * 5e-6),
    }


def test_the_first_prompts_of_each_stage_are_rendered(place: Any) -> None:
    written = recipe(place, {"stage": "sample", "system": "Be brief.\x1b[2J", "sampling": {"max_tokens": 9}})
    assert rendered(plan(written, prompts=2)) == (
        "-- sample, row p0 (max_tokens 9)\n[system]\nBe brief.\\x1b[2J\n[user]\nproblem 0\n\n"
        "-- sample, row p1 (max_tokens 9)\n[system]\nBe brief.\\x1b[2J\n[user]\nproblem 1"
    )
    none = recipe(place, {"stage": "where", "condition": "id < 'p13'"}, name="none")
    assert rendered(plan(none, prompts=2)) == "No stage asks a model about a row that is known yet."
