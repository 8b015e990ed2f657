from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from gristmill.core.engine import Completion, Message, Request, Sampling
from gristmill.core.errors import RecipeError, RowRejected
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


def test_braces_in_the_data_are_data() -> None:
    stage = Sample(system="{X} {0}", prompt="{problem} {problem}")
    made, _ = sample(stage, lambda request, index: "2", replace(PROBLEM, problem="{answer} \\boxed{x}"))
    assert made[0].messages == (
        Message("system", "{X} {0}"),
        Message("user", "{answer} \\boxed{x} {answer} \\boxed{x}"),
    )


def test_any_column_reaches_every_prompt_and_goes_on_in_meta() -> None:
    meta = '{"context": ["Rome is old.", "Paris is big."], "tone": "brief"}'
    stage = Sample(system="Be {tone}.", prompt="{context}\n{problem}", follow_ups=("In a {tone} way?",))
    made, _ = sample(stage, lambda request, index: "2", replace(PROBLEM, meta=meta))
    assert [m.content for m in made[0].messages] == [
        "Be brief.",
        "Rome is old.\nParis is big.\nWhat is {1+1}?",
        "2",
        "In a brief way?",
    ]
    assert made[0].meta == meta
    assert stage.places == {
        "system": {"tone"},
        "prompt": {"context", "problem"},
        "follow_ups": {"tone"},
    }


def test_a_row_without_a_column_is_rejected_and_costs_nothing() -> None:
    stage = Sample(prompt="{context} {problem}")
    with pytest.raises(RowRejected) as rejected:
        sample(stage, lambda request, index: "2")
    assert rejected.value.reason == "has no 'context'"
    assert stage.estimate(PROBLEM).completions_max == 0
    with pytest.raises(RowRejected, match="null"):
        sample(stage, lambda request, index: "2", replace(PROBLEM, meta='{"context": null}'))


def test_a_prompt_that_names_nothing_of_the_row_is_refused() -> None:
    with pytest.raises(RecipeError, match="names nothing of the row"):
        msgspec.convert({"prompt": "Put it in \\boxed{problem}."}, Sample)


def test_the_samples_of_several_engines_are_merged() -> None:
    own = ScriptedEngine(lambda request, index: "own")
    engines = {name: ScriptedEngine(lambda r, i, name=name: f"{name}{i}") for name in ("a", "b")}
    stage = Sample(engines=("b", "a"), samples=2, follow_ups=("Sure?",))
    context = Context(own, equal, 7, engines)
    made = asyncio.run(stage(PROBLEM, context))
    assert [(s.id, s.index, s.model, s.completion) for s in made if isinstance(s, Sampled)] == [
        ("p1/b/0", 0, "b", "b0"),
        ("p1/b/1", 1, "b", "b1"),
        ("p1/a/0", 2, "a", "a0"),
        ("p1/a/1", 3, "a", "a1"),
    ]
    assert stage.needs == frozenset() and set(stage.uses) == {"a", "b"}
    cost = stage.estimate(PROBLEM)
    assert (cost.completions_max, cost.rows_max) == (8, 4)
    # The same requests as of a stage whose own engine is "a": the log answers one for the other.
    alone = asyncio.run(
        Sample(samples=2, follow_ups=("Sure?",))(PROBLEM, replace(context, engine=engines["a"]))
    )
    assert [s.completion for s in alone if isinstance(s, Sampled)] == ["a0", "a1"]
    assert [s.model for s in alone if isinstance(s, Sampled)] == [None, None]


def test_an_engine_named_twice_or_unknown_is_refused() -> None:
    with pytest.raises(RecipeError, match="a name twice"):
        Sample(engines=("a", "a"))
    with pytest.raises(RecipeError, match="no engine named 'c'"):
        sample(Sample(engines=("c",)), lambda request, index: "2")


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
