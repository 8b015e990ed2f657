"""Contradictions among preferences: texts that beat each other, directly or in a circle."""

from __future__ import annotations

from collections.abc import Iterable

Edges = dict[int, set[int]]


def reversed_pairs(edges: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """The pairs of texts of which each is preferred to the other, the smaller first."""
    found = set(edges)
    return {(a, b) for a, b in found if a < b and (b, a) in found}


def circles(edges: Iterable[tuple[int, int]]) -> list[set[int]]:
    """The sets of three or more texts that no order can satisfy: each is preferred to each other, directly or
    through others of the set (the strongly connected components of the preferences)."""
    ahead: Edges = {}
    behind: Edges = {}
    for a, b in edges:
        ahead.setdefault(a, set()).add(b)
        behind.setdefault(b, set()).add(a)
    left, found = set(ahead) & set(behind), []
    while left:
        start = min(left)
        circle = _reached(start, ahead, left) & _reached(start, behind, left)
        if len(circle) > 2:
            found.append(circle)
        left -= circle
    return found


def _reached(start: int, edges: Edges, within: set[int]) -> set[int]:
    """The texts that can be reached from ``start`` by way of ``within``, itself included."""
    seen, waiting = {start}, [start]
    while waiting:
        for one in edges.get(waiting.pop(), set()) & within:
            if one not in seen:
                seen.add(one)
                waiting.append(one)
    return seen
