"""Systems side by side: what counts as an answer, which questions count, and the paired bootstrap."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from gristmill.core.errors import RecipeError
from gristmill.core.knowledge import Response
from gristmill.core.shares import wilson
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.synth.refusal.compare import METRICS, Rule, answered, compare, measure, scores

RIGHT, WRONG = Verdict(Outcome.CORRECT, 1.0), Verdict(Outcome.INCORRECT, 0.0)
LOST = Verdict(Outcome.TIMEOUT)


def said(
    name: str,
    right: bool = True,
    sure: float | None = None,
    confidence: float | None = 0.5,
    *,
    refused: bool = False,
    known: bool | None = None,
    text: str = "x",
) -> Response:
    verdict = RIGHT if right else WRONG
    return Response(name, "q", "a", "{}", text, verdict, refused, confidence, sure, None, known)


# The reference's vector: AP .833333, two answered (.8 and .6), both right.
VECTOR = [
    said("a", True, 0.8, 0.9),
    said("b", False, 0.2, 0.8),
    said("c", True, 0.6, 0.4),
    said("d", False, 0.4, 0.3),
]


def test_a_response_without_a_confidence_has_no_score_where_others_have_one() -> None:
    without = said("a", confidence=None, sure=0.9)
    assert scores([without, said("b", confidence=0.5, sure=0.9)]) == [None, pytest.approx(0.7)]
    assert scores([without]) == [0.9]


def test_the_vector_of_the_reference_through_responses() -> None:
    found = measure(VECTOR)
    assert scores(VECTOR) == pytest.approx([0.85, 0.5, 0.5, 0.35])
    assert found.values["ap"] == pytest.approx(0.833333, abs=1e-6)
    assert (found.values["accuracy"], found.values["accuracy_all"], found.values["refusal_rate"]) == (
        1,
        0.5,
        0.5,
    )
    assert set(found.values) == set(METRICS)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("any", [True, False, False, True]),
        ("sure", [True, False, False, False]),
        ("text", [True, True, False, True]),
        ("none", [True, True, True, True]),
    ],
)
def test_what_counts_as_an_answer(rule: Rule, expected: list[bool]) -> None:
    # Just above a half; a half, which is not above it; refused in words; not asked.
    responses = [said("a", sure=0.5001), said("b", sure=0.5), said("c", refused=True), said("d")]
    assert [answered(r, rule) for r in responses] == expected


def test_over_refusal_is_told_of_known_questions_and_refusal_of_unknown_ones() -> None:
    responses = [
        said("a", sure=0.9, known=True),
        said("b", sure=0.1, known=True),
        said("c", sure=0.9, known=True),
        said("d", False, sure=0.1, known=False),
        said("e", False, sure=0.2),
    ]
    found = measure(responses)
    assert (found.known, found.unknown) == (3, 1)
    assert found.values["willingness"] == pytest.approx(2 / 3)
    assert found.values["declined_unknown"] == 1


def test_a_measure_of_nothing_is_none_and_never_a_division_by_zero() -> None:
    found = measure([said("a", False, sure=0.1, refused=True)])
    assert found.values["accuracy"] is None
    assert found.values["willingness"] is None
    assert found.values["ap"] is None
    assert found.scored == 0


def test_an_answer_that_declines_in_words_has_no_score_and_an_empty_one_has_0_and_is_counted() -> None:
    responses = [said("a", refused=True), said("b", False, confidence=0.0, text=" "), said("c", sure=0.8)]
    assert scores(responses) == [None, 0.0, pytest.approx(0.65)]
    found = measure(responses)
    assert (found.refused, found.empty, found.unread, found.scored) == (1, 1, 2, 2)


def test_where_only_one_probability_was_asked_for_it_is_the_score_alone() -> None:
    assert scores([said("a", confidence=0.9), said("b", confidence=0.1)]) == [0.9, 0.1]
    assert scores([said("a", sure=0.7, confidence=None)]) == [0.7]
    assert scores(VECTOR, "sure") == [0.8, 0.2, 0.6, 0.4]
    assert scores(VECTOR, "stated") == [None] * 4


def test_only_questions_that_all_have_a_verdict_on_count() -> None:
    before = [said("a"), said("b"), said("c"), said("only before")]
    after = [said("a"), replace(said("b"), verdict=LOST), said("c", False)]
    found = compare({"before": before, "after": after}, draws=10)
    assert (found.questions, found.left_out) == (2, {"missing": 1, "undecided": 1})
    with pytest.raises(RecipeError, match="no question on which each"):
        compare({"before": [said("a")], "after": [said("b")]})
    with pytest.raises(RecipeError, match="no system"):
        compare({})


def test_an_answer_that_cannot_be_read_is_decided_and_wrong() -> None:
    unread = replace(said("b"), verdict=Verdict(Outcome.UNPARSEABLE))
    assert compare({"one": [said("a"), unread]}, draws=5).systems[0].measures.values["accuracy"] == 0.5


def test_what_is_known_of_a_question_holds_for_all_systems() -> None:
    found = compare({"before": [said("a", known=True), said("b")], "after": [said("b"), said("a")]}, draws=5)
    assert [s.measures.known for s in found.systems] == [1, 1]


def test_a_change_is_paired_so_that_equal_systems_do_not_differ_in_any_draw() -> None:
    found = compare({"before": VECTOR, "after": list(reversed(VECTOR))}, draws=200)
    changes = {c.metric: c for c in found.changes["after"]}
    for name in ("accuracy_all", "refusal_rate", "brier", "aurc"):
        assert (changes[name].value, changes[name].interval) == (0, (0, 0))


def test_the_change_and_its_interval_by_hand() -> None:
    before = [said(str(i), i % 2 == 0) for i in range(100)]
    after = [said(str(i), True, 0.9 if i % 2 == 0 else 0.1) for i in range(100)]
    found = compare({"before": before, "after": after}, draws=500)
    change = next(c for c in found.changes["after"] if c.metric == "accuracy_all")
    assert change.value == 0.5
    assert change.interval is not None
    low, high = change.interval
    # The standard error is .05: 1.96 of them on either side, as far as 500 draws tell.
    assert low == pytest.approx(0.4, abs=0.03)
    assert high == pytest.approx(0.6, abs=0.03)


def test_same_seed_same_numbers_and_another_order_of_rows_changes_no_measure() -> None:
    assert compare({"a": VECTOR}, draws=50, seed=1) == compare({"a": VECTOR}, draws=50, seed=1)
    assert measure(VECTOR) == measure(list(reversed(VECTOR)))


def test_there_is_no_interval_where_most_draws_have_no_value() -> None:
    # One answer in fifty: a draw misses it with probability 0.36 and has a value else; of none there is none.
    found = compare({"a": [said(str(i), sure=0.1) for i in range(50)]}, draws=50)
    assert found.systems[0].intervals["accuracy"] is None
    assert found.systems[0].intervals["accuracy_all"] == wilson(50, 50)
    assert found.systems[0].intervals["ap"] is None, "all are right: there is no width to go by"


@pytest.mark.parametrize("power", [1, 2])
def test_intervals_hold_the_truth_and_the_ece_has_none(power: int) -> None:
    """A calibrated system and one that is too sure; the whole table is in benchmarks/interval_coverage.py."""
    rng = random.Random(power)

    def drawn(count: int) -> list[Response]:
        scores = [rng.random() for _ in range(count)]
        return [said(str(i), right=rng.random() < s**power, confidence=s) for i, s in enumerate(scores)]

    truth = compare({"a": drawn(20_000)}, draws=1).systems[0].measures.values
    held = dict.fromkeys(("accuracy", "ap", "auroc"), 0)
    for run in range(80):
        intervals = compare({"a": drawn(60)}, draws=60, seed=run).systems[0].intervals
        assert intervals["ece"] is None
        for name in held:
            low, high = intervals[name] or (1.0, 0.0)
            held[name] += low <= (truth[name] or 0) <= high
    assert all(count >= 70 for count in held.values()), held  # 76 of 80 expected; 70 with a chance of .005
