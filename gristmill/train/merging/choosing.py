"""How ratios and coefficients are chosen: descent on the ratios of layer groups, and an evolutionary search.

Both know functions only (a loss, its slopes), so that they can be used with another measure than the loss of
rows, and be checked where the answer is known. Same functions and seed, same result.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.train.merging.coefficients import moving_average_shares, on_the_simplex

_FIRST_MOVE = 0.25
_HALVINGS = 6


class Ratios(NamedTuple):
    """The chosen share of the aligned model in each group, with the losses from the start to there."""

    aligned: list[float]
    losses: list[float]


def descend(
    slopes: Callable[[list[float]], tuple[float, list[float]]],
    loss: Callable[[list[float]], float],
    *,
    mean: float,
    groups: int,
    steps: int = 10,
    smallest: float = 0.01,
) -> Ratios:
    """The group ratios of Adaptive Model Averaging (arXiv 2309.06256) by projected gradient descent.

    ``slopes`` gives the loss and its derivative by each ratio, ``loss`` the loss alone. From all ratios at
    ``mean``, each step moves against the slopes, by 0.25 for the steepest at first, and is projected so
    that the mean is exact and every ratio between 0 and 1; it is halved until the loss falls. Ends after
    ``steps``, or where no step of ``smallest`` or more lowers the loss. So the result is never worse than
    plain averaging on the rows that it was chosen by. The published code keeps the mean by its parameters
    instead, which leaves the box; see ``released_shares``.
    """
    aligned = on_the_simplex([mean] * groups, mean)
    losses: list[float] = []
    for _ in range(steps):
        value, slope = slopes(aligned)
        losses = losses or [value]
        level = sum(slope) / groups
        steepest = max(abs(s - level) for s in slope)
        found = None
        for halving in range(_HALVINGS if steepest > 0 else 0):
            move = _FIRST_MOVE / 2**halving / steepest
            tried = on_the_simplex(
                [a - move * (s - level) for a, s in zip(aligned, slope, strict=True)], mean
            )
            if max(abs(t - a) for t, a in zip(tried, aligned, strict=True)) < smallest:
                break
            if (lower := loss(tried)) < value:
                found = tried
                losses.append(lower)
                break
        if found is None:
            break
        aligned = found
    return Ratios(aligned, losses)


class CoefficientSearch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of the search for coefficients: Linear Combination of Saved Checkpoints (arXiv 2404.02241).

    An evolutionary search: the population begins with each model alone, their mean and moving averages; each
    generation crosses two of the best, adds noise, and the worst are dropped. From the paper is the idea
    that the coefficients sum to 1 and may be negative; sizes and rates are ours.
    """

    population: Annotated[int, Meta(ge=2)] = 12
    """How many combinations are kept."""
    draws: Annotated[int, Meta(ge=0)] = 60
    """How many new combinations are measured, beside those of the beginning."""
    noise: Annotated[float, Meta(gt=0)] = 0.1
    """The standard deviation of what is added to each coefficient."""
    negative: bool = True
    """Whether coefficients may be below 0; if not, those are cut to 0."""
    seed: int = 0
    """For crossing and noise."""


class FoundShares(NamedTuple):
    """The best combination, its measure, and the best measure after each draw, the beginning's first."""

    shares: list[float]
    measure: float
    history: list[float]


def search(
    measure: Callable[[list[float]], float], models: int, options: CoefficientSearch | None = None
) -> FoundShares:
    """The combination of ``models`` coefficients that sum to 1 with the lowest ``measure`` that was found.

    Each combination is measured once. It may be chosen for the noise of the measure: measure the result
    again on rows that were not used here.
    """
    options = options or CoefficientSearch()
    if models < 2:
        raise RecipeError(f"{models} models cannot be combined.", remedy="Give at least two.")
    chance = random.Random(f"lcsc:{options.seed}:{models}")
    begun = [[float(i == j) for j in range(models)] for i in range(models)]
    begun.append([1 / models] * models)
    begun += [moving_average_shares([kept] * (models - 1)) for kept in (0.5, 0.8)]
    known: dict[tuple[float, ...], float] = {}

    def measured(shares: list[float]) -> float:
        key = tuple(round(s, 6) for s in shares)
        if key not in known:
            known[key] = measure(list(key))
        return known[key]

    kept = sorted(((measured(s), s) for s in begun), key=lambda pair: pair[0])
    history = [kept[0][0]]
    for _ in range(options.draws):
        best = kept[: options.population]
        mother, father = chance.sample(best[: max(2, len(best) // 2)], 2)
        child = _summing_to_one(
            [
                chance.choice(pair) + chance.gauss(0, options.noise)
                for pair in zip(mother[1], father[1], strict=True)
            ],
            negative=options.negative,
        )
        kept = sorted([*best, (measured(child), child)], key=lambda pair: pair[0])[: options.population]
        history.append(kept[0][0])
    return FoundShares([round(s, 6) for s in kept[0][1]], kept[0][0], history)


def _summing_to_one(values: Sequence[float], *, negative: bool) -> list[float]:
    """Values moved by one number to sum to 1; without negative ones, cut at 0 and scaled."""
    if negative:
        more = (1 - sum(values)) / len(values)
        return [value + more for value in values]
    cut = [max(0.0, value) for value in values]
    total = sum(cut)
    return [value / total for value in cut] if total > 0 else [1 / len(cut)] * len(cut)
