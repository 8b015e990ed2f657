"""GLoRe's rows: a wrong solution is shown, a right rollout trained, as a whole or from before the error."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from gristmill.core.engine import Completion, Message
from gristmill.core.records import Demonstration, Judged
from gristmill.core.stages import Context, Rejection
from gristmill.core.steps import Step, ValuedSolution
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.step_values.refine import Refinements

RIGHT, WRONG = Verdict(Outcome.CORRECT, 1.0), Verdict(Outcome.INCORRECT, 0.0)


def rollouts(*texts: str) -> tuple[Judged, ...]:
    return tuple(Judged(Completion(text), RIGHT if text.endswith("4") else WRONG) for text in texts)


def solution(first_error: int | None, verdict: Verdict = WRONG) -> ValuedSolution:
    steps = (
        Step("Add.\n", rollouts("2 + 2 = 4", "It is 4", "5")),
        Step("2 + 2 = 5.\n", rollouts("5")),
        Step("5"),
    )
    return ValuedSolution(
        "p/0", "p", "2 + 2?", "4", (Message("user", "2 + 2?"),), steps, verdict, "fixed", "drawn",
        start=rollouts("5", "Count: 4"), first_error=first_error,
    )  # fmt: skip


def made(record: ValuedSolution, **options: Any) -> list[Any]:
    async def verify(text: str, answer: str) -> Verdict:
        raise AssertionError("no verifier is called")

    stage = Refinements(**options)
    return list(asyncio.run(stage(record, Context(ScriptedEngine(lambda r, i: "no"), verify, 0))))


def test_global_rows_train_a_right_solution_and_local_ones_keep_the_steps_before_the_error() -> None:
    whole, local = made(solution(1))
    assert isinstance(whole, Demonstration) and isinstance(local, Demonstration)
    assert (whole.kind, whole.turns[-1].content) == ("global", "Count: 4")
    assert (local.kind, local.turns[-1].content) == ("local", "Add.\n2 + 2 = 4")
    assert "Add.\n2 + 2 = 5.\n5" in whole.turns[0].content and "mistake is in" not in whole.turns[0].content
    assert "The first mistake is in step 2: 2 + 2 = 5." in local.turns[0].content
    assert [turn.train for turn in local.turns] == [False, True]


def test_an_error_in_the_first_step_goes_on_from_the_question() -> None:
    [local] = made(solution(0), kinds=("local",))
    assert local.turns[-1].content == "Count: 4" and "in step 1: Add." in local.turns[0].content


def test_further_right_rollouts_make_further_rows_with_ids_of_their_own() -> None:
    rows = made(solution(1), kinds=("local",), most=5)
    assert [row.id for row in rows] == ["p/0/local/0", "p/0/local/1"]
    assert rows[1].turns[-1].content == "Add.\nIt is 4"


def test_a_rollout_that_is_right_by_a_false_equation_is_not_trained() -> None:
    record = solution(1)
    steps = (Step("1 + 1 = 3.\n", rollouts("So 4")), *record.steps[1:])
    lucky = msgspec.structs.replace(record, steps=steps)
    [row] = made(lucky, kinds=("local",))
    assert isinstance(row, Rejection) and row.reason == "local: no right rollout to refine it to"
    [row] = made(lucky, kinds=("local",), sound_arithmetic=False)
    assert row.turns[-1].content == "1 + 1 = 3.\nSo 4"


def test_what_cannot_be_refined_says_why() -> None:
    reasons = {
        "nothing to refine": made(solution(-1, RIGHT)),
        "local: the first error is not located": made(solution(None), kinds=("local",)),
        "local: no right rollout to refine it to": made(solution(2), kinds=("local",)),
    }
    for reason, [row] in reasons.items():
        assert isinstance(row, Rejection) and row.reason == reason
