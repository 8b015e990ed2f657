"""The formulas of curation, by the numbers of their papers, and the defects that were published."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.filters.preferences.agreement import jensen_shannon, kullback_leibler, widest
from gristmill.filters.preferences.conditioning import goal_reward
from gristmill.filters.preferences.consistency import rank_consistency
from gristmill.filters.preferences.strength import mean_and_spread
from gristmill.filters.preferences.uncertainty import disagreement, label_noise, sampling_weights
from gristmill.synth.tree_search.pairs import conservative_loss

CURRENT, PREVIOUS = np.array([0.9, 0.5, 0.1, 0.3, 0.7]), np.array([0.8, 0.6, 0.2, 0.1, 0.4])


def test_divergences_of_two_internal_judges() -> None:
    p, q = np.array(0.8), np.array(0.65)
    assert kullback_leibler(p, q) == pytest.approx(0.054188, abs=1e-6)
    assert kullback_leibler(p, q) + kullback_leibler(q, p) == pytest.approx(0.115088, abs=1e-6)
    assert jensen_shannon(p, q) == pytest.approx(0.014244, abs=1e-6)
    assert jensen_shannon(np.array(0.0), np.array(1.0)) == pytest.approx(math.log(2))
    assert jensen_shannon(np.array(1.0), np.array(1.0)) == 0


def test_the_widest_divergence_is_that_of_any_two() -> None:
    p = np.array([[0.2, 0.9], [0.5, 0.8], [0.7, 0.9]])
    pairs = [jensen_shannon(p[i], p[j]) for i in range(3) for j in range(3)]
    assert np.max(pairs, axis=0) == pytest.approx(widest(p))


def test_ranking_consistency() -> None:
    assert rank_consistency(CURRENT, PREVIOUS) == pytest.approx(0.8)
    assert rank_consistency(CURRENT, PREVIOUS, "spearman") == pytest.approx(0.9)
    assert rank_consistency(CURRENT, PREVIOUS, "top_order") == 0, "the worst answers differ"


def test_top_order_compares_the_best_and_the_worst_not_the_first_and_the_last() -> None:
    first, second = np.array([0.5, 0.9, 0.1, 0.4]), np.array([0.2, 0.8, 0.1, 0.7])
    assert rank_consistency(first, second, "top_order") == 1
    assert rank_consistency(first, np.array([0.2, 0.8, 0.1, 0.8]), "top_order") == 0, (
        "two share the best place"
    )


@pytest.mark.parametrize("measure", ["kendall", "spearman"])
def test_a_list_of_ties_ranks_nothing(measure: str) -> None:
    assert rank_consistency(np.ones(3), np.array([3.0, 2.0, 1.0]), measure) == 0.5  # type: ignore[arg-type]


def test_ties_do_not_inflate_agreement() -> None:
    """Kendall's tau-b of [1, 1, 2] and [1, 2, 3] is 2 / sqrt(2 * 3)."""
    tied = rank_consistency(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]))
    assert tied == pytest.approx((2 / math.sqrt(6) + 1) / 2)
    assert tied < 1


@given(st.lists(st.integers(0, 4), min_size=2, max_size=7), st.randoms(use_true_random=False))
def test_consistency_does_not_depend_on_the_order_of_the_answers(first: list[int], rng: object) -> None:
    second = [(7 * x + i) % 5 for i, x in enumerate(first)]
    order = list(range(len(first)))
    rng.shuffle(order)  # type: ignore[attr-defined]
    a, b = np.array(first, float), np.array(second, float)
    for measure in ("kendall", "spearman", "top_order"):
        whole = rank_consistency(a, b, measure)  # type: ignore[arg-type]
        assert 0 <= whole <= 1 + 1e-12
        assert whole == pytest.approx(rank_consistency(a[order], b[order], measure))  # type: ignore[arg-type]
        assert whole == pytest.approx(rank_consistency(b, a, measure))  # type: ignore[arg-type]


def test_the_loss_of_soft_labels_and_its_minimum() -> None:
    assert conservative_loss(0.5, 1 - 0.8, 1.0) == pytest.approx(0.574077, abs=1e-6)
    assert conservative_loss(0.0, 0.5, 1.0) == pytest.approx(0.693147, abs=1e-6)
    best = math.log(0.8 / 0.2)
    assert best == pytest.approx(1.386294, abs=1e-6)
    assert conservative_loss(best, 0.2, 1.0) < min(
        conservative_loss(best + d, 0.2, 1.0) for d in (-0.01, 0.01)
    )


def test_doubt_weights_and_repaired_label_noise() -> None:
    passes = np.array([[0.9, 0.99], [0.8, 0.02], [0.7, 0.9], [0.95, 0.1]])
    assert passes.mean(axis=0) == pytest.approx([0.8375, 0.5025])
    doubt = disagreement(passes)
    assert doubt == pytest.approx([0.035076, 0.492083], abs=1e-6)
    assert sampling_weights(doubt) / 2 == pytest.approx([0.655145, 0.344855], abs=1e-6)
    assert label_noise(doubt) == pytest.approx([0.025302, 0.354963], abs=1e-6)
    assert conservative_loss(0.5, 0.025302, 1.0) == pytest.approx(0.486728, abs=1e-6)


def test_the_printed_label_noise_would_turn_every_label_round_and_is_not_ours() -> None:
    shares = sampling_weights(np.full(1000, 0.1)) / 1000
    assert 1 / (shares[0] + 1) == pytest.approx(0.999001, abs=1e-6)
    assert 1 / (np.array([0.655145, 0.344855]) + 1) == pytest.approx([0.604177, 0.743574], abs=1e-6)
    assert label_noise(np.array([0.0, math.log(2)])).tolist() == [0.0, 0.5]


def test_strength_of_an_ensemble_and_its_losses() -> None:
    mean, spread = mean_and_spread(np.array([[1.2], [0.8], [-0.1], [0.9], [0.7]]))
    assert mean[0] == pytest.approx(0.7)
    assert spread[0] == pytest.approx(0.43359, abs=1e-5)
    assert conservative_loss(1.5 - 0.7, 0.0, 1.0) == pytest.approx(0.371101, abs=1e-6), "the margin is inside"
    assert conservative_loss(1.5, 0.1, 1.0) == pytest.approx(0.351413, abs=1e-6)


def test_losses_that_exports_are_for() -> None:
    assert conservative_loss(0.6 + 0.4, 0.0, 0.1) == pytest.approx(0.644397, abs=1e-6), "DPO"
    assert conservative_loss(-0.8 + 1.5 - 0.5, 0.0, 2.0) == pytest.approx(0.513015, abs=1e-6), "SimPO"
    assert conservative_loss(2.0, 0.0, 1.0) == pytest.approx(0.126928, abs=1e-6), "Crome, a preference"
    assert conservative_loss(1.0, 0.5, 1.0) == pytest.approx(0.813262, abs=1e-6), "Crome, a tie"


def test_the_reward_of_a_goal() -> None:
    assert (goal_reward(9, 9), goal_reward(4, 9)) == (0, -25)
    assert (goal_reward(9, 4), goal_reward(4, 4)) == (-25, 0)
