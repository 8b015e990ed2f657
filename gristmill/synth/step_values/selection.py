"""Choosing one of N solutions: by its steps' values, by votes, by both, and as well as can be (pass@N)."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Hashable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from gristmill.core.shares import pass_at_k
from gristmill.synth.step_values.aggregate import Rule, rank

DRAWS = 100
"""Subsets over which a vote of fewer solutions than there are is averaged."""


class Candidate(NamedTuple):
    """A solution of a problem. ``answer`` names the class of equal answers that its own is in, ``None``
    where it has none that can be read. ``values`` are of its steps, in [0, 1]."""

    values: tuple[float, ...]
    right: bool
    answer: Hashable | None


def pass_at(candidates: Sequence[Candidate], n: int) -> float:
    """The chance that one of ``n`` solutions is right: 1 - C(m - c, n) / C(m, n), with c right of m.

    The unbiased estimate of arXiv 2107.03374 (section 2.1). ``ValueError`` for fewer than ``n`` solutions.
    """
    m = _enough(candidates, n)
    return pass_at_k(sum(c.right for c in candidates), m, n)


def best_of(candidates: Sequence[Candidate], rule: Rule, n: int) -> float:
    """The chance that the highest score among ``n`` of the solutions belongs to a right one.

    Exact over all subsets: the solution of rank r (from 0) is the best of C(m - 1 - r, n - 1) of C(m, n).
    Of equal scores the first wins. ``ValueError`` for fewer than ``n`` solutions.
    """
    m = _enough(candidates, n)
    scores = [rank(c.values, rule) for c in candidates]
    order = sorted(range(m), key=lambda i: -scores[i])
    wins = sum(math.comb(m - 1 - r, n - 1) for r, i in enumerate(order) if candidates[i].right)
    return wins / math.comb(m, n)


def majority(
    candidates: Sequence[Candidate], n: int, *, seed: int, rule: Rule | None = None, draws: int = DRAWS
) -> float:
    """The chance that the answer with the most votes of ``n`` solutions is right.

    With ``rule`` a vote weighs the solution's score (the weighted majority of OmegaPRM, arXiv 2406.06592,
    section 4.1); that of ``logits`` weighs sigma(score), which is positive. Equal answers share the credit.
    The mean over all subsets, or over ``draws`` seeded ones where there are more.
    """
    m = _enough(candidates, n)
    weights = [0.0 if rule is None else _log_weight(c.values, rule) for c in candidates]
    right = {c.answer for c in candidates if c.right}
    given = [c.answer for c in candidates]
    credits = [_credit(given, weights, right, subset) for subset in _subsets(m, n, seed, draws)]
    return math.fsum(credits) / len(credits)


def _log_weight(values: Sequence[float], rule: Rule) -> float:
    score = rank(values, rule)
    if rule in ("product", "geometric"):
        return score
    if rule == "logits":  # log sigma(score)
        return min(score, 0.0) - math.log1p(math.exp(-abs(score)))
    return math.log(score) if score > 0 else -math.inf


def _credit(
    answers: Sequence[Hashable | None],
    weights: Sequence[float],
    right: Collection[Hashable | None],
    subset: Sequence[int],
) -> float:
    """The share of right answers among those with the greatest weight; ``weights`` are logarithms."""
    voting = [i for i in subset if answers[i] is not None]
    if not voting:
        return 0.0
    # Weights of long solutions are products too small for a float: the greatest one is taken for 1.
    top = max(weights[i] for i in voting)
    totals: dict[Hashable | None, float] = {}
    for i in voting:
        weight = math.exp(weights[i] - top) if top > -math.inf else 0.0
        totals[answers[i]] = totals.get(answers[i], 0.0) + weight
    # Rounded, so that the order in which equal weights are added does not break a tie.
    best = round(max(totals.values()), 12)
    winners = [answer for answer, total in totals.items() if round(total, 12) == best]
    return sum(answer in right for answer in winners) / len(winners)


def _subsets(m: int, n: int, seed: int, draws: int) -> Iterator[Sequence[int]]:
    if math.comb(m, n) <= draws:
        yield from combinations(range(m), n)
        return
    rng = random.Random(seed)
    for _ in range(draws):
        yield rng.sample(range(m), n)


def _enough(candidates: Sequence[Candidate], n: int) -> int:
    if not 1 <= n <= len(candidates):
        raise ValueError(f"{n} of {len(candidates)} solutions cannot be chosen")
    return len(candidates)
