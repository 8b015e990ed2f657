"""Shares of successes that were counted: their intervals, and what several draws would give."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist


@lru_cache(maxsize=1 << 16)
def wilson(correct: int, decided: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a success share (Wilson 1927); 0 to 1 where nothing is decided.

    Raises ``ValueError`` unless 0 <= correct <= decided and 0 < confidence < 1.
    """
    if not 0 <= correct <= decided or not 0 < confidence < 1:
        raise ValueError(f"{correct} correct of {decided}, confidence {confidence}")
    if decided == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = correct / decided, z * z / decided
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    # Exact at the ends, where rounding would leave a hair.
    return (0.0 if correct == 0 else middle - half), (1.0 if correct == decided else middle + half)


def pass_at_k(correct: int, decided: int, k: int) -> float:
    """The chance that one of ``k`` draws is right: 1 - C(n - c, k) / C(n, k), with c right of n decided.

    The unbiased estimate of arXiv 2107.03374 (section 2.1). ``ValueError`` for fewer than ``k`` draws, or
    unless 0 <= correct <= decided and k >= 1.
    """
    if not 0 <= correct <= decided or not 1 <= k <= decided:
        raise ValueError(f"{k} draws of {decided}, {correct} of them right")
    return 1 - math.comb(decided - correct, k) / math.comb(decided, k)


def learnability(share: float) -> float:
    """p (1 - p): the variance of one outcome, largest at one half and 0 where all answers are alike.

    A group of one kind of outcome has no advantages, and so teaches a policy gradient nothing.
    """
    return share * (1 - share)


def logistic(x: float) -> float:
    """1 / (1 + exp(-x)), which never overflows."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else 1 - 1 / (1 + math.exp(x))
