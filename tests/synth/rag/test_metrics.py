"""The pair rule of RAG-Reward (section E of the reference) and its metrics by rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.core.verdicts import Outcome, Verdict
from gristmill.synth.rag.metrics import (
    METRICS,
    Metric,
    PassageAnswer,
    answerable,
    by_abstention,
    by_rule,
    majority,
    read_answer,
    references_of,
)
from gristmill.verifiers.grounding import Grounding
from gristmill.verifiers.judges.base import Winner

A: Winner = "first"
B: Winner = "second"
SAID = PassageAnswer(unsupported=0, claims=1, right=0, citations=1, covered=1, words=10, abstains=False)


def voted(*winners: Winner | None, **weights: float) -> Winner:
    return majority(dict(zip(METRICS, winners, strict=True)), weights)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("winners", "wanted"),
    [
        ((A, A, B, "tie"), A),  # two of the three that are not tied
        ((A, B, "tie", "tie"), "tie"),
        ((A, A, B, B), "tie"),
        (("tie", "tie", "tie", A), A),
        (("tie", "tie", "tie", "tie"), "tie"),
        ((None, None, None, None), "tie"),
        ((None, B, "tie", None), B),
    ],
)
def test_the_majority_of_the_metrics_that_are_not_tied_wins(
    winners: tuple[Winner | None, ...], wanted: Winner
) -> None:
    assert voted(*winners) == wanted


def test_weights_count_as_they_are_written() -> None:
    assert voted(A, B, B, "tie", hallucination=3.0) == A
    assert voted(A, B, B, "tie", hallucination=0.3, comprehensiveness=0.1, verbosity=0.2) == "tie"
    assert voted(A, B, "tie", "tie", hallucination=0.0) == B


@given(st.tuples(*[st.sampled_from([A, B, "tie", None])] * 4))
def test_the_sides_are_treated_alike(winners: tuple[Winner | None, ...]) -> None:
    other: dict[Winner | None, Winner | None] = {A: B, B: A, "tie": "tie", None: None}
    swapped = voted(*(other[one] for one in winners))
    assert swapped == other[voted(*winners)]


@pytest.mark.parametrize(
    ("metric", "first", "second", "wanted"),
    [
        ("hallucination", SAID, SAID._replace(unsupported=1), A),
        ("hallucination", SAID._replace(unsupported=1), SAID._replace(unsupported=1, claims=4), "tie"),
        ("hallucination", SAID._replace(claims=0), SAID, None),  # nothing is claimed
        ("attribution", SAID._replace(right=1), SAID, A),
        ("attribution", SAID._replace(right=1, citations=2), SAID._replace(right=1), B),
        ("attribution", SAID, SAID._replace(citations=0), "tie"),
        ("comprehensiveness", SAID._replace(covered=2), SAID, A),
        ("comprehensiveness", SAID._replace(covered=None), SAID, None),
        ("verbosity", SAID, SAID._replace(words=12), A),
        ("verbosity", SAID, SAID._replace(words=11), "tie"),  # less than a fifth
        ("verbosity", SAID, SAID._replace(words=90, covered=2), "tie"),  # it tells more
        (
            "verbosity",
            SAID._replace(covered=0),
            SAID._replace(covered=0, words=90),
            "tie",
        ),  # both tell nothing
    ],
)
def test_rules_decide_only_what_they_can_tell(
    metric: Metric, first: PassageAnswer, second: PassageAnswer, wanted: Winner | None
) -> None:
    other: dict[Winner | None, Winner | None] = {A: B, B: A, "tie": "tie", None: None}
    assert by_rule(metric, first, second) == wanted
    assert by_rule(metric, second, first) == other[wanted]


def test_abstaining_wins_where_the_passages_cannot_answer_and_loses_where_they_can() -> None:
    abstains = SAID._replace(claims=0, abstains=True)
    assert by_abstention(abstains, SAID, answerable=False) == A
    assert by_abstention(SAID, abstains, answerable=False) == B
    assert by_abstention(abstains, SAID, answerable=True) == B
    assert by_abstention(SAID, SAID, answerable=False) is None
    assert by_abstention(abstains, abstains, answerable=True) is None
    assert by_abstention(abstains, SAID, answerable=None) is None


PASSAGES = '[{"source": "a", "text": "The tower is 34 metres tall. It was built by Isobel Craig."}]'


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The tower is 34 metres tall [1].", PassageAnswer(0, 1, 1, 1, 1, 7, False)),
        ("The tower is 51 metres tall [1].", PassageAnswer(1, 1, 0, 1, 0, 7, False)),
        ("The passages do not say.", PassageAnswer(0, 0, 0, 0, 0, 5, True)),
        ("I don't know.", PassageAnswer(0, 0, 0, 0, 0, 3, True)),
        # The other half of an abstention is a claim, and so it is an answer.
        ("The passages do not say, but it is 51 metres tall.", PassageAnswer(1, 1, 0, 0, 0, 11, False)),
        ("I am not sure, but it may be the tower of 34 metres.", PassageAnswer(0, 1, 0, 0, 1, 13, False)),
    ],
)
def test_an_answer_is_read_from_the_verdict_of_grounding(text: str, wanted: PassageAnswer) -> None:
    assert read_answer(text, Grounding()(text, PASSAGES), ["34 metres"]) == wanted


def test_a_verdict_without_a_report_is_not_read_as_an_answer_without_faults() -> None:
    with pytest.raises(ValueError, match="too long"):
        read_answer("x", Verdict(Outcome.UNPARSEABLE, rule="too long", detail="9 characters"), [])


def shown(**meta: object) -> dict[str, object]:
    return {"passages": [{"source": "a", "text": "The tower is 34 metres tall."}], **meta}


@pytest.mark.parametrize(
    ("meta", "references", "wanted"),
    [
        (shown(gold=["a"]), (), True),
        (shown(gold=["a", "b"]), (), False),  # one of them was not found
        (shown(gold=["b"]), ("34 metres",), True),  # another passage says it too
        (shown(gold=[]), (), False),  # no passage at all answers it
        (shown(), ("34 metres",), True),
        (shown(), ("3 metres",), None),  # it may be said in other words
        (shown(gold=["a"], answerable=False), ("34 metres",), False),
        (shown(gold=["b"], answerable=True), (), True),
    ],
)
def test_whether_the_passages_can_answer(
    meta: dict[str, object], references: tuple[str, ...], wanted: bool | None
) -> None:
    assert answerable(meta, references, "answerable") is wanted


def test_references_are_a_text_or_a_list_under_the_first_name_that_has_some() -> None:
    names = ("answers", "answer")
    assert references_of({"answers": ["9 boats", "11 boats"], "answer": "x"}, names) == (
        "9 boats",
        "11 boats",
    )
    assert references_of({"answers": [], "answer": "34 metres"}, names) == ("34 metres",)
    assert references_of({"answers": None, "answer": None}, names) == ()
