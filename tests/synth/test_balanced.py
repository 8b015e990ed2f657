"""``sample_balanced`` draws the samples of ``sample`` in rounds, until some are right and some wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.records import Problem
from gristmill.core.stages import Context, Rejection
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth import Sample, SampleBalanced

PROBLEM = Problem("p", "What is 1+1?", "r")
OUTCOMES = {"r": Outcome.CORRECT, "w": Outcome.INCORRECT, "u": Outcome.UNPARSEABLE}


async def verify(completion: str, reference: str) -> Verdict:
    return Verdict(OUTCOMES[completion[0]])


def drawn(
    stage: Sample, answer: Callable[[Request, int], Completion | str], problem: Problem = PROBLEM
) -> tuple[list[Any], list[tuple[Request, int]]]:
    asked: list[tuple[Request, int]] = []

    def record(request: Request, index: int) -> Completion | str:
        asked.append((request, index))
        return answer(request, index)

    made = asyncio.run(stage(problem, Context(ScriptedEngine(record), verify, 7)))
    return list(made), asked


def unpaid(made: list[Any]) -> list[Any]:
    """The samples without what the prompt cost: each round is a request that pays it anew."""
    return [replace(s, prompt_tokens=0) for s in made]


@settings(max_examples=30, deadline=None)
@given(
    answers=st.text("rwu", min_size=12, max_size=12),
    right=st.integers(0, 3),
    wrong=st.integers(1, 3),
    samples=st.integers(1, 5),
)
def test_it_stops_with_the_first_round_that_is_enough(
    answers: str, right: int, wrong: int, samples: int
) -> None:
    stage = SampleBalanced(samples=samples, right=right, wrong=wrong, most=12)
    made, asked = drawn(stage, lambda request, index: answers[index])
    rounds = [min(samples * (i + 1), 12) for i in range(-(-12 // samples))]
    enough = (n for n in rounds if answers[:n].count("r") >= right and answers[:n].count("w") >= wrong)
    count = next(enough, 12)
    assert [s.completion for s in made] == list(answers[:count])
    # The very samples of ``sample``: same ids, same requests, same places in the log.
    fixed, fixed_asked = drawn(Sample(samples=count), lambda request, index: answers[index])
    assert unpaid(made) == unpaid(fixed)
    assert sorted(asked, key=lambda a: a[1]) == sorted(fixed_asked, key=lambda a: a[1])
    estimate = stage.estimate(PROBLEM)
    assert estimate.completions_min <= len(asked) <= estimate.completions_max == 12


def test_a_column_can_give_each_problem_its_own_budget() -> None:
    stage = SampleBalanced(budget="budget", most=8)
    made, _ = drawn(stage, lambda request, index: "r", replace(PROBLEM, meta='{"budget": 3}'))
    assert len(made) == 3
    assert drawn(stage, lambda request, index: "r", replace(PROBLEM, meta='{"budget": 0}')) == ([], [])
    assert stage.estimate(replace(PROBLEM, meta='{"budget": 3}')).completions_max == 3
    with pytest.raises(RowRejected, match="'many' is not a whole number") as rejected:
        drawn(stage, lambda request, index: "r", replace(PROBLEM, meta='{"budget": "many"}'))
    assert rejected.value.reason == "has no 'budget'"
    assert stage.estimate(PROBLEM).completions_max == 0


def test_a_round_that_fails_leaves_what_was_drawn() -> None:
    def answer(request: Request, index: int) -> str:
        if index >= 2:
            raise RowRejected("refused", "no more")
        return "r"

    made, _ = drawn(SampleBalanced(samples=2, most=8), answer)
    assert [s.id for s in made] == ["p/0", "p/1", "p/2", "p/3"]
    assert [isinstance(s, Rejection) for s in made] == [False, False, True, True]
    with pytest.raises(RowRejected, match="no more"):
        drawn(SampleBalanced(samples=2), lambda request, index: answer(request, 2))


def test_turns_after_the_first_are_kept_apart_as_in_sample() -> None:
    options: dict[str, Any] = {"follow_ups": ("Sure?",)}
    made, _ = drawn(SampleBalanced(samples=2, right=3, wrong=0, **options), lambda request, index: "r")
    fixed, _ = drawn(Sample(samples=4, **options), lambda request, index: "r")
    assert unpaid(made) == unpaid(fixed)


def test_what_cannot_be_balanced_is_refused() -> None:
    with pytest.raises(RowRejected, match="cannot be told apart"):
        drawn(SampleBalanced(), lambda request, index: "r", replace(PROBLEM, answer=None))
    with pytest.raises(RecipeError, match="2 engines are named"):
        SampleBalanced(engines=("a", "b"))
    with pytest.raises(RecipeError, match="nothing to balance"):
        SampleBalanced(verify=False)
