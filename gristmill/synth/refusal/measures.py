"""How far a score of confidence can be trusted: AP, AUROC, Brier, ECE, the risk-coverage curve.

All of them are functions of ``Level``s: the answers by their distinct scores. So equal scores are one
level everywhere, and no measure depends on the order of the rows. A measure of nothing is ``None``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Level(NamedTuple):
    """The answers of one score: ``right`` of ``total``, at least one, are right."""

    score: float
    right: int
    total: int


class Bin(NamedTuple):
    """Neighbouring levels of a reliability diagram: ``total`` answers with scores of ``low`` to ``high``,
    their mean score, and the share that is right."""

    low: float
    high: float
    total: int
    confidence: float
    accuracy: float


class Point(NamedTuple):
    """A point of the risk-coverage curve: answering where the score is at least ``score`` answers the share
    ``coverage`` of all, of which the share ``risk`` is wrong."""

    coverage: float
    risk: float
    score: float


def geometric_mean(logprobs: Sequence[float]) -> float | None:
    """The geometric mean of probabilities, given as natural logarithms; ``None`` where there are none."""
    return math.exp(math.fsum(logprobs) / len(logprobs)) if logprobs else None


def combined(confidence: float, sure: float) -> float:
    """The score of R-Tuning's AP (arXiv 2311.09677, section 4): half of each probability."""
    return 0.5 * confidence + 0.5 * sure


def levels(labels: Iterable[bool | int], scores: Iterable[float]) -> list[Level]:
    """Answers by their distinct scores, the highest first. ``labels`` say which are right.

    ``ValueError`` for lists of different length and for a score that is not a number.
    """
    counts: dict[float, list[int]] = {}
    for label, score in zip(labels, scores, strict=True):
        if math.isnan(score):
            raise ValueError("a score is not a number")
        count = counts.setdefault(score, [0, 0])
        count[0] += bool(label)
        count[1] += 1
    return [Level(score, *counts[score]) for score in sorted(counts, reverse=True)]


def _sums(found: Sequence[Level]) -> tuple[int, int]:
    return sum(level.right for level in found), sum(level.total for level in found)


def accuracy(found: Sequence[Level]) -> float | None:
    """The share that is right."""
    right, total = _sums(found)
    return right / total if total else None


def average_precision(found: Sequence[Level]) -> float | None:
    """AP = sum over distinct thresholds, descending, of (R_k - R_(k-1)) P_k, as scikit-learn has it.

    ``None`` where no answer is right, since there is no recall then.
    """
    positives, _ = _sums(found)
    if not positives:
        return None
    right = total = 0
    area = 0.0
    for level in found:
        right += level.right
        total += level.total
        area += level.right / positives * (right / total)
    return area


def auroc(found: Sequence[Level]) -> float | None:
    """The probability that a right answer has a higher score than a wrong one, equal ones counting half.

    ``None`` where there are none of one kind. It is ``step_values.measures.auc``, of levels, by which a
    bootstrap takes one pass a draw.
    """
    right, total = _sums(found)
    pairs = right * (total - right)
    if not pairs:
        return None
    wins, below = 0, total - right  # wins are counted twice, so that halves are whole
    for level in found:
        wrong = level.total - level.right
        below -= wrong
        wins += level.right * (2 * below + wrong)
    return wins / (2 * pairs)


def brier(found: Sequence[Level]) -> float | None:
    """The mean squared difference of score and outcome (Brier 1950, of one class); scores are in [0, 1]."""
    _, total = _sums(found)
    if not total:
        return None
    lost = (
        level.right * (1 - level.score) ** 2 + (level.total - level.right) * level.score**2 for level in found
    )
    return math.fsum(lost) / total


def bins(found: Sequence[Level], count: int = 10) -> list[Bin]:
    """At most ``count`` bins of equal mass, the lowest scores first.

    Levels are never divided: bin ``k`` ends with the level that brings the answers to ``k / count`` of all
    or more. So there are fewer bins where many scores are equal, and none is empty.
    """
    _, everything = _sums(found)
    made: list[Bin] = []
    held: list[Level] = []
    seen, edge = 0, 1
    for level in reversed(found):
        held.append(level)
        seen += level.total
        # In integers, as edge / count * everything can miss by a rounding error.
        if seen * count >= edge * everything:
            made.append(_bin(held))
            held, edge = [], seen * count // everything + 1
    return made


def _bin(held: Sequence[Level]) -> Bin:
    right, total = _sums(held)
    mean = math.fsum(level.score * level.total for level in held) / total
    return Bin(held[0].score, held[-1].score, total, mean, right / total)


def ece(found: Sequence[Level], count: int = 10) -> float | None:
    """The expected calibration error: the mean distance of a bin's accuracy from its mean score, weighted
    by its answers, over bins of equal mass (Nguyen and O'Connor 2015; "adaptive" in arXiv 1904.01685)."""
    made = bins(found, count)
    total = sum(b.total for b in made)
    return math.fsum(b.total * abs(b.accuracy - b.confidence) for b in made) / total if made else None


def risk_coverage(found: Sequence[Level]) -> list[Point]:
    """The risk-coverage curve (El-Yaniv and Wiener 2010), a point for each distinct score, descending."""
    _, everything = _sums(found)
    points: list[Point] = []
    right = total = 0
    for level in found:
        right += level.right
        total += level.total
        points.append(Point(total / everything, 1 - right / total, level.score))
    return points


def aurc(found: Sequence[Level]) -> float | None:
    """The area under the risk-coverage curve: the mean over k = 1 .. n of the risk of the k best scored
    (Geifman et al., arXiv 1805.08206). Lower is better.

    Within a level the order is not known, so that the errors among its first j of g are expected to be
    j / g of its errors.
    """
    _, everything = _sums(found)
    if not everything:
        return None
    risk = 0.0
    errors = total = 0
    for level in found:
        wrong = level.total - level.right
        share = wrong / level.total
        for j in range(1, level.total + 1):
            risk += (errors + j * share) / (total + j)
        errors += wrong
        total += level.total
    return risk / everything
