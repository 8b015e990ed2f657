"""How a value found at a leaf changes those above it.

Each algorithm has its own rule. All of them keep what they need in a node's ``visits``, ``value`` and
``reward``, so that a saved tree goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from gristmill.synth.tree_search.grow import Live

Backup = Literal["mean", "visits", "q"]
"""``mean``: the mean of the values found below (and at) a node; with values of +-1 at the ends of solutions
it is rStar's. ``visits``: a parent is the mean of its children, weighted by their visits (ReST-MCTS*). ``q``:
the same over Q = reward + gamma * value, every child counted at least once (MCTS-DPO)."""


def mix(value: float, rolled: float, alpha: float) -> float:
    """(1 - alpha) * value + alpha * best value met in a simulation (ReST-MCTS*)."""
    return (1 - alpha) * value + alpha * rolled


def weighted_mean(pairs: Iterable[tuple[int, float]], *, least: int = 0) -> float | None:
    """The mean of values with their visits as weights, each at least ``least``; ``None`` for no weight."""
    weighted = [(max(least, visits), value) for visits, value in pairs]
    total = sum(weight for weight, _ in weighted)
    return sum(weight * value for weight, value in weighted) / total if total else None


def add_to_mean(path: Sequence[Live], value: float) -> None:
    """One more visit, with ``value``, to every node of ``path``."""
    for node in path:
        node.visits += 1
        before = 0.0 if node.value is None or node.visits == 1 else node.value
        node.value = before + (value - before) / node.visits


def from_children(path: Sequence[Live], children: Sequence[Sequence[Live]]) -> None:
    """One more visit to every node of ``path`` (root first); each takes the visit-weighted mean of its
    children, if any of them was visited. ``children`` are those of each node of the path."""
    for node, below in reversed(list(zip(path, children, strict=True))):
        node.visits += 1
        value = weighted_mean((c.visits, c.value) for c in below if c.value is not None)
        node.value = node.value if value is None else value


def q_from_children(path: Sequence[Live], children: Sequence[Sequence[Live]], gamma: float) -> None:
    """One more visit to every node of ``path`` (root first); its value becomes Q = reward + gamma * V, where
    V = sum of max(1, visits) * Q of the children / sum of max(1, visits). (arXiv 2405.00451; unlike the
    released code the root's visits are counted once.)"""
    for node, below in reversed(list(zip(path, children, strict=True))):
        node.visits += 1
        value = weighted_mean(((c.visits, c.value) for c in below if c.value is not None), least=1)
        if value is not None:
            node.value = (node.reward or 0.0) + gamma * value
