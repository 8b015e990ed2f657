"""Choosing ratios and coefficients where the best is known."""

from __future__ import annotations

import pytest

from gristmill.core.errors import RecipeError
from gristmill.train.merging import CoefficientSearch, descend, search

BEST = [0.9, 0.1, 0.5]


def bowl(aligned: list[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(aligned, BEST, strict=True))


def sloped(aligned: list[float]) -> tuple[float, list[float]]:
    return bowl(aligned), [2 * (a - b) for a, b in zip(aligned, BEST, strict=True)]


def test_the_ratios_descend_to_the_best_under_the_mean_and_the_box() -> None:
    found = descend(sloped, bowl, mean=0.5, groups=3, steps=30, smallest=1e-4)
    assert found.aligned == pytest.approx(BEST, abs=0.02)
    assert found.losses == sorted(found.losses, reverse=True) and len(found.losses) > 1
    # With a mean of 0.2 the second ratio would leave the box, and ends on its side.
    found = descend(sloped, bowl, mean=0.2, groups=3, steps=30, smallest=1e-4)
    assert found.aligned == pytest.approx([0.5, 0.0, 0.1], abs=0.02)
    assert sum(found.aligned) / 3 == pytest.approx(0.2, abs=1e-12)


def test_a_flat_loss_and_one_group_stay_plain_averaging() -> None:
    flat = descend(lambda a: (1.0, [2.0] * 3), lambda a: 0.0, mean=0.3, groups=3)
    alone = descend(lambda a: (1.0, [2.0]), lambda a: 0.0, mean=0.3, groups=1)
    assert flat.aligned == pytest.approx([0.3] * 3) and alone.aligned == pytest.approx([0.3])
    assert flat.losses == alone.losses == [1.0]


def test_wrong_slopes_never_make_it_worse_than_plain_averaging() -> None:
    found = descend(lambda a: (bowl(a), [-s for s in sloped(a)[1]]), bowl, mean=0.5, groups=3)
    assert found.aligned == pytest.approx([0.5] * 3)


def distance(shares: list[float]) -> float:
    return sum((s - b) ** 2 for s, b in zip(shares, [1.3, -0.5, 0.2], strict=True))


def test_the_search_finds_coefficients_that_sum_to_one_also_negative_ones() -> None:
    found = search(distance, 3, CoefficientSearch(draws=400))
    assert sum(found.shares) == pytest.approx(1, abs=1e-5)
    assert found.shares == pytest.approx([1.3, -0.5, 0.2], abs=0.1)
    assert found.history == sorted(found.history, reverse=True) and len(found.history) == 401
    assert found.measure == distance(found.shares)
    inside = search(distance, 3, CoefficientSearch(draws=400, negative=False))
    assert min(inside.shares) >= 0 and inside.shares[0] > 0.85


def test_the_search_is_the_same_for_a_seed_and_never_worse_than_a_model_or_the_mean() -> None:
    asked: list[tuple[float, ...]] = []

    def measure(shares: list[float]) -> float:
        asked.append(tuple(shares))
        return distance(shares)

    first = search(measure, 3, CoefficientSearch(draws=20, seed=4))
    assert (
        first
        == search(distance, 3, CoefficientSearch(draws=20, seed=4))
        != search(distance, 3, CoefficientSearch(draws=20, seed=5))
    )
    assert len(asked) == len(set(asked))
    alone = [[float(i == j) for j in range(3)] for i in range(3)]
    assert first.measure <= min(map(distance, [*alone, [1 / 3] * 3]))
    with pytest.raises(RecipeError, match="1 models"):
        search(distance, 1)
