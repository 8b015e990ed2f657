"""What rollouts say of a step: pure formulas, all natural logarithms, all rewards in [0, 1].

Most take a ``Tally`` (correct of decided rollouts) with at least one rollout decided; one without is a
``ValueError``, for it says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from gristmill.core.steps import Tally

Evidence = Tally | Sequence[float]
"""Rollouts from one prefix: counted as right or wrong, or their rewards in [0, 1]."""
_LINEAR = 1e-8
"""Below this |eta| the value differs from the mean by less than |eta| / 8, and eta cannot be divided by."""


def hard(counts: Tally) -> float:
    """1 if any rollout is right, else 0: the hard estimate of Math-Shepherd (arXiv 2312.08935)."""
    return max(_weighted(counts))


def soft(rollouts: Evidence) -> float:
    """The mean reward, which is the share of right rollouts: the soft estimate of Math-Shepherd."""
    return sum(reward * weight for reward, weight in _weighted(rollouts).items())


def er_prm(rollouts: Evidence, eta: float) -> float:
    """V = (1/eta) log mean exp(eta r), the entropy-regularised value of ER-PRM (arXiv 2412.11006).

    ``eta`` of 0 is the mean (``soft``), +inf the best rollout (``hard``), -inf the worst; positive is the
    form of the authors' active code. It never overflows: the greatest exponent is taken out of the sum.
    Raises ``ValueError`` for an ``eta`` that is not a number and for rewards outside [0, 1].
    """
    if math.isnan(eta):
        raise ValueError("eta is not a number")
    rewards = _weighted(rollouts)
    least, most = min(rewards), max(rewards)
    if abs(eta) < _LINEAR:
        return soft(rollouts)
    if math.isinf(eta):
        return most if eta > 0 else least
    if abs(eta) <= 1:
        # Here the logarithm is near 0 and the quotient would lose its digits without log1p and expm1.
        value = math.log1p(math.fsum(w * math.expm1(eta * r) for r, w in rewards.items())) / eta
    else:
        top = max(eta * least, eta * most)
        value = (top + math.log(math.fsum(w * math.exp(eta * r - top) for r, w in rewards.items()))) / eta
    return min(max(value, least), most) + 0.0  # not -0.0


def _weighted(rollouts: Evidence) -> dict[float, float]:
    """Each reward that occurs, with its share."""
    if isinstance(rollouts, Tally):
        if not 0 <= rollouts.correct <= rollouts.decided or not rollouts.decided:
            raise ValueError(f"{rollouts.correct} correct of {rollouts.decided} decided rollouts")
        shares = {1.0: rollouts.mean or 0.0, 0.0: (rollouts.decided - rollouts.correct) / rollouts.decided}
        return {reward: share for reward, share in shares.items() if share}
    if not rollouts or not all(0 <= r <= 1 for r in rollouts):
        raise ValueError(f"rewards must be in [0, 1] and at least one, not {list(rollouts)[:5]}")
    found: dict[float, float] = {}
    for reward in rollouts:
        found[reward] = found.get(reward, 0) + 1
    return {reward: count / len(rollouts) for reward, count in found.items()}


def student(normal: float, freedom: int) -> float:
    """The quantile of Student's t where the normal one is ``normal``, by its expansion in 1 / ``freedom``
    (Abramowitz and Stegun 26.7.5): right to 0.001 from 8 degrees on, to 0.1 from 2 on."""
    z, n = normal, freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4)
    )


def best_of_k(share: float, k: int) -> float:
    """1 - (1 - q)^K: how often the best of K completions is right, if one is with probability q.

    The convenient prover of "Rewarding Progress" (arXiv 2410.08146). ``q`` estimated from few rollouts
    makes it an estimate too, and a biased one.
    """
    if not 0 <= share <= 1 or k < 1:
        raise ValueError(f"share {share} must be in [0, 1] and k {k} at least 1")
    return 1.0 if share == 1 else -math.expm1(k * math.log1p(-share)) + 0.0


def advantages(start: float, values: Iterable[float]) -> list[float]:
    """What each step gains under the prover: Q after it minus Q before it (PAV, arXiv 2410.08146).

    ``start`` is Q of the question alone, ``values`` are Q after each step.
    """
    return [after - before for before, after in pairwise((start, *values))]


def effective_reward(value: float, advantage: float, alpha: float) -> float:
    """Q + alpha A: the policy's own value and the prover's advantage (PAV, arXiv 2410.08146)."""
    return value + alpha * advantage


def rest_weight(before: float, remaining: int, wrongness: float) -> float:
    """w = (1 - v) / (m + 1) (1 - 2 r): the weighted reward of a step in ReST-MCTS* (arXiv 2406.03816).

    ``before`` v is the value before the step, ``remaining`` m the least number of further steps to a right
    answer, ``wrongness`` r in [0, 1]: 0 for a good step, 1 for a wrong one.
    """
    if remaining < 0 or not 0 <= wrongness <= 1:
        raise ValueError(f"remaining {remaining} must be at least 0 and wrongness {wrongness} in [0, 1]")
    return (1 - before) / (remaining + 1) * (1 - 2 * wrongness)


def rest_value(before: float, remaining: int, wrongness: float) -> float:
    """max(v + w, 0): the value after a step in ReST-MCTS*; see ``rest_weight``.

    The authors' code has the same with r 0 or 1 and m + 1 as the step's ``min_steps``.
    """
    return max(before + rest_weight(before, remaining, wrongness), 0.0)
