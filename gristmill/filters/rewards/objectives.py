"""Several objectives at once: the hypervolume of what was reached, and weights that it gives."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Annotated

from msgspec import Meta

from gristmill.core.shaping import Attempt, Rewards, Shape
from gristmill.filters.rewards.scored import Name

Point = tuple[float, ...]


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points that no other is at least as good as in everything and better in something; each once."""
    distinct = sorted(set(points), reverse=True)
    return [
        p
        for p in distinct
        if not any(q != p and all(a >= b for a, b in zip(q, p, strict=True)) for q in distinct)
    ]


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """The volume between the ``reference`` and the front of ``points``: more is better in every objective.

    Exact, by slices along the first objective. For the few objectives and points of a training run: the
    time grows with the number of points to the power of the objectives.
    """
    above = [p for p in points if all(a > b for a, b in zip(p, reference, strict=True))]
    front = pareto_front(above)
    if not front:
        return 0.0
    if len(reference) == 1:
        return front[0][0] - reference[0]
    total = 0.0
    # From the best of the first objective down: what lies above each level is a front of one fewer.
    for at, point in enumerate(front):
        below = front[at + 1][0] if at + 1 < len(front) else reference[0]
        total += (point[0] - below) * hypervolume([p[1:] for p in front[: at + 1]], reference[1:])
    return total


def hypervolume_weights(
    point: Point, front: Sequence[Point], reference: Point, step: float = 0.1
) -> list[float]:
    """Weights of the objectives at ``point``, which add up to 1: each by how much hypervolume a ``step`` in
    it would add to the ``front``; all alike where none adds any.

    After the hypervolume-guided weights of arXiv 2509.11452, which scales the whole reward by the gain of a
    new checkpoint; that scale is ``hypervolume([*front, point]) - hypervolume(front)``.
    """
    before = hypervolume([*front, point], reference)
    gains = []
    for i in range(len(point)):
        moved = (*point[:i], point[i] + step, *point[i + 1 :])
        gains.append(hypervolume([*front, point, moved], reference) - before)
    total = sum(gains)
    return [gain / total for gain in gains] if total > 0 else [1 / len(gains)] * len(gains)


class Hypervolume(Shape, frozen=True, kw_only=True, tag="hypervolume"):
    """A weighted sum of rewards, with the weights that the hypervolume of the problems' means gives.

    See ``hypervolume_weights``; the point is the mean over problems, the front that of the problems' own
    means (the 64 that are best in one objective or another, at most).
    """

    of: Annotated[dict[Name, float], Meta(min_length=2, max_length=4)]
    """The scores, each with the value that counts as nothing reached."""
    step: Annotated[float, Meta(gt=0)] = 0.1
    """How far each objective is tried."""

    @property
    def lowest(self) -> None:
        """It has no bound."""
        return

    def __call__(self, groups: Sequence[Sequence[Attempt]], seed: int = 0) -> list[Rewards]:
        """The sum for each answer with all scores."""
        names, reference = list(self.of), tuple(self.of.values())
        rows = [
            [[a.values[n] for n in names] if all(n in a.values for n in names) else None for a in group]
            for group in groups
        ]
        there = [[row for row in group if row is not None] for group in rows]
        means = [tuple(fmean(column) for column in zip(*group, strict=True)) for group in there if group]
        if not means:
            return [[None] * len(group) for group in groups]
        point = tuple(fmean(column) for column in zip(*means, strict=True))
        weights = hypervolume_weights(point, pareto_front(means)[:64], reference, self.step)
        return [
            [None if row is None else sum(w * r for w, r in zip(weights, row, strict=True)) for row in group]
            for group in rows
        ]
