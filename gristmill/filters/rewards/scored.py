"""Rewards from numbers that others gave: reward models, judges, verifiers with a score.

An answer that lacks a number that is needed has no reward and takes no part in its group's statistics.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import NormalDist, fmean, pstdev, stdev
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.shaping import VERDICT, Attempt, Rewards, Shape
from gristmill.core.shares import logistic

Name = Annotated[str, Meta(min_length=1)]
Names = Annotated[tuple[Name, ...], Meta(min_length=1)]


class Scored(Shape, frozen=True, kw_only=True, tag="scored"):
    """The number itself, as it is."""

    grouped: ClassVar[Any] = False

    of: Name = VERDICT
    """The score that is the reward."""

    @property
    def lowest(self) -> float | None:
        """A verdict's score is never below 0; of others nothing is known."""
        return 0.0 if self.of == VERDICT else None

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """The numbers."""
        return [[a.values.get(self.of) for a in group] for group in groups]


def centred(reward: float, references: Sequence[float], scale: float = 1.0) -> float:
    """PAR (arXiv 2502.18770): the mean of sigma(scale (reward - reference)) over the references, in (0, 1).

    The chance by the reward model (Bradley and Terry) that the answer beats a reference: bounded, steep at
    first, flat later. ``ValueError`` without references.
    """
    if not references:
        raise ValueError("there are no references to centre the reward by")
    return fmean(logistic(scale * (reward - reference)) for reference in references)


class Par(Shape, frozen=True, kw_only=True, tag="par"):
    """PAR (arXiv 2502.18770): ``centred`` by the rewards of reference answers to the same problem.

    A group without a reference has no rewards. The paper takes 10 references by the reference policy.
    """

    of: Name
    """The score with the reward."""
    reference: str | None = None
    """The engine whose samples are the references, which have no rewards then. ``null``: the other answers
    of the group are, each without itself."""
    scale: Annotated[float, Meta(gt=0)] = 1.0
    """k of the formula."""

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """A number in (0, 1) for each answer with a reward."""
        return [self._group(group) for group in groups]

    def _group(self, group: Sequence[Attempt]) -> Rewards:
        made: Rewards = []
        for at, a in enumerate(group):
            own = a.values.get(self.of)
            others = [
                b.values[self.of]
                for i, b in enumerate(group)
                if self.of in b.values and (i != at if self.reference is None else b.model == self.reference)
            ]
            is_reference = self.reference is not None and a.model == self.reference
            made.append(
                None if own is None or is_reference or not others else centred(own, others, self.scale)
            )
        return made


def normal_percentile(
    values: Sequence[float], share: float, deviation: Literal["population", "sample"] = "population"
) -> float:
    """The percentile of the normal distribution with the mean and deviation of ``values``.

    Of one value it is that value. ``ValueError`` without values, or unless 0 < share < 1.
    """
    if not values or not 0 < share < 1:
        raise ValueError(f"percentile {share} of {len(values)} values")
    spread = pstdev if deviation == "population" else stdev
    width = spread(values) if len(values) > 1 else 0.0
    return fmean(values) + NormalDist().inv_cdf(share) * width


def log_sigmoid(x: float) -> float:
    """log sigma(x), exact for large |x| too."""
    return -math.log1p(math.exp(-x)) if x >= 0 else x - math.log1p(math.exp(x))


class LogSigmoid(Shape, frozen=True, kw_only=True, tag="log_sigmoid"):
    """log sigma(r - reference), added up over rewards: "Transforming and Combining Rewards" (2402.00742).

    The sum is the logarithm of the chance that the answer is good by all of them (conjunction), so that
    what is very good by one does not make up for what is bad by another. The reference is a percentile of the
    group's rewards under a normal distribution.
    """

    of: Names
    """The scores with the rewards."""
    percentile: Annotated[float, Meta(gt=0, lt=1)] = 0.85
    """Where the reference lies."""
    deviation: Literal["population", "sample"] = "population"
    """Divided by n, or by n - 1."""

    @property
    def lowest(self) -> None:
        """It has no bound."""
        return

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """A number below 0 for each answer with all rewards."""
        return [self._group(group) for group in groups]

    def _group(self, group: Sequence[Attempt]) -> Rewards:
        rows = _complete(group, self.of)
        there = [row for row in rows if row is not None]
        levels = [
            normal_percentile(column, self.percentile, self.deviation) for column in zip(*there, strict=True)
        ]
        return [
            None if row is None else sum(log_sigmoid(r - level) for r, level in zip(row, levels, strict=True))
            for row in rows
        ]


class Component(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One part of a composite reward."""

    threshold: float
    """From where more of it is not paid for: the point from which this score stops to tell good answers."""
    weight: Annotated[float, Meta(gt=0)] = 1.0
    """What it counts."""


class Composite(Shape, frozen=True, kw_only=True, tag="composite"):
    """A sum of rewards, each capped at its threshold: after constrained RLHF (arXiv 2310.04373).

    The paper keeps each component from passing its proxy point by Lagrange multipliers during training. Cut
    off there, as here, a component also earns nothing by passing it, without a multiplier to train.
    """

    grouped: ClassVar[Any] = False

    of: Annotated[dict[Name, Component], Meta(min_length=1)]
    """The components by the names of their scores."""

    @property
    def lowest(self) -> None:
        """It has no bound."""
        return

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """The sum of weight x min(reward, threshold) for each answer with all components."""
        parts = list(self.of.values())
        return [
            [
                None
                if row is None
                else sum(p.weight * min(r, p.threshold) for r, p in zip(row, parts, strict=True))
                for row in _complete(group, tuple(self.of))
            ]
            for group in groups
        ]


Filtration = Literal["bon", "br", "bw"]


def rank_weights(count: int, rule: Filtration) -> list[float]:
    """The weights of PF-PPO (arXiv 2409.06957) by rank, the best first; they add up to 1.

    ``bon``: the best alone. ``br``: half to the best, half to all others alike. ``bw``: half to the best,
    half to the worst. One answer has all the weight (the released code fails there).
    """
    if count < 2:
        return [1.0] * count
    if rule == "bon":
        return [1.0] + [0.0] * (count - 1)
    if rule == "bw":
        return [0.5] + [0.0] * (count - 2) + [0.5]
    return [0.5] + [0.5 / (count - 1)] * (count - 1)


class PolicyFiltration(Shape, frozen=True, kw_only=True, tag="pf_ppo"):
    """PF-PPO (arXiv 2409.06957): how much each answer counts, by the rank of its reward in its group.

    Answers with equal rewards share the weights of their ranks (the released code takes the first of the
    best). Scaled to a mean of 1; 0 leaves an answer out. ``r_squared`` compares the rules.
    """

    of: Name
    """The score with the reward."""
    rule: Filtration = "bw"
    """Which ranks are kept: best and worst (``bw``), best and some other (``br``), the best (``bon``)."""

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """A weight of at least 0 for each answer with a reward."""
        return [self._group([a.values.get(self.of) for a in group]) for group in groups]

    def _group(self, rewards: Sequence[float | None]) -> Rewards:
        ordered = sorted((r for r in rewards if r is not None), reverse=True)
        shares: dict[float, list[float]] = defaultdict(list)
        for reward, weight in zip(ordered, rank_weights(len(ordered), self.rule), strict=True):
            shares[reward].append(weight)
        return [None if r is None else fmean(shares[r]) * len(ordered) for r in rewards]


def r_squared(rewards: Sequence[float], actual: Sequence[float]) -> float:
    """R^2 of the line by which ``rewards`` tell the ``actual`` scores: how far a reward can be trusted.

    0 where either is constant. ``ValueError`` unless there are as many of both, and two at least.
    """
    if len(rewards) != len(actual) or len(rewards) < 2:
        raise ValueError(f"{len(rewards)} rewards and {len(actual)} actual scores")
    mx, my = fmean(rewards), fmean(actual)
    sxy = sum((x - mx) * (y - my) for x, y in zip(rewards, actual, strict=True))
    sxx, syy = sum((x - mx) ** 2 for x in rewards), sum((y - my) ** 2 for y in actual)
    return sxy * sxy / (sxx * syy) if sxx and syy else 0.0


def filtration_fit(
    groups: Sequence[Sequence[tuple[float, float]]], rule: Filtration | None, bins: int = 10
) -> float:
    """PF-PPO's R^2 of a rule, by which to choose one before training; ``None`` keeps every answer.

    ``groups`` have (reward, actual score) of each answer. Answers are weighed by the rule and put in ``bins``
    of equally many answers by reward; R^2 is between the bins' mean rewards and mean scores.
    """
    kept: list[tuple[float, float, float]] = []
    for group in groups:
        ordered = sorted(group, reverse=True)
        weights = [1.0] * len(ordered) if rule is None else rank_weights(len(ordered), rule)
        kept += [(r, score, w) for (r, score), w in zip(ordered, weights, strict=True) if w]
    kept.sort()
    parts = [kept[len(kept) * i // bins : len(kept) * (i + 1) // bins] for i in range(bins)]
    means = [
        (sum(r * w for r, _, w in part) / total, sum(s * w for _, s, w in part) / total)
        for part in parts
        if (total := sum(w for _, _, w in part))
    ]
    return r_squared([m[0] for m in means], [m[1] for m in means])


def _complete(group: Sequence[Attempt], names: Sequence[str]) -> list[tuple[float, ...] | None]:
    """The named values of each answer; ``None`` where one is missing."""
    return [
        tuple(a.values[name] for name in names) if all(name in a.values for name in names) else None
        for a in group
    ]
