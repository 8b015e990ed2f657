"""Which node a search goes to: UCT, PUCT, and what an unvisited node counts for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from gristmill.core.engine import TokenLogprob

Unvisited = Literal["infinity", "one", "zero"]
"""The score of a node without visits under UCT. ``infinity``: every node is visited once first (UCB1).
``one``: its value plus 1.0 (ReST-MCTS*: the constant called INF there is 1). ``zero``: 0 in all, so that a
visited sibling above 0 goes first (rStar-Math)."""
LENGTH_POWER = 1.25
"""MCTS-DPO's exponent of the length by which a step's log-probability is divided."""


def uct(
    value: float,
    parent_visits: int,
    visits: int,
    *,
    c: float,
    inner: float = 2.0,
    unvisited: Unvisited = "infinity",
) -> float:
    """value + c * sqrt(inner * ln(parent visits) / visits).

    ``inner`` is 2 in UCB1 and ReST-MCTS* (arXiv 2406.03816), 1 in rStar-Math (arXiv 2501.04519).
    """
    if visits == 0:
        return {"infinity": math.inf, "one": value + 1.0, "zero": 0.0}[unvisited]
    return value + c * math.sqrt(inner * math.log(max(parent_visits, 1)) / visits)


def puct(value: float, prior: float, parent_visits: int, visits: int, *, c: float) -> float:
    """value + c * prior * sqrt(parent visits) / (1 + visits) (MCTS-DPO, arXiv 2405.00451)."""
    return value + c * prior * math.sqrt(parent_visits) / (1 + visits)


def prior(logprobs: Sequence[TokenLogprob], power: float = LENGTH_POWER) -> float:
    """exp(sum of log-probabilities / length^power) of a step's tokens; 1 for a step without tokens."""
    if not logprobs:
        return 1.0
    return math.exp(sum(t.logprob for t in logprobs) / len(logprobs) ** power)


def first_best(scores: Sequence[float]) -> int:
    """The index of the greatest score, the first of equals."""
    return max(range(len(scores)), key=lambda i: (scores[i], -i))
