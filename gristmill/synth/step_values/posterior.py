"""What rollouts say of the labels of a solution's prefixes: Beta-binomial evidence, one change-point.

A prefix is *right* where its success probability p exceeds the threshold theta, else *wrong*. Before any
rollout p is Beta(a, b), cut to its side of theta; with theta = 0 a wrong prefix has p = 0 exactly, so that
one right rollout proves a prefix right. Along a solution the labels are either independent, or turn from
right to wrong once (the first error). Posteriors do not depend on when or why sampling stopped, so they may
be looked at after every rollout: the stopping rule drops out of Bayes' formula (the likelihood principle).
What they promise holds on average over the prior, not for every single p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from gristmill.core.steps import Tally

_TINY = 1e-300
_TERMS = 10_000


class RolloutEvidence(NamedTuple):
    """Natural logarithms of the likelihood of a prefix's rollouts, were it wrong and were it right."""

    wrong: float
    right: float


@lru_cache(maxsize=1 << 16)
def evidence(seen: Tally, threshold: float, prior: tuple[float, float]) -> RolloutEvidence:
    """The likelihood of one sequence of rollouts with this tally; ``prior`` is (a, b), both above 0."""
    a, b = prior
    after_a, after_b = a + seen.correct, b + seen.decided - seen.correct
    marginal = _log_beta(after_a, after_b) - _log_beta(a, b)
    if threshold <= 0:
        return RolloutEvidence(-math.inf if seen.correct else 0.0, marginal)
    # The upper tail is asked for as the lower one of the mirrored variable, which loses no digits.
    below = _log(share_below(threshold, after_a, after_b)) - _log(share_below(threshold, a, b))
    above = _log(share_below(1 - threshold, after_b, after_a)) - _log(share_below(1 - threshold, b, a))
    return RolloutEvidence(marginal + below, marginal + above)


def one_error(seen: Sequence[RolloutEvidence]) -> list[float]:
    """The chance that each prefix is right, where all before some step are right and all from it on wrong.

    ``seen`` has the prefixes of 1, 2, ... M - 1 steps of a solution known to be wrong in the end. Every
    step is as likely to be the first wrong one beforehand.
    """
    before = accumulate((e.right for e in seen), initial=0.0)
    behind = [*accumulate((e.wrong for e in reversed(seen)), initial=0.0)][::-1]
    weights = [right + wrong for right, wrong in zip(before, behind, strict=True)]
    top = max(weights)
    shares = [math.exp(w - top) for w in weights]
    total = sum(shares)
    chances, left = [], total
    for share in shares[:-1]:
        left -= share
        chances.append(min(1.0, max(0.0, left / total)))
    return chances


def alone(seen: RolloutEvidence) -> float:
    """The chance that a prefix is right, on its own rollouts and even odds beforehand."""
    top = max(seen)
    wrong, right = math.exp(seen.wrong - top), math.exp(seen.right - top)
    return right / (wrong + right)


def gain(chance: float, seen: Tally, threshold: float, prior: tuple[float, float]) -> float:
    """Expected information (nats) of one more rollout about the label of a prefix right with ``chance``."""
    now = evidence(seen, threshold, prior)
    then = evidence(Tally(seen.correct + 1, seen.decided + 1), threshold, prior)
    if_wrong = 0.0 if now.wrong == -math.inf else min(1.0, math.exp(then.wrong - now.wrong))
    if_right = min(1.0, math.exp(then.right - now.right))
    mixed = chance * if_right + (1 - chance) * if_wrong
    return _entropy(mixed) - chance * _entropy(if_right) - (1 - chance) * _entropy(if_wrong)


@lru_cache(maxsize=1 << 16)
def share_below(x: float, a: float, b: float) -> float:
    """The share of Beta(a, b) below ``x`` in [0, 1]: the regularised incomplete beta function I_x(a, b),
    by its continued fraction (DLMF 8.17.22) in modified Lentz form."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly, the mirrored one does not
        return 1 - share_below(1 - x, b, a)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - _log_beta(a, b)) / a
    c, d = 1.0, _inverse(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = _inverse(1 + term * d)
            c = 1 + term / c or _TINY
            value *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return front * value


def _inverse(x: float) -> float:
    return 1 / (x or _TINY)


def _log(x: float) -> float:
    """A chance too small for a float is taken for the smallest one, so that evidence stays comparable."""
    return math.log(max(x, _TINY))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _entropy(p: float) -> float:
    return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)
