"""A model's verdicts on samples and on pairs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gristmill.core.engine import Ability, Completion, Message, Request
from gristmill.core.errors import RecipeError
from gristmill.core.records import Pair, Sampled
from gristmill.core.stages import Context, Rejection
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.judging import JudgePairs, JudgeSamples

Answer = Callable[[Request, int], Completion | str]
RIGHT, WRONG = Verdict(Outcome.CORRECT, 1.0), Verdict(Outcome.INCORRECT, 0.0)
OPEN = Verdict(Outcome.UNPARSEABLE)
PAIR = Pair(
    "p1/pair",
    "p1",
    "test",
    (Message("system", "Be brief."), Message("user", "2 + 2?")),
    (Message("assistant", "It is 4."), Message("user", "Sure?"), Message("assistant", "Yes.")),
    (Message("assistant", "It is 5."),),
)


def sample(verdict: Verdict | None = None, *, index: int = 0, **more: Any) -> Sampled:
    made = Sampled(
        id=f"p1/{index}",
        problem_id="p1",
        index=index,
        problem="2 + 2?",
        answer="4",
        messages=(Message("user", "2 + 2?"),),
        completion="It is 4.",
        finish_reason="stop",
        prompt_tokens=1,
        completion_tokens=1,
        verdict=verdict,
    )
    return msgspec.structs.replace(made, **more)


def never(completion: str, reference: str) -> Any:
    raise AssertionError("the plain verifier has no part in it")


def work(stage: Any, record: Any, answer: Answer) -> tuple[list[Any], ScriptedEngine, list[Verdict]]:
    engine = ScriptedEngine(answer)
    counted: list[Verdict] = []
    made = asyncio.run(stage(record, Context(engine, never, 7, {}, counted.append)))
    return list(made), engine, counted


def says(word: str) -> Answer:
    return lambda request, index: f"Reasons. [[{word}]]"


def test_a_sample_gets_the_models_verdict_and_it_is_counted() -> None:
    [made], engine, counted = work(JudgeSamples(), sample(), says("correct"))
    assert made.verdict.outcome is Outcome.CORRECT and made.verdict.rule == "judge: text"
    assert msgspec.structs.replace(made, verdict=None) == sample()
    assert (engine.requests, counted) == (1, [made.verdict])


@pytest.mark.parametrize(
    ("earlier", "before", "said", "after", "requests"),
    [
        ("replace", WRONG, "correct", Outcome.CORRECT, 1),
        ("keep", WRONG, "correct", Outcome.INCORRECT, 0),
        ("keep", OPEN, "correct", Outcome.CORRECT, 1),
        ("keep", None, "incorrect", Outcome.INCORRECT, 1),
        ("all", RIGHT, "correct", Outcome.CORRECT, 1),
        ("all", RIGHT, "incorrect", Outcome.INCORRECT, 1),
        ("all", OPEN, "correct", Outcome.UNPARSEABLE, 1),
        ("any", WRONG, "correct", Outcome.CORRECT, 1),
        ("any", None, "incorrect", Outcome.INCORRECT, 1),
    ],
)
def test_what_becomes_of_the_earlier_verdict(
    earlier: Any, before: Verdict | None, said: str, after: Outcome, requests: int
) -> None:
    [made], engine, _ = work(JudgeSamples(earlier=earlier), sample(before), says(said))
    assert (made.verdict.outcome, engine.requests) == (after, requests)
    if earlier in ("all", "any") and before is not None:
        parts = msgspec.json.decode(made.verdict.detail, type=dict[str, Verdict])
        assert parts["earlier"] == before
        assert parts["judge"].outcome.value == said


def test_a_cut_off_sample_is_not_asked_about() -> None:
    [made], engine, counted = work(JudgeSamples(), sample(finish_reason="length"), says("correct"))
    assert (made.verdict.outcome, made.verdict.rule, engine.requests) == (
        Outcome.UNPARSEABLE,
        "unfinished",
        0,
    )
    assert len(counted) == 1
    assert JudgeSamples().estimate(sample(finish_reason="length")).completions_max == 0


def test_without_a_reference_the_judge_grades() -> None:
    for stage, record in (
        (JudgeSamples(reference="none"), sample()),
        (JudgeSamples(), sample(answer=None)),
    ):
        [made], _, _ = work(stage, record, says("5"))
        assert (made.verdict.extracted, made.verdict.score) == ("5", 1.0)


def test_equal_answers_to_one_problem_send_equal_requests() -> None:
    asked: list[Request] = []

    def answer(request: Request, index: int) -> str:
        asked.append(request)
        return "[[correct]]"

    for index in (0, 1):
        work(JudgeSamples(), sample(index=index), answer)
    assert asked[0] == asked[1]


def test_a_checklist_takes_the_judges_place() -> None:
    stage = JudgeSamples(verifier={"kind": "checklist", "questions": ["Is it 4?", "Is it short?"]})
    [made], engine, _ = work(stage, sample(), says("yes"))
    assert (made.verdict.rule, engine.requests) == ("yes to 2 of 2", 2)
    assert stage.estimate(sample()).completions_max == 2


def test_a_verifier_takes_what_it_needs_from_the_row() -> None:
    stage = JudgeSamples(verifier={"kind": "binary_principles", "column": "rules"})
    [made], engine, _ = work(stage, sample(meta='{"rules": ["Be right.", "Be brief."]}'), says("yes"))
    assert (made.verdict.rule, engine.requests) == ("yes to 2 of 2", 2)
    [made], engine, _ = work(stage, sample(), says("yes"))
    assert (made.verdict.rule, made.verdict.decided, engine.requests) == ("no principles", False, 0)


def test_a_wrong_verifier_is_an_error_when_the_stage_is_made() -> None:
    for verifier, message in (
        ({"kind": "juge"}, "unknown model verifier 'juge'. Did you mean 'judge'"),
        ({"kind": "judge", "grade": 3}, "no option 'grade'. Did you mean 'grades'"),
        ({"kind": "salmon", "principles": [{"text": "Be kind."}]}, "salmon does not judge single answers"),
        ({}, "has no kind"),
    ):
        with pytest.raises(RecipeError, match=message):
            JudgeSamples(verifier=verifier)
    with pytest.raises(RecipeError, match="option_shuffle does not compare two answers"):
        JudgePairs(verifier={"kind": "option_shuffle"})


def test_needs_are_those_of_the_verifier() -> None:
    weighed = {"kind": "judge", "asking": {"read": "probabilities"}}
    assert JudgeSamples().needs == {Ability.CHAT}
    assert JudgeSamples(verifier=weighed).needs == {Ability.CHAT, Ability.LOGPROBS}
    assert JudgePairs(verifier={"kind": "salmon", "principles": [{"text": "x"}]}).needs >= {Ability.LOGPROBS}


def prefers(text: str) -> Answer:
    def answer(request: Request, index: int) -> str:
        shown = request.messages[-1].content
        first = shown.index(text) < shown.index("[BEGIN RESPONSE B")
        return "[[A]]" if first else "[[B]]"

    return answer


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (prefers("It is 4."), None),
        (prefers("It is 5."), "the rejected side is better"),
        (says("A"), "a tie"),
        (lambda request, index: "Both are fine.", "no verdict"),
    ],
)
def test_pairs_are_kept_where_the_judge_agrees_in_both_orders(answer: Answer, reason: str | None) -> None:
    [made], engine, _ = work(JudgePairs(), PAIR, answer)
    assert engine.requests == JudgePairs().estimate(PAIR).completions_max == 2
    if reason is None:
        assert made == PAIR
    else:
        assert isinstance(made, Rejection) and (made.id, made.reason) == ("p1/pair", reason)


def test_a_pairs_sides_are_all_that_the_assistant_says() -> None:
    asked: list[str] = []

    def answer(request: Request, index: int) -> str:
        asked.append(request.messages[-1].content)
        return "[[A]]"

    work(JudgePairs(), PAIR, answer)
    assert "\n2 + 2?\n" in asked[0] and "It is 4.\n\nYes.\n" in asked[0] and "Sure?" not in asked[0]


def test_a_judges_verdict_can_be_a_score_beside_the_samples_own() -> None:
    stage = JudgeSamples(score="judge")
    [made], _, counted = work(stage, sample(WRONG), says("correct"))
    assert made.verdict == WRONG
    [score] = made.scores
    assert (score.name, score.verdict.outcome, counted) == ("judge", Outcome.CORRECT, [score.verdict])
    # What is kept or joined is the verdict under that name.
    again, engine, _ = work(JudgeSamples(score="judge", earlier="keep"), made, says("incorrect"))
    assert (again, engine.requests) == ([made], 0)
    [joined], _, _ = work(JudgeSamples(score="judge", earlier="all"), made, says("incorrect"))
    assert joined.verdict == WRONG and joined.scores[0].verdict.outcome is Outcome.INCORRECT


@pytest.mark.parametrize(
    ("words", "value", "outcome"),
    [
        (("A", "B"), 1.0, Outcome.CORRECT),
        (("B", "A"), 0.0, Outcome.INCORRECT),
        (("A", "A"), 0.5, Outcome.UNPARSEABLE),
    ],
)
def test_a_comparison_can_be_a_score_of_the_pair(
    words: tuple[str, str], value: float, outcome: Outcome
) -> None:
    def answer(request: Request, index: int) -> str:
        shown = request.messages[-1].content
        return f"[[{words[shown.index('It is 4.') > shown.index('It is 5.')]}]]"

    [made], _, _ = work(JudgePairs(score="better"), PAIR, answer)
    score, first, second = made.scores
    assert (score.value, score.verdict.outcome) == (value, outcome)
    assert [first.name, second.name] == ["better_shown_first", "better_shown_second"]
    assert [first.value, second.value] == [float(words[0] == "A"), float(words[1] == "B")]
    assert msgspec.structs.replace(made, scores=()) == PAIR


def test_comparisons_that_say_nothing_are_measured() -> None:
    measured: list[tuple[str, int]] = []

    def measure(name: str, value: int) -> None:
        measured.append((name, value))

    for reply in ("I like both.", "[[A]]"):
        engine = ScriptedEngine(lambda _, __, reply=reply: reply)
        context = Context(engine, never, 7, measure=measure)
        asyncio.run(JudgePairs(score="better")(PAIR, context))
    assert measured == [("better without a value", 1), ("better without a value", 0)], "a tie has a value"
