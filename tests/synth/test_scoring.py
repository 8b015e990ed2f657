"""Named scores: verdicts of the recipe's verifiers, and measures, on samples and pairs."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from gristmill.core.engine import Message
from gristmill.core.errors import RecipeError
from gristmill.core.records import Pair, Problem, Sampled, Score, score_of, with_score
from gristmill.core.schema import from_frame, to_frame
from gristmill.core.stages import Context
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.scoring import Measure, MeasurePairs, Verify, VerifyPairs

SAMPLE = Sampled(
    id="p1/0",
    problem_id="p1",
    index=0,
    problem="2 + 2?",
    answer="4",
    messages=(Message("user", "2 + 2?"),),
    completion="It is 4.",
    finish_reason="stop",
    prompt_tokens=7,
    completion_tokens=5,
    meta='{"key": ["4", "four"]}',
)
PAIR = Pair(
    "p1/pair",
    "p1",
    "test",
    (Message("user", "2 + 2?"),),
    (Message("assistant", "It is 4."), Message("user", "Sure?"), Message("assistant", "Yes, 4.")),
    (Message("assistant", "It is 5."),),
    meta='{"answer": 4}',
)


async def holds(completion: str, reference: str) -> Verdict:
    right = reference in completion
    outcome = Outcome.CORRECT if right else Outcome.INCORRECT
    return Verdict(outcome, float(right), rule=f"holds {reference}", detail=completion)


async def short(completion: str, reference: str) -> Verdict:
    return Verdict(Outcome.CORRECT if len(completion) < 9 else Outcome.INCORRECT, rule=f"short{reference}")


def work(stage: Any, record: Any) -> tuple[Any, list[Verdict]]:
    counted: list[Verdict] = []
    engine = ScriptedEngine(lambda request, index: "never asked")
    context = Context(engine, holds, 7, {}, counted.append, {"short": short})
    [made] = asyncio.run(stage(record, context))
    assert engine.requests == 0
    return made, counted


def test_the_main_verifier_gives_a_sample_its_verdict() -> None:
    made, _ = work(Verify(), SAMPLE)
    assert made == replace(SAMPLE, verdict=Verdict(Outcome.CORRECT, 1.0, rule="holds 4", detail="It is 4."))


def test_verifiers_in_turn_leave_a_score_each_with_their_evidence() -> None:
    made, _ = work(Verify(score="again"), SAMPLE)
    made, _ = work(Verify(verifier="short", reference=None), made)
    assert made.verdict is None
    again, brief = made.scores
    assert (again.name, again.value, again.verdict.rule) == ("again", 1.0, "holds 4")
    assert (brief.name, brief.value, brief.verdict.rule) == ("short", None, "short")
    # The same name once more takes the place of what was there.
    wrong = replace(made, completion="It is 5, I am sure.")
    made, _ = work(Verify(verifier="short", reference=None), wrong)
    assert [s.name for s in made.scores] == ["again", "short"]
    assert made.scores[1].verdict.outcome is Outcome.INCORRECT
    assert from_frame(to_frame([made], Sampled), Sampled) == [made]


def test_a_reference_comes_from_any_column_and_a_row_without_one_is_left_as_it_is() -> None:
    made, _ = work(Verify(reference="key"), SAMPLE)
    assert made.verdict.rule == 'holds ["4","four"]'
    assert work(Verify(), replace(SAMPLE, answer=None))[0].verdict is None
    assert work(VerifyPairs(reference="other"), PAIR)[0] == PAIR


def test_a_sample_that_was_cut_off_is_unparseable_and_counted() -> None:
    made, counted = work(Verify(score="again"), replace(SAMPLE, finish_reason="length"))
    assert made.scores[0].verdict.outcome is Outcome.UNPARSEABLE
    assert counted == [made.scores[0].verdict]


def test_an_earlier_turn_can_be_judged_whatever_became_of_the_last() -> None:
    said = (Message("assistant", "It is 5."), Message("user", "Sure?"))
    two = replace(SAMPLE, messages=(*SAMPLE.messages, *said), finish_reason="length")
    made, _ = work(Verify(score="first", turns_back=1), two)
    assert score_of(made, "first") == Score(
        "first", 0.0, Verdict(Outcome.INCORRECT, 0.0, None, "holds 4", "It is 5.")
    )
    assert work(Verify(score="first", turns_back=2), two) == (two, [])


def test_both_sides_of_a_pair_are_judged() -> None:
    made, _ = work(VerifyPairs(), PAIR)
    assert [(s.name, s.value) for s in made.scores] == [("chosen_verdict", 1.0), ("rejected_verdict", 0.0)]
    assert made.scores[0].verdict.detail == "It is 4.\n\nYes, 4."
    named, _ = work(VerifyPairs(verifier="short", score="brief"), made)
    assert [s.name for s in named.scores[2:]] == ["chosen_brief", "rejected_brief"]


def test_a_stage_says_which_verifiers_it_wants_and_an_unknown_one_is_an_error() -> None:
    assert (Verify().verifiers, Verify(verifier="short").verifiers) == ((), ("short",))
    with pytest.raises(RecipeError, match=r"no verifier named 'shrt'. Did you mean 'short'?"):
        work(Verify(verifier="shrt"), SAMPLE)


def test_measures_of_a_sample() -> None:
    wanted = {w: w for w in ("characters", "words", "turns", "tokens_in", "tokens_out")}
    made, _ = work(msgspec.convert({"scores": wanted}, Measure), SAMPLE)
    assert {s.name: s.value for s in made.scores} == {
        "characters": 8,
        "words": 3,
        "turns": 2,
        "tokens_in": 7,
        "tokens_out": 5,
    }
    assert Measure(scores={"n": "words"}).estimate(SAMPLE).rows_max == 1


def test_measures_of_both_sides_of_a_pair() -> None:
    made, _ = work(MeasurePairs(scores={"length": "words", "turns": "turns"}), PAIR)
    assert {s.name: s.value for s in made.scores} == {
        "chosen_length": 5,
        "rejected_length": 3,
        "chosen_turns": 4,
        "rejected_turns": 2,
    }
    with pytest.raises(msgspec.ValidationError, match="tokens_out"):
        msgspec.convert({"scores": {"n": "tokens_out"}}, MeasurePairs)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"scores": {}}, Measure)


def test_a_score_is_found_by_its_name_and_records_without_scores_are_refused() -> None:
    made = with_score(with_score(SAMPLE, Score("a", 1.0)), Score("b", 2.0))
    assert score_of(made, "b") == Score("b", 2.0) and score_of(made, "c") is None
    assert [s.value for s in with_score(made, Score("a", 3.0)).scores] == [3.0, 2.0]
    with pytest.raises(RecipeError, match="type Problem have no scores"):
        with_score(Problem("p", "?"), Score("a", 1.0))
