from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.shares import wilson
from gristmill.core.steps import Tally
from gristmill.synth.step_values.aggregate import RULES, Rule, aggregate, best_of_n
from gristmill.synth.step_values.values import (
    advantages,
    best_of_k,
    effective_reward,
    er_prm,
    hard,
    rest_value,
    rest_weight,
    soft,
)

ETAS = (-10, -2, -1, 0, 1, 2, 10)
TABLE = {
    Tally(4, 16): (0.028767, 0.121779, 0.172011, 0.25, 0.357374, 0.477229, 0.861384),
    Tally(8, 16): (0.069310, 0.283110, 0.379885, 0.5, 0.620115, 0.716890, 0.930690),
    Tally(12, 16): (0.138616, 0.522771, 0.642626, 0.75, 0.827989, 0.878221, 0.971233),
    Tally(1, 16): (0.006454, None, 0.040309, 0.0625, 0.102008, None, 0.722809),
}
ALL_ETAS = st.floats(-1e6, 1e6) | st.sampled_from([0.0, math.inf, -math.inf, 1e-9, -1e-7, 5e-324, 1.7e308])


def near(value: float) -> object:
    return pytest.approx(value, abs=5.1e-7)


@pytest.mark.parametrize("counts", TABLE)
def test_er_prm_table_of_b1(counts: Tally) -> None:
    for eta, value in zip(ETAS, TABLE[counts], strict=True):
        if value is not None:
            assert er_prm(counts, eta) == near(value)
            assert er_prm([1.0] * counts.correct + [0.0] * (counts.decided - counts.correct), eta) == near(
                value
            )


def test_general_rewards_and_great_etas() -> None:
    rewards = [0.2, 0.9, 0.5]
    assert [er_prm(rewards, eta) for eta in (1, -1, 0)] == [near(v) for v in (0.574688, 0.493296, 0.533333)]
    assert er_prm(Tally(1, 2), 1000) == near(0.999307)
    assert er_prm(Tally(1, 2), -1000) == near(1 - 0.999307)
    with pytest.raises(OverflowError):
        math.exp(1000)  # what the formula as printed would do
    assert (er_prm(rewards, math.inf), er_prm(rewards, -math.inf)) == (0.9, 0.2)


def test_hard_and_soft_are_the_end_and_the_middle_of_the_family() -> None:
    counts = Tally(4, 16)
    assert (hard(counts), soft(counts)) == (1.0, 0.25)
    assert (er_prm(counts, math.inf), er_prm(counts, 0), er_prm(counts, -math.inf)) == (1.0, 0.25, 0.0)
    assert (hard(Tally(0, 16)), hard(Tally(16, 16)), er_prm(Tally(16, 16), -math.inf)) == (0.0, 1.0, 1.0)


@settings(max_examples=150)
@given(st.integers(0, 20), st.integers(0, 20), ALL_ETAS)
def test_er_prm_properties(right: int, wrong: int, eta: float) -> None:
    if right + wrong == 0:
        return
    value = er_prm(Tally(right, right + wrong), eta)
    assert 0 <= value <= 1 and math.copysign(1, value) == 1
    # Symmetry: V_eta(p) + V_-eta(1 - p) = 1.
    assert value + er_prm(Tally(wrong, right + wrong), -eta) == pytest.approx(1, abs=1e-9)
    mean = right / (right + wrong)
    assert value >= mean - 1e-12 if eta >= 0 else value <= mean + 1e-12
    assert er_prm(Tally(right + 1, right + wrong + 1), eta) >= value - 1e-12
    if abs(eta) < 1e5:
        assert er_prm(Tally(right, right + wrong), eta + 1) >= value - 1e-12


def test_no_value_is_minus_zero() -> None:
    assert {math.copysign(1, er_prm(Tally(0, 4), eta)) for eta in (-1, -5, 5, -math.inf)} == {1}
    assert math.copysign(1, best_of_k(0, 4)) == 1


def test_small_etas_keep_their_digits() -> None:
    # V = p + eta p (1 - p) / 2 + O(eta^2); a plain quotient is wrong in the eighth digit here.
    for eta in (1e-7, -1e-7, 1e-5):
        assert er_prm(Tally(1, 4), eta) == pytest.approx(0.25 + eta * 0.09375, abs=1e-11)


@pytest.mark.parametrize(
    "evidence", [Tally(), Tally(3, 2), Tally(-1, 2), [], [0.5, 1.5], [-0.5], [math.nan], [math.inf]]
)
def test_what_is_no_evidence_is_refused(evidence: Tally | list[float]) -> None:
    with pytest.raises(ValueError):
        er_prm(evidence, 1)
    with pytest.raises(ValueError):
        soft(evidence)
    with pytest.raises(ValueError, match="eta"):
        er_prm(Tally(1, 2), math.nan)


def test_wilson_intervals() -> None:
    assert wilson(3, 8) == (near(0.136844), near(0.694258))
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 8)[0] == 0.0 and wilson(8, 8)[1] == 1.0
    low, high = wilson(0, 16)
    assert 1 - high == pytest.approx(wilson(16, 16)[0]) and low == 0
    assert wilson(3, 8, 0.99)[0] < wilson(3, 8)[0] < wilson(30, 80)[0] < 0.375
    for wrong in ((3, 2, 0.9), (-1, 2, 0.9), (1, 2, 1.0), (1, 2, 0.0)):
        with pytest.raises(ValueError):
            wilson(*wrong)


def test_pav_vectors() -> None:
    before, after = best_of_k(0.3, 4), best_of_k(0.5, 4)
    assert (before, after) == (near(0.7599), near(0.9375))
    [advantage] = advantages(before, [after])
    assert advantage == near(0.1776)
    assert effective_reward(0.5, advantage, 0.5) == near(0.5888)
    assert advantages(best_of_k(0.3, 32), [best_of_k(0.5, 32)])[0] == near(0.000011)
    for parent, children, gains in ((0.6, (0.55, 0.5, 0.7), (-0.05, -0.1, 0.1)),
                                    (0.3, (0.5, 0.35, 0.25), (0.2, 0.05, -0.05))):  # fmt: skip
        assert [advantages(parent, [c])[0] for c in children] == pytest.approx(gains)
    assert advantages(0.6, [0.55, 0.7]) == pytest.approx([-0.05, 0.15])  # a chain, not siblings
    assert (best_of_k(0, 4), best_of_k(1, 4)) == (0, 1)
    assert best_of_k(0.25, 1) == pytest.approx(0.25)
    with pytest.raises(ValueError):
        best_of_k(1.1, 4)


def test_rest_mcts_vectors() -> None:
    assert (rest_value(0, 2, 0), rest_value(1 / 3, 1, 0), rest_value(2 / 3, 0, 0)) == near((1 / 3, 2 / 3, 1))
    assert rest_value(1 / 3, 1, 1) == 0
    assert rest_value(0.5, 1, 0.25) == near(0.625)
    assert rest_value(2 / 3, 0, 1) == near(0.333333)
    assert rest_value(0.8, 3, 1) == near(0.75)
    assert rest_weight(0.5, 1, 0.25) == near(0.125)
    for wrong in ((0.5, -1, 0.0), (0.5, 1, 1.5)):
        with pytest.raises(ValueError):
            rest_weight(*wrong)


@given(st.floats(0, 1), st.integers(0, 30), st.booleans())
def test_rest_value_is_the_form_of_the_code_and_stays_in_range(before: float, m: int, right: bool) -> None:
    code = max(0.0, before + (1 - before) * (1 if right else -1) / (m + 1))
    value = rest_value(before, m, 0 if right else 1)
    assert value == pytest.approx(code) and 0 <= value <= 1 + 1e-12
    assert (value >= before) if right else (value <= before)


def test_aggregates_of_b4() -> None:
    values = [0.9, 0.6, 0.95]
    assert [
        aggregate(values, rule) for rule in ("min", "last", "product", "mean", "geometric", "logits")
    ] == [near(v) for v in (0.6, 0.95, 0.513, 0.816667, 0.80052, 5.547129)]


def test_no_step_has_the_lowest_score() -> None:
    assert [aggregate([], rule) for rule in RULES] == [0, 0, 0, 0, 0, -math.inf]
    for rule in RULES:
        assert best_of_n([[], [0.01]], rule) == 1


def test_ties_go_to_the_first_and_nothing_is_no_choice() -> None:
    for rule in RULES:
        assert best_of_n([[0.2], [0.7], [0.7]], rule) == 1
        with pytest.raises(ValueError, match="no solution"):
            best_of_n([], rule)
        with pytest.raises(ValueError, match="in \\[0, 1\\]"):
            best_of_n([[1.2]], rule)
    # Rules differ: one bad step, a bad end, or a long way.
    solutions = [[0.1, 0.9, 0.9], [0.6, 0.6, 0.3], [0.5, 0.5, 0.5]]
    chosen: dict[Rule, int] = {rule: best_of_n(solutions, rule) for rule in RULES}
    assert chosen == {"min": 2, "last": 0, "product": 2, "mean": 0, "geometric": 2, "logits": 0}


def test_long_solutions_and_sure_steps_stay_comparable() -> None:
    assert aggregate([0.1] * 5000, "product") == 0
    assert best_of_n([[0.1] * 5000, [0.2] * 5000], "product") == 1
    assert aggregate([0.1] * 5000, "geometric") == pytest.approx(0.1)
    assert (aggregate([0.0, 1.0], "geometric"), aggregate([0.0, 1.0], "product")) == (0, 0)
    assert math.isfinite(aggregate([1.0, 0.0], "logits")) and aggregate([1.0, 0.0], "logits") == near(0)
    assert Fraction(aggregate([1.0] * 3, "logits")) > Fraction(aggregate([1.0] * 2, "logits"))
