from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gristmill.core.engine import Completion, Message, Request, Sampling
from gristmill.core.records import Problem, Sampled
from gristmill.core.stages import Context, Rejection, derive_seed
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.sampling import Sample

PROBLEM = Problem("p1", "What is {1+1}?", "2")


async def equal(completion: str, reference: str) -> Verdict:
    return Verdict(Outcome.CORRECT if completion == reference else Outcome.INCORRECT)


def sample(
    stage: Sample, answer: Callable[[Request, int], Completion | str], problem: Problem = PROBLEM
) -> tuple[list[Any], list[tuple[Request, int]]]:
    asked: list[tuple[Request, int]] = []

    def record(request: Request, index: int) -> Completion | str:
        asked.append((request, index))
        return answer(request, index)

    made = asyncio.run(stage(problem, Context(ScriptedEngine(record), equal, 7)))
    return list(made), asked


def test_each_sample_has_its_index_and_verdict() -> None:
    made, asked = sample(Sample(samples=3), lambda request, index: str(index + 1))
    assert [(s.id, s.index, s.completion, s.verdict.outcome) for s in made] == [
        ("p1/0", 0, "1", "incorrect"),
        ("p1/1", 1, "2", "correct"),
        ("p1/2", 2, "3", "incorrect"),
    ]
    assert {r.seed for r, _ in asked} == {derive_seed(7, "p1")}


def test_only_the_problem_is_substituted_and_braces_in_it_are_data() -> None:
    stage = Sample(system="{problem} {0}", prompt="{x} {problem} {problem}")
    made, _ = sample(stage, lambda request, index: "2")
    assert made[0].messages == (
        Message("system", "{problem} {0}"),
        Message("user", "{x} What is {1+1}? What is {1+1}?"),
    )


def test_a_prompt_without_the_problem_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="prompt"):
        msgspec.convert({"prompt": "Say something."}, Sample)


def test_follow_ups_are_answered_in_the_same_conversation() -> None:
    stage = Sample(samples=2, follow_ups=("Check.", "Again."))
    made, asked = sample(stage, lambda request, index: f"a{len(request.messages) // 2}.{index}")
    assert [m.content for m in made[1].messages] == ["What is {1+1}?", "a0.1", "Check.", "a1.1", "Again."]
    assert [s.completion for s in made] == ["a2.0", "a2.1"]
    # Every turn of every sample is a draw of its own, also where the answers before it are equal.
    assert len({(r.seed, i) for r, i in asked}) == 6
    assert made[0].completion_tokens == 3
    assert made[0].prompt_tokens == 3 + 5 + 7


def test_an_unfinished_turn_ends_the_conversation() -> None:
    stage = Sample(samples=2, follow_ups=("Check.",))

    def answer(request: Request, index: int) -> Completion:
        return Completion("2", "length" if index == 0 else "stop")

    made, asked = sample(stage, answer)
    assert made[0] == Rejection("p1/0", "unfinished turn before the last", "turn 1 of 2 ended by length")
    assert isinstance(made[1], Sampled)
    assert len(asked) == 3


def test_an_unfinished_answer_is_never_a_right_one() -> None:
    made, _ = sample(Sample(), lambda request, index: Completion("2", "length"))
    assert made[0].finish_reason == "length"
    assert made[0].verdict == Verdict(Outcome.UNPARSEABLE, rule="unfinished", detail="finish_reason length")


@pytest.mark.parametrize(
    ("stage", "problem"), [(Sample(verify=False), PROBLEM), (Sample(), Problem("p", "Why?"))]
)
def test_there_is_no_verdict_without_a_reference_or_a_wish_for_one(stage: Sample, problem: Problem) -> None:
    made, _ = sample(stage, lambda request, index: "2", problem)
    assert made[0].verdict is None


def test_the_estimate_is_exact_in_completions_and_an_upper_bound_in_tokens() -> None:
    stage = Sample(samples=4, follow_ups=("Check.",), sampling=Sampling(max_tokens=50))
    _, asked = sample(stage, lambda request, index: "x")
    estimate = stage.estimate(PROBLEM)
    assert estimate.completions_min == estimate.completions_max == len(asked) == 8
    assert estimate.completion_tokens == 50
    assert estimate.prompt_tokens == 14 // 4 + 6 // 2 // 4 + 25
