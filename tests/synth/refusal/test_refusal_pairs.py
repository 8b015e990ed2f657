"""Refusal preference pairs, and confidence in words with its calibration pairs."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.engine import Completion, Message, Request
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.knowledge import Certainty, Knowledge
from gristmill.core.records import Demonstration, Judged, Pair, Problem
from gristmill.core.shares import wilson
from gristmill.core.stages import Context, Rejection
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.refusal.calibration import (
    ConfidencePairs,
    VerbalisedConfidence,
    level_of,
    stated_confidence,
    with_confidence,
    without_confidence,
)
from gristmill.synth.refusal.evidence import declines, sampled
from gristmill.synth.refusal.forms import Form
from gristmill.synth.refusal.pairs import RefusalPairs
from gristmill.synth.refusal.probe import ProbeKnowledge
from gristmill.synth.refusal.texts import REFUSALS, STATE_CONFIDENCE

RIGHT, WRONG = Verdict(Outcome.CORRECT, 1.0), Verdict(Outcome.INCORRECT, 0.0)


async def contains(completion: str, reference: str) -> Verdict:
    return RIGHT if reference in completion else WRONG


def certainty(right: int, of: int = 10, **changes: Any) -> Certainty:
    low, high = wilson(right, of)
    base: dict[str, Any] = {
        "id": "q1",
        "problem": "Capital of France?",
        "answer": "Paris",
        "meta": "{}",
        "greedy": None,
        "greedy_correct": None,
        "majority": "Paris" if 2 * right > of else "Lyon",
        "share": max(right, of - right) / of if of else 0.0,
        "classes": (*[0] * max(right, of - right), *[1] * min(right, of - right)),
        "entropy": 0.5,
        "correct": right,
        "decided": of,
        "low": low,
        "high": high,
        "certain": "sure" if 2 * right > of else "unsure",
        "part": "train",
    }
    return Certainty(**{**base, **changes})


def run(stage: Any, record: Any, seed: int = 7, engine: Any = None) -> list[Any]:
    scripted = engine or ScriptedEngine(lambda request, index: "")
    return list(asyncio.run(stage(record, Context(scripted, contains, seed))))


def sides(pair: Pair) -> tuple[str, str]:
    assert len(pair.chosen) == len(pair.rejected) == 1
    return pair.chosen[0].content, pair.rejected[0].content


def test_a_refusal_wins_over_a_wrong_answer_and_loses_to_a_right_one() -> None:
    [unknown] = run(RefusalPairs(), certainty(0))
    chosen, rejected = sides(unknown)
    assert chosen in REFUSALS
    assert (rejected, unknown.kind) == ("Lyon.", "refusal over wrong")
    [known] = run(RefusalPairs(), certainty(10))
    assert sides(known) == ("Paris.", chosen)
    assert known.kind == "right over refusal"
    assert known.prompt == (Message("user", "Capital of France?"),)


@pytest.mark.parametrize(
    ("right", "paired"), [(0, True), (1, True), (2, False), (5, False), (8, False), (9, True)]
)
def test_pairs_are_made_only_where_the_interval_bears_the_label_out(right: int, paired: bool) -> None:
    # Wilson at 95 %: 1 of 10 is .018 to .404, 2 of 10 .057 to .510, 8 of 10 .490 to .943.
    record = certainty(right, greedy="Lyon", greedy_correct=False)
    [made] = run(RefusalPairs(), record)
    assert isinstance(made, Pair) is paired
    if not paired:
        assert made.reason == "no pair: the interval does not bear the label out"
    assert isinstance(run(RefusalPairs(evidence="label"), record)[0], Pair)


def test_no_verdict_at_all_is_no_evidence() -> None:
    [made] = run(RefusalPairs(), certainty(0, of=0))
    assert isinstance(made, Rejection)
    [made] = run(RefusalPairs(evidence="label"), certainty(0, of=0))
    assert made == Rejection("q1", "no pair: no answer known to be wrong")


def test_the_most_frequent_answer_is_wrong_only_if_no_sample_is_right() -> None:
    [made] = run(RefusalPairs(), certainty(1))
    assert made == Rejection("q1", "no pair: no answer known to be wrong")


def test_a_greedy_answer_that_declines_is_no_wrong_answer() -> None:
    record = certainty(1, greedy="I don't know", greedy_correct=False)
    [made] = run(RefusalPairs(), record)
    assert made == Rejection("q1", "no pair: no answer known to be wrong")


def test_held_out_questions_are_never_paired() -> None:
    for stage in (RefusalPairs(), ConfidencePairs(), VerbalisedConfidence()):
        [made] = run(stage, certainty(0, part="test"))
        assert made == Rejection("q1", "not of the parts wanted: test")


def test_a_pair_has_no_plain_form() -> None:
    for stage in (RefusalPairs, ConfidencePairs, VerbalisedConfidence):
        with pytest.raises(RecipeError, match="no plain form"):
            stage(form=Form(kind="plain"))


def test_samples_come_from_the_very_requests_of_the_probe() -> None:
    """One set of samples, in the completion log, serves the split and the pairs."""
    asked: list[tuple[Request, int]] = []

    def answer(request: Request, index: int) -> str:
        asked.append((request, index))
        return ("Lyon", "Nice", "Lyon", "I do not know.", "Paris")[index % 5]

    engine = ScriptedEngine(answer)
    probe = ProbeKnowledge(samples=5)
    record = certainty(1, of=5)
    [before] = run(probe, Problem("q1", "Capital of France?", "Paris"), engine=engine)
    first = asked.copy()
    made = run(RefusalPairs(probe=probe, evidence="label", limit=9), record, engine=engine)
    assert asked == [*first, *first]
    assert [sides(p)[1] for p in made] == ["Lyon", "Nice"]
    assert [p.id for p in made] == ["q1/refusal/0", "q1/refusal/1"]
    [limited] = run(RefusalPairs(probe=probe, evidence="label"), record, engine=engine)
    assert sides(limited)[1] == "Lyon"
    assert sampled(before).right == ("Paris",)
    assert RefusalPairs(probe=probe).needs == probe.needs
    assert not RefusalPairs().needs


def test_cut_off_and_undecided_samples_are_neither_right_nor_wrong() -> None:
    drawn = (
        Judged(Completion("Paris", "length"), RIGHT),
        Judged(Completion("Rome"), Verdict(Outcome.TIMEOUT)),
        Judged(Completion("Oslo"), Verdict(Outcome.UNPARSEABLE)),
        Judged(Completion(" Nice "), WRONG),
        Judged(Completion("Both"), WRONG),
        Judged(Completion("Both"), RIGHT),
    )
    found = sampled(Knowledge("q", "?", "Paris", "{}", (), None, drawn))
    assert (found.right, found.wrong) == ((), ("Nice",))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("I don't know.", True),
        ("Sorry, I do not know who that is.", True),
        ("I'm not sure what that is.", True),
        ("Hm. I have no idea, really.", True),
        ("I can't say.", True),
        ("I cannot help with that.", True),
        ("I would have to make something up.", True),
        ("Sorry, I'd only be guessing.", True),
        ("I would guess that it is Paris.", False),
        ("I would make up a list first: Paris, Rome.", False),
        ("Paris.", False),
        ("He did not know that I do.", False),
        ("I know it: Paris.", False),
        ("The song is called I Don't Care.", False),
        ("x" * 500 + " I don't know", False),
        ("", False),
    ],
)
def test_what_declines(text: str, says: bool) -> None:
    assert declines(text) is says


def test_given_sentences_are_found_as_whole_words() -> None:
    assert declines("  pass, sorry", ("Pass.",))
    assert not declines("Passau.", ("Pass.",))
    assert not declines("Paris.", (".", ""))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Paris.\nConfidence: 7", 0.7),
        ("Paris.\nConfidence: 7.", 0.7),
        ("Paris. Confidence: 10", 1.0),
        ("Paris.\n**Confidence:** 8/10", 0.8),
        ("Paris.\n**Confidence**: 8 out of 10.", 0.8),
        ("Paris.\nConfidence level: 85%", 0.85),
        ("Paris (confidence: 0)", 0.0),
        ("Confidence: 3\nNo, Rome.\nconfidence = 4.5", 0.45),
        ("Paris.\nConfidence: 11", None),
        ("Paris.\nConfidence: 120%", None),
        ("Paris.\nConfidence: 1234", None),
        ("Paris.\nConfidence: -3", None),
        ("Paris.\nConfidence: 0/0", None),
        ("Paris.\nConfidence: high", None),
        ("I lack confidence: 3 people doubt it.", None),
        ("Overconfidence: 7", None),
        ("", None),
    ],
)
def test_a_stated_confidence_is_read_or_is_none(text: str, value: float | None) -> None:
    found = stated_confidence(text)
    assert found == (None if value is None else pytest.approx(value))


def test_the_answer_is_read_without_its_confidence() -> None:
    assert without_confidence("Paris.\nConfidence: 7") == "Paris."
    assert without_confidence("Paris. Confidence: 7") == "Paris."
    assert without_confidence("Confidence: 7\nParis") == "Paris"
    assert without_confidence(" Paris ") == "Paris"


@given(st.text(max_size=60), st.integers(0, 10))
@settings(max_examples=100)
def test_what_is_written_is_read_back(answer: str, level: int) -> None:
    assert stated_confidence(with_confidence(answer, level)) == level / 10


def test_levels_are_rounded_in_integers_halves_up() -> None:
    assert [level_of(c, 4) for c in range(5)] == [0, 3, 5, 8, 10]
    assert [level_of(c, 20) for c in (1, 3, 19)] == [1, 2, 10]


def test_verbalised_confidence_is_what_the_samples_bear_out() -> None:
    [made] = run(VerbalisedConfidence(), certainty(3))
    assert [(t.role, t.content, t.train) for t in made.turns] == [
        ("system", STATE_CONFIDENCE, False),
        ("user", "Capital of France?", False),
        ("assistant", "Paris.\nConfidence: 3", True),
    ]
    [own] = run(VerbalisedConfidence(confidence="agreement"), certainty(3))
    assert own.turns[-1].content == "Lyon.\nConfidence: 7"
    # Answers that could not be read are in no class, but they are samples: 2 of 6 agree.
    unread = certainty(3, classes=(-1, -1, -1, 0, 0, 1))
    [own] = run(VerbalisedConfidence(confidence="agreement"), unread)
    assert own.turns[-1].content == "Lyon.\nConfidence: 3"
    [number] = run(VerbalisedConfidence(loss="confidence"), certainty(3))
    [span] = number.turns[-1].spans
    assert number.turns[-1].content[span.start : span.end] == "Confidence: 3"
    assert isinstance(made, Demonstration)
    with pytest.raises(RowRejected, match="decided"):
        run(VerbalisedConfidence(), certainty(0, of=0))
    with pytest.raises(RowRejected, match="majority"):
        run(VerbalisedConfidence(confidence="agreement"), certainty(3, majority=None))


def test_calibration_pairs_differ_in_the_number_alone() -> None:
    record = certainty(4, greedy="Lyon", greedy_correct=False)
    right, wrong = run(ConfidencePairs(), record)
    for pair, answer, higher in ((right, "Paris.", True), (wrong, "Lyon.", False)):
        chosen, rejected = sides(pair)
        assert without_confidence(chosen) == without_confidence(rejected) == answer
        first, second = stated_confidence(chosen), stated_confidence(rejected)
        assert first is not None and second is not None
        assert (first >= 0.7 and second <= 0.3) if higher else (first <= 0.3 and second >= 0.7)
    assert right.kind == "confidence of a right answer"
    assert wrong.kind == "confidence of a wrong answer"
    assert right.prompt[0] == Message("system", STATE_CONFIDENCE)


def test_the_numbers_are_drawn_over_both_ranges_by_seed() -> None:
    def drawn(name: str, seed: int) -> tuple[str, str]:
        return sides(run(ConfidencePairs(), certainty(10, id=name), seed)[0])

    names = [f"q{i}" for i in range(300)]
    found = {drawn(name, 1) for name in names}
    every = itertools.product(range(7, 11), range(4))
    assert found == {(f"Paris.\nConfidence: {high}", f"Paris.\nConfidence: {low}") for high, low in every}
    assert [drawn(n, 1) for n in names[:50]] == [drawn(n, 1) for n in names[:50]]
    assert [drawn(n, 1) for n in names[:50]] != [drawn(n, 2) for n in names[:50]]


def test_ranges_that_meet_are_refused() -> None:
    with pytest.raises(RecipeError, match="not apart"):
        ConfidencePairs(high=(3, 10), low=(0, 3))
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"high": [7, 11]}, ConfidencePairs)
