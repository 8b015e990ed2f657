"""One score of a solution from the values of its steps, and the best of several solutions by it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

Rule = Literal["min", "last", "product", "mean", "geometric", "logits"]
"""``logits`` is the sum of log(v / (1 - v)); the others are as they are called."""
RULES: tuple[Rule, ...] = get_args(Rule)
LIMIT = 1e-6
"""``logits`` takes a value nearer than this to 0 or 1 for one that is this near, so that the sum is finite:
one sure step is then worth 13.8, and a sure right and a sure wrong one cancel."""


def aggregate(values: Sequence[float], rule: Rule) -> float:
    """The score of a solution whose steps have ``values``, each in [0, 1].

    A solution without steps has the lowest score that the rule can give: 0, or -inf by ``logits``. (The
    authors of ER-PRM, who take the minimum, give 0 too.) Raises ``ValueError`` for a value out of range.
    """
    score = rank(values, rule)
    if rule == "product" or (rule == "geometric" and values):
        return math.exp(score)
    return 0.0 if score == -math.inf and rule != "logits" else score


def best_of_n(solutions: Sequence[Sequence[float]], rule: Rule) -> int:
    """The index of the solution with the highest score; of equals the first.

    Compared by ``rank``. Raises ``ValueError`` where there is no solution.
    """
    if not solutions:
        raise ValueError("there is no solution to choose from")
    scores = [rank(values, rule) for values in solutions]
    return scores.index(max(scores))


def rank(values: Sequence[float], rule: Rule) -> float:
    """What solutions are compared by: ``aggregate``, but its logarithm for ``product`` and ``geometric``, so
    that those of long solutions do not all become 0. -inf where there is no step, or no way to be right.

    Raises ``ValueError`` for a value out of range.
    """
    if not all(0 <= v <= 1 for v in values):
        raise ValueError(f"values of steps must be in [0, 1], not {list(values)[:5]}")
    if not values:
        return -math.inf
    if rule == "min":
        return min(values)
    if rule == "last":
        return values[-1]
    if rule == "mean":
        return math.fsum(values) / len(values)
    if rule == "logits":
        near = [min(max(v, LIMIT), 1 - LIMIT) for v in values]
        return math.fsum(math.log(v) - math.log1p(-v) for v in near)
    logs = math.fsum(map(math.log, values)) if min(values) > 0 else -math.inf
    return logs if rule == "product" else logs / len(values)
