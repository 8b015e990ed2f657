"""The stages that write or judge texts over passages: rationales, evidence, memories."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from rag_methods_asked import DUFF, HARROW, HELD, ISLAND, asked, by, made, meta_of, question, reason, sampled

from gristmill.core.engine import Completion, Message, Request
from gristmill.core.errors import RecipeError
from gristmill.core.records import Demonstration, Labelled, Pair, Passage, Problem
from gristmill.core.stages import Rejection
from gristmill.synth.rag_methods import EvidenceRewrites, QuestionMemory, RationaleContexts, RationaleLabels
from gristmill.synth.rag_methods.evidence import EvidenceUse, evidence_use
from gristmill.verifiers.grounding import Grounding

RULES = Grounding(citations="report")
QUOTED = "The Harrow rises below Carn Duff and flows east. Carn Duff is 731 metres high."


def json(**reply: Any) -> str:
    return msgspec.json.encode(reply).decode()


# Rationales


@pytest.mark.parametrize(
    ("text", "label", "why"),
    [
        (QUOTED, True, "supported"),
        ("The Harrow rises below Carn Duff and flows east.", False, "does not lead to the answer"),
        ("Carn Duff is 731 metres high. It was measured in 1852.", False, "a claim is unsupported"),
    ],
)
def test_a_rationale_is_wanted_if_it_is_true_and_leads_to_the_answer(
    text: str, label: bool, why: str
) -> None:
    [row] = made(RationaleLabels(), sampled(text))
    assert isinstance(row, Labelled)
    assert (row.label, meta_of(row)["why"]) == (label, why)
    assert (row.prompt[0].content, row.completion[0].content) == (question().problem, text)
    assert row.scores[0].name == "grounding" and row.scores[0].verdict is not None


def test_what_the_rules_leave_open_is_not_labelled_unless_that_is_accepted() -> None:
    text = "The hill in question reaches a height of 731 metres."
    assert reason(RationaleLabels(), sampled(text)) == "rationale_labels: the rules leave it open"
    [row] = made(RationaleLabels(accept_open=True), sampled(text))
    assert row.label and meta_of(row)["why"] == "open, and leads to the answer"


def test_a_rationale_that_is_none_has_no_label() -> None:
    stage = RationaleLabels()
    assert reason(stage, sampled(QUOTED, finish="length")) == "rationale_labels: cut off or empty"
    assert reason(stage, sampled("  ")) == "rationale_labels: cut off or empty"
    assert reason(stage, sampled("I do not know.")) == "rationale_labels: it declines"
    assert reason(stage, replace(sampled(QUOTED), answer=None)) == "rationale_labels: no reference answer"


def test_a_mixed_context_hides_the_rationale_among_the_passages() -> None:
    stage = RationaleContexts(forms=("rationale", "passages", "both"))
    rows: list[Demonstration] = made(stage, sampled("It is Carn Duff."))
    assert [row.kind for row in rows] == ["context/rationale", "context/passages", "context/both"]
    assert [len(row.turns[0].content.split("\n\n")[0].splitlines()) for row in rows] == [1, 3, 4]
    assert all((row.turns[1].content, row.turns[1].train) == ("731 metres", True) for row in rows)
    assert all(not row.turns[0].train for row in rows)
    places = {
        next(
            n
            for n, line in enumerate(
                made(RationaleContexts(), sampled("It is Carn Duff.", own=f"q/{i}"))[0]
                .turns[0]
                .content.splitlines()
            )
            if line.endswith("It is Carn Duff.")
        )
        for i in range(12)
    }
    assert len(places) > 1


def test_a_context_without_an_answer_or_a_rationale_is_rejected() -> None:
    stage = RationaleContexts()
    assert reason(stage, replace(sampled("x"), answer=" ")) == "rationale_contexts: no reference answer"
    assert reason(stage, sampled("")) == "rationale_contexts: cut off or empty"
    with pytest.raises(RecipeError, match=r"\{context\}"):
        RationaleContexts(prompt="{problem}")


# Evidence


def test_evidence_use_is_the_harmonic_mean_of_what_is_sound_and_what_is_told() -> None:
    assert EvidenceUse(1, 0.5).value == pytest.approx(2 / 3)
    assert EvidenceUse(0, 0).value == 0
    asks = question().problem
    assert evidence_use(QUOTED, [HARROW, DUFF], asks, RULES) == (1, 1)
    assert evidence_use("Carn Duff is 731 metres high.", [HARROW, DUFF], asks, RULES) == (1, 0.5)
    half = evidence_use("Carn Duff is 731 metres high. It was bought by Elam Dahl.", HELD, asks, RULES)
    assert half.sound == 0.5
    # The words of the question alone tell nothing.
    assert evidence_use("It is the hill below which the Harrow rises.", [DUFF], asks, RULES).told == 0


def test_a_rewriting_that_uses_more_evidence_makes_a_pair() -> None:
    measured: dict[str, list[int]] = {}
    seen: list[str] = []

    def says(request: Request, index: int) -> str:
        seen.append(asked(request))
        return QUOTED

    [pair] = made(EvidenceRewrites(), sampled("It is a high hill."), says, measured=measured)
    assert isinstance(pair, Pair)
    assert (pair.chosen[0].content, pair.rejected[0].content) == (QUOTED, "It is a high hill.")
    assert {s.name: s.value for s in pair.scores} == {"chosen_evidence_use": 1, "rejected_evidence_use": 0}
    assert "It is a high hill." in seen[0] and DUFF["text"] in seen[0]
    assert measured == {"evidence use gained by rewriting, in %": [100]}


def test_only_the_passages_of_the_question_have_to_be_told() -> None:
    record = sampled("It is high.", gold=["p3"])
    [pair] = made(EvidenceRewrites(), record, "Carn Duff is 731 metres high.")
    assert pair.scores[0].value == 1


@pytest.mark.parametrize(
    ("answer", "rewritten", "why"),
    [
        ("Carn Duff is 731 metres high.", "Carn Duff is 731 metres high!", "no more of the evidence is used"),
        (QUOTED, "unasked", "it uses the evidence already"),
    ],
)
def test_a_rewriting_that_gains_nothing_makes_no_pair(answer: str, rewritten: str, why: str) -> None:
    assert reason(EvidenceRewrites(), sampled(answer), rewritten) == f"evidence_rewrites: {why}"


def test_a_rewriting_that_does_not_answer_makes_no_pair() -> None:
    told = "The Harrow rises below Carn Duff and flows east."
    why = "evidence_rewrites: it does not hold the answer"
    assert reason(EvidenceRewrites(), sampled("It is high."), told) == why
    assert len(made(EvidenceRewrites(), replace(sampled("It is high."), answer=None), told)) == 1


def test_a_rewriting_that_is_none_makes_no_pair() -> None:
    stage = EvidenceRewrites()
    cut = Completion(QUOTED, "length")
    assert reason(stage, sampled("It is high."), lambda r, i: cut) == "a reply is cut off or empty"
    assert reason(stage, sampled("It is high."), "I cannot say.") == "a reply declines"
    assert reason(stage, sampled("x", finish="length")) == "evidence_rewrites: the answer is cut off or empty"
    assert stage.estimate(sampled("x", passages=[])).completions_max == 0


# Memories

PASSAGE = Passage("p3", DUFF["text"], "Carn Duff")
GOOD = {"question": "How high is Carn Duff?", "answer": "731 metres"}


def remembered(*pairs: dict[str, str], back: str = "731 metres") -> Any:
    return by(QUESTION=back, PASSAGE=json(pairs=pairs))


def test_a_question_is_remembered_if_its_answer_comes_back() -> None:
    [one] = made(QuestionMemory(), PASSAGE, remembered(GOOD, back="731 metres."))
    assert isinstance(one, Problem)
    assert (one.id, one.problem, one.answer) == ("p3/qa/0", "How high is Carn Duff?", "731 metres")
    assert meta_of(one) == {"passages": ["p3"], "title": "Carn Duff"}


@pytest.mark.parametrize(
    ("pair", "why"),
    [
        ({"question": "Carn Duff is high."}, "it asks nothing"),
        ({"answer": "812 metres"}, "the answer is not in the passage"),
        ({"answer": ""}, "the answer is not in the passage"),
        ({"question": "Is Carn Duff 731 metres high?"}, "it says its own answer"),
    ],
)
def test_a_pair_of_no_use_is_not_asked_again(pair: dict[str, str], why: str) -> None:
    def says(request: Request, index: int) -> str:
        assert "[BEGIN QUESTION" not in asked(request)
        return json(pairs=[{**GOOD, **pair}])

    assert reason(QuestionMemory(), PASSAGE, says) == f"question_memory: {why}"


@pytest.mark.parametrize(
    ("back", "why"),
    [
        ("900 metres", "another answer came back"),
        ("I do not know", "no answer came back"),
        ("", "no answer came back"),
    ],
)
def test_a_pair_that_fails_the_round_trip_is_forgotten(back: str, why: str) -> None:
    assert reason(QuestionMemory(), PASSAGE, remembered(GOOD, back=back)) == f"question_memory: {why}"


def test_pairs_are_told_apart_and_counted() -> None:
    twice = {**GOOD, "question": "how high is carn duff?"}
    found = made(QuestionMemory(count=2), PASSAGE, remembered(GOOD, twice, GOOD))
    assert [type(one) for one in found] == [Problem, Rejection]
    assert found[1].reason == "question_memory: a question is there twice"


@pytest.mark.parametrize("reply", ["", "{}", '{"pairs": []}', '{"pairs": [{"question": 1, "answer": "x"}]}'])
def test_a_memory_that_cannot_be_read_is_none(reply: str) -> None:
    assert reason(QuestionMemory(), PASSAGE, reply) == "question_memory: the reply cannot be read"


def test_another_model_may_answer_in_the_round_trip() -> None:
    assert QuestionMemory(answerer="other").uses.keys() == {"other"}
    with pytest.raises(RecipeError, match=r"\{question\}"):
        QuestionMemory(round_trip=(Message("user", "{passage}"),))
    assert ISLAND in HELD
