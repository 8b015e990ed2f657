"""Measures of confidence: the vectors of algorithms.md, D.2, ties, empty sets, and other definitions."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.synth.refusal import measures
from gristmill.synth.refusal.measures import Level, levels
from gristmill.synth.step_values.measures import auc

# Few distinct scores, so that ties are the rule.
ROWS = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])), max_size=30)
QUICK = settings(max_examples=100, deadline=None)


def of(rows: list[tuple[bool, float]]) -> list[Level]:
    return levels([label for label, _ in rows], [score for _, score in rows])


def test_ap_of_combined_confidence_is_that_of_the_reference() -> None:
    conf, sure = (0.9, 0.8, 0.4, 0.3), (0.8, 0.2, 0.6, 0.4)
    scores = [measures.combined(c, s) for c, s in zip(conf, sure, strict=True)]
    assert scores == pytest.approx([0.85, 0.5, 0.5, 0.35])
    assert measures.average_precision(levels([1, 0, 1, 0], scores)) == pytest.approx(0.833333, abs=1e-6)


def test_ap_of_distinct_scores() -> None:
    found = levels([1, 0, 1, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.5])
    assert measures.average_precision(found) == pytest.approx(0.805556, abs=1e-6)


def test_the_geometric_mean_is_that_of_the_reference() -> None:
    mean = measures.geometric_mean([math.log(p) for p in (0.9, 0.8, 0.5)])
    assert mean == pytest.approx(0.711379, abs=1e-6)
    assert measures.geometric_mean([]) is None


def test_a_measure_of_nothing_is_none() -> None:
    nothing = levels([], [])
    for measure in (
        measures.accuracy,
        measures.average_precision,
        measures.auroc,
        measures.brier,
        measures.ece,
        measures.aurc,
    ):
        assert measure(nothing) is None
    assert measures.bins(nothing) == measures.risk_coverage(nothing) == []
    assert measures.average_precision(levels([0, 0], [0.3, 0.4])) is None
    assert measures.auroc(levels([1, 1], [0.3, 0.4])) is None


def test_a_score_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        levels([1], [math.nan])
    with pytest.raises(ValueError, match="shorter"):
        levels([1, 0], [0.5])


def test_bins_have_equal_mass_and_keep_equal_scores_together() -> None:
    found = of([(True, s / 10) for s in range(10)])
    assert [b.total for b in measures.bins(found, 5)] == [2] * 5
    tied = of([(True, 0.9)] * 7 + [(False, 0.1), (False, 0.2), (True, 0.3)])
    # 10 answers in 5 bins: 2, then 1 more by 0.3 which 0.9 must fill, all seven of it at once.
    assert [(b.low, b.high, b.total) for b in measures.bins(tied, 5)] == [(0.1, 0.2, 2), (0.3, 0.9, 8)]


def test_ece_by_hand() -> None:
    # Two bins of two: scores .2 and .4 (mean .3), one right; .8 and .9 (mean .85), both right.
    found = levels([0, 1, 1, 1], [0.2, 0.4, 0.8, 0.9])
    assert measures.ece(found, 2) == pytest.approx(0.5 * 0.2 + 0.5 * 0.15)
    assert measures.brier(found) == pytest.approx((0.04 + 0.36 + 0.04 + 0.01) / 4)


def test_aurc_by_hand_with_and_without_a_tie() -> None:
    # Errors at places 2 and 4: risks 0, 1/2, 1/3, 1/2.
    assert measures.aurc(levels([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6])) == pytest.approx(
        (1 / 2 + 1 / 3 + 1 / 2) / 4
    )
    # One level of two with one error: half an error expected in the first place.
    assert measures.aurc(levels([1, 0], [0.5, 0.5])) == pytest.approx((0.5 + 0.5) / 2)


def test_the_risk_coverage_curve_has_a_point_for_each_score() -> None:
    points = measures.risk_coverage(levels([1, 0, 1, 0], [0.9, 0.5, 0.5, 0.1]))
    assert [(p.coverage, p.score) for p in points] == [(0.25, 0.9), (0.75, 0.5), (1.0, 0.1)]
    assert [p.risk for p in points] == pytest.approx([0, 1 / 3, 1 / 2])


@QUICK
@given(ROWS, st.randoms(use_true_random=False))
def test_no_measure_depends_on_the_order_of_rows(rows: list[tuple[bool, float]], random: object) -> None:
    mixed = list(rows)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert of(rows) == of(mixed)


@QUICK
@given(ROWS)
def test_auroc_is_the_auc_over_pairs(rows: list[tuple[bool, float]]) -> None:
    right, wrong = ([s for label, s in rows if label is side] for side in (True, False))
    expected = auc(right, wrong)
    found = measures.auroc(of(rows))
    assert found == expected if expected is None else found == pytest.approx(expected)


@QUICK
@given(ROWS)
def test_measures_are_shares_and_bins_hold_everything(rows: list[tuple[bool, float]]) -> None:
    found = of(rows)
    for measure in (measures.average_precision, measures.brier, measures.ece, measures.aurc):
        value = measure(found)
        assert value is None or -1e-12 <= value <= 1 + 1e-12
    made = measures.bins(found, 4)
    assert sum(b.total for b in made) == len(rows)
    assert len(made) <= 4
    assert all(a.high < b.low for a, b in pairwise(made))


@QUICK
@given(ROWS.filter(bool))
def test_aurc_of_a_tie_is_the_mean_over_its_orders(rows: list[tuple[bool, float]]) -> None:
    import random

    # Break the ties at random many times: the mean comes close to what the tie rule gives.
    rng = random.Random(0)
    n, total, draws = len(rows), 0.0, 300
    for _ in range(draws):
        order = sorted(rows, key=lambda r: (-r[1], rng.random()))
        wrong = [not label for label, _ in order]
        total += sum(sum(wrong[:k]) / k for k in range(1, n + 1)) / n
    assert measures.aurc(of(rows)) == pytest.approx(total / draws, abs=0.06)
