"""Rewards of the steps of one trajectory, in order; each function gives as many numbers as it is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the ``values`` lie, linear between neighbours.

    ``ValueError`` without values, or unless 0 <= share <= 1.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(f"quantile {share} of {len(values)} values")
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def clip_steps(rewards: Sequence[float], level: float) -> list[float]:
    """Clip (arXiv 2410.15115): min(r - level, 0), so that no step adds anything and good ones cost nothing.

    ``level`` can be a ``quantile`` of the rewards of many trajectories. The reward for success is added
    separately. More steps never raise the sum.
    """
    return [min(reward - level, 0.0) for reward in rewards]


def delta_steps(rewards: Sequence[float], *, last: bool = True) -> list[float]:
    """Delta (arXiv 2410.15115): r_k - r_(k+1), and the last as it is: the sum is r_1 whatever follows.

    Without ``last`` the last reward counts as 0, since the reward for success, added separately, says more of
    that step. A step that is repeated leaves the sum as it was.
    """
    kept = list(rewards) if last or not rewards else [*rewards[:-1], 0.0]
    return [*(here - following for here, following in pairwise(kept)), *kept[-1:]]


def gate_steps(rewards: Sequence[float], outcome: float) -> list[float]:
    """Process rewards that the outcome gates, after the hybrid normalisation of PPR (arXiv 2509.25598).

    r + outcome - 1, with both in [0, 1]: of a success in [0, 1], of a failure in [-1, 0], so that no good
    step of a failure is paid for, and no weak step of a success is punished. ``ValueError`` for others.
    """
    if not all(0 <= value <= 1 for value in (*rewards, outcome)):
        raise ValueError(f"step rewards {list(rewards)} and outcome {outcome} must be in [0, 1]")
    return [reward + outcome - 1 for reward in rewards]
