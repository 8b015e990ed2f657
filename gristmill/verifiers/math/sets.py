"""Sets of real numbers by what they contain: intervals, points, unions, differences, conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from gristmill.verifiers.math import tree as t
from gristmill.verifiers.math.sampling import number
from gristmill.verifiers.math.tokens import REALS
from gristmill.verifiers.math.tree import Tree

FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}
NEGATIVE_INF: Tree = ("*", (t.MINUS, t.INF))


class Bound(NamedTuple):
    """An end of an interval: its place, whether it lies just behind it (1) or at it (0), and its tree."""

    place: float
    behind: int
    tree: Tree


class Interval(NamedTuple):
    """From one bound up to another: ``[1, 2)`` is from at 1 to at 2, ``(1, 2]`` from behind 1 to behind 2."""

    low: Bound
    high: Bound


Content = list[Interval]
"""Intervals in order that do not touch."""


def content(tree: Tree) -> Content | None:
    """What a set contains; ``None`` if it is not a set of real numbers with constant bounds."""
    kind = tree[0]
    if kind == "tuple" and len(tree[3]) == 2:
        return interval(tree)
    if kind == "set":
        points = [point(x) for x in tree[1]]
        return None if None in points else merged([p for p in points if p is not None])
    if kind in ("union", "meet", "minus"):
        parts = [content(x) for x in tree[1]]
        first = parts[0]
        if first is None:
            return None
        for other in parts[1:]:
            if other is None:
                return None
            first = (
                merged([*first, *other])
                if kind == "union"
                else _both(first, other if kind == "meet" else complement(other))
            )
        return first
    if kind == "such":
        return _conditions(tree[2])
    if kind == "rel":
        return relation(tree)
    if kind == "list" and all(x[0] == "rel" for x in tree[1]):
        return _conditions(tree[1])
    return None


def interval(tree: Tree) -> Content | None:
    """``("tuple", opening, closing, (low, high))`` with constant bounds."""
    low, high = (number(x) if scalar(x) else None for x in tree[3])
    if low is None or high is None:
        return None
    if low > high or (low == high and (tree[1], tree[2]) != ("[", "]")):
        return None
    return [
        Interval(Bound(low, int(tree[1] == "("), tree[3][0]), Bound(high, int(tree[2] == "]"), tree[3][1]))
    ]


def point(tree: Tree) -> Interval | None:
    """One number as an interval."""
    place = number(tree) if scalar(tree) else None
    return None if place is None else Interval(Bound(place, 0, tree), Bound(place, 1, tree))


def scalar(tree: Tree) -> bool:
    """Whether a tree is one value."""
    return tree[0] not in t.COLLECTIONS and tree[0] != "rel"


def relation(tree: Tree) -> Content | None:
    """What an inequality, ``x != 3``, ``x = 3`` or ``x in S`` lets its one symbol be."""
    operators, sides = tree[1], tree[2]
    if operators == ("in",):
        return content(sides[1]) if sides[0][0] == "s" else None
    if operators == ("∉",):
        inner = content(sides[1]) if sides[0][0] == "s" else None
        return None if inner is None else complement(inner)
    if operators in (("!=",), ("=",)) and sides[0][0] == "s":
        found = point(sides[1])
        if found is None:
            return None
        return complement([found]) if operators == ("!=",) else [found]
    bounds = as_interval(tree)
    return None if bounds is None else content(bounds)


def _conditions(conditions: Sequence[Tree]) -> Content | None:
    """Of several conditions on one symbol, what meets all of them, or if nothing does, one of them."""
    names = {variable(c) for c in conditions if c[0] == "rel"}
    if len(names) != 1 or None in names:
        return None
    parts = [relation(c) for c in conditions if c[0] == "rel"]
    found = [p for p in parts if p is not None]
    if len(found) != len(conditions):
        return None
    all_of = found[0]
    for other in found[1:]:
        all_of = _both(all_of, other)
    if all_of or len(found) == 1:
        return all_of
    return merged([i for p in found for i in p])


def merged(parts: Content) -> Content:
    """The union, in order."""
    found: Content = []
    for part in sorted(parts, key=lambda i: (i.low[:2], i.high[:2])):
        if found and part.low[:2] <= found[-1].high[:2]:
            if part.high[:2] > found[-1].high[:2]:
                found[-1] = Interval(found[-1].low, part.high)
        else:
            found.append(part)
    return found


def complement(parts: Content) -> Content:
    """The real numbers outside."""
    low = Bound(float("-inf"), 1, NEGATIVE_INF)
    found: Content = []
    for part in merged(parts):
        if part.low[:2] > low[:2]:
            found.append(Interval(low, part.low))
        low = part.high
    top = Bound(float("inf"), 0, t.INF)
    if low[:2] < top[:2]:
        found.append(Interval(low, top))
    return found


def _both(a: Content, b: Content) -> Content:
    found = []
    for x in a:
        for y in b:
            low, high = max(x.low, y.low, key=lambda e: e[:2]), min(x.high, y.high, key=lambda e: e[:2])
            if low[:2] < high[:2]:
                found.append(Interval(low, high))
    return merged(found)


def same(a: Content, b: Content, equal: Callable[[Tree, Tree], bool | None]) -> bool | None:
    """Whether two sets have the same content, ``equal`` deciding on their bounds."""
    if len(a) != len(b):
        return False
    unsure = False
    for x, y in zip(a, b, strict=True):
        for one, other in zip(x, y, strict=True):
            if one.behind != other.behind:
                return False
            found = True if one.tree == other.tree else equal(one.tree, other.tree)
            if found is False:
                return False
            unsure |= found is None
    return None if unsure else True


def is_set(tree: Tree) -> bool:
    """Whether a tree can only be a set of numbers, not a list, a point or a value."""
    return tree[0] in ("union", "meet", "minus", "such") or tree == REALS or (
        tree[0] == "rel" and any(o in ("<", "<=", ">", ">=", "!=", "∉") for o in tree[1])
    )  # fmt: skip


def variable(relation: Tree) -> Tree | None:
    """The one symbol that an inequality or a membership bounds."""
    sides = [side for side in relation[2] if side[0] == "s" and side[1] not in "ℤℕℚℂ"]
    return sides[0] if len(sides) == 1 else None


def as_interval(relation: Tree) -> Tree | None:
    """``a < x <= b`` or ``x > a`` as an interval; ``None`` for other relations."""
    operators, sides = relation[1], relation[2]
    if variable(relation) is None or any(o not in ("<", "<=", ">", ">=") for o in operators):
        return None
    if len({o[0] for o in operators}) > 1 or len(sides) > 3:
        return None
    if operators[0][0] == ">":
        operators, sides = tuple(FLIPPED[o] for o in reversed(operators)), tuple(reversed(sides))
    if len(sides) == 3:
        if sides[1][0] != "s":
            return None
        low, high, left, right = sides[0], sides[2], operators[0], operators[1]
    elif sides[0][0] == "s":
        low, high, left, right = NEGATIVE_INF, sides[1], "<", operators[0]
    else:
        low, high, left, right = sides[0], t.INF, operators[0], "<"
    return ("tuple", "[" if left == "<=" else "(", "]" if right == "<=" else ")", (low, high))
