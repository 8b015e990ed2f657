"""An answer by which nothing can be judged is found before any engine is asked."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import pytest

from gristmill.core.errors import InputError
from gristmill.pipelines import load, plan, run
from gristmill.pipelines.running.checks.answers import UNUSABLE, check_answers
from gristmill.verifiers.math import Math
from gristmill.verifiers.rules import Choice, Constraints, ShortAnswer

ENGINE: dict[str, Any] = {"kind": "scripted", "replies": [{"texts": ["The answer is 5."]}]}
ROWS = [
    {"id": "a", "problem": "2 + 3?", "answer": "5"},
    {"id": "b", "problem": "What is 0/0?", "answer": r"\frac{0}{0}"},
    {"id": "c", "problem": "Anything.", "answer": None},
    {"id": "d", "problem": "1 + 4?", "answer": r"\frac{10}{2}"},
]


def recipe(place: Any, stages: list[dict[str, Any]], **source: Any) -> Any:
    (place.path / "rows.jsonl").write_text("\n".join(["{broken", *map(json.dumps, ROWS)]) + "\n")
    where = {"path": str(place.path / "rows.jsonl"), **source}
    return load(place.write_recipe(ENGINE, source=where, stages=stages))


@pytest.fixture
def place(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(workspace.path)
    return workspace


def test_the_run_stops_before_it_asks_and_names_the_row(place: Any) -> None:
    made = recipe(place, [{"stage": "sample"}])
    for attempt in (lambda: run(made, quiet=True), lambda: plan(made)):
        with pytest.raises(InputError, match=r"rows\.jsonl, row 3: .*'b'.*0.*unusable_answers: reject"):
            attempt()
    assert not list(place.path.glob("runs/*/*sample/part-*"))
    with pytest.raises(InputError, match="row 3"):  # among the rows that are left, the row of the file
        run(recipe(place, [{"stage": "sample"}], where="id != 'a'"), quiet=True, fresh=True)


def test_such_rows_are_left_out_on_request(place: Any) -> None:
    done = run(recipe(place, [{"stage": "sample"}], unusable_answers="reject"), quiet=True)
    assert done.rows("sample").collect()["problem_id"].to_list() == ["a", "c", "d"]
    source = done.summary.stages[0]
    assert (source.rows_out, source.rejected[UNUSABLE]) == (3, 1)
    assert done.summary.stages[1].verdicts == {"correct": 2}


def test_a_source_that_begins_without_answers_is_looked_at_as_it_is_read(place: Any) -> None:
    rows = [{"problem": f"{i} + 1?"} for i in range(600)]
    for late, found_before in ((499, True), (500, False)):
        told = [row | {"answer": "0/0"} if i == late else row for i, row in enumerate(rows)]
        (place.path / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
        made = load(place.write_recipe(ENGINE, source={"path": "many.jsonl"}, stages=[{"stage": "sample"}]))
        with nullcontext() if not found_before else pytest.raises(InputError, match=f"row {late + 1}"):
            check_answers(made)
        with pytest.raises(InputError, match=f"row {late + 1}"):
            run(made, quiet=True, fresh=True)


def test_where_nothing_judges_by_answers_none_is_looked_at(place: Any) -> None:
    done = run(recipe(place, [{"stage": "sample", "verify": False}]), quiet=True)
    assert done.summary.stages[0].rows_out == 4


def test_the_rows_options_are_looked_at_too(place: Any) -> None:
    (place.path / "mcq.jsonl").write_text(
        json.dumps({"problem": "Which?", "choices": ["x", "y"], "answer": "C"}) + "\n"
    )
    made = place.write_recipe(
        ENGINE, source={"path": "mcq.jsonl"}, verifier={"kind": "choice"}, stages=[{"stage": "sample"}]
    )
    with pytest.raises(InputError, match="'C' is none of 2 options"):
        run(made, quiet=True)


@pytest.mark.parametrize(
    ("verifier", "good", "bad"),
    [
        (
            Math(),
            ["5", r"\boxed{\pi}", "east", "x>3", r"\emptyset", "(A)"],
            ["0/0", "1/0", r"\text{}", " "],
        ),
        (Math(), [], ["9" * 2_500, r"\frac{1}{0}", "NaN"]),
        (Choice(), ["B", "(b)"], ["", "{}", '{"options": ["x"], "answer": "y"}']),
        (ShortAnswer(labels=("yes", "no")), ["yes", "No.", '["yes", "no"]'], ["maybe", "", "[]"]),
        (Constraints(), ['[{"check": "quoted"}]'], ["5", "[]", '[{"check": "rhyme"}]']),
    ],
)
def test_what_verifiers_refuse_is_an_error_for_every_answer(
    verifier: Any, good: list[str], bad: list[str]
) -> None:
    for reference in good:
        assert verifier.refuses(reference) == "", reference
        assert verifier("The answer is 5.", reference).outcome != "error", reference
    for reference in bad:
        assert verifier.refuses(reference) != "", reference
        verdict = verifier("The answer is 5.", reference)
        assert (verdict.outcome, verdict.rule) == ("error", "reference unparseable"), verdict
