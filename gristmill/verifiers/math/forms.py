"""What an answer of several parts states: the value behind names, chains of equalities, lists, families."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from gristmill.verifiers.math import tree as t
from gristmill.verifiers.math.tokens import DOTS, GREEK, is_word
from gristmill.verifiers.math.tree import Limits, Tree

Equal = Callable[[Tree, Tree], bool | None]
_FIELDS = frozenset("ℤℕℚℂ")


class ContradictionError(ValueError):
    """A chain of equalities that is false: whatever it states, it states nothing."""


class Stated(NamedTuple):
    """The value that a relation states, what it is the value of, and what it is said to be about."""

    value: Tree
    name: Tree | None
    about: Tree | None = None


def stated(relation: Tree, equal: Equal) -> Stated | None:
    """The value in ``x = 5``, ``f(x) = 2x``, ``m+n = 256+37 = 293``, ``5 = x`` or ``x ∈ [1, 2]``.

    ``None`` for relations that state no value, such as ``2x + y = 3`` or ``x < 5``. What stands before an
    approximation sign is the value, and what stands behind it is only ``about`` it, unless all before it
    are names. ``ContradictionError`` if values that are said to be equal are surely different.
    """
    operators, sides = relation[1], relation[2]
    if operators == ("in",):
        return Stated(sides[1], sides[0]) if is_name(sides[0]) else None
    if any(o not in ("=", "~", "≡") for o in operators):
        return None
    names = 0
    while names < len(sides) - 1 and is_name(sides[names]):
        names += 1
    sides, signs = sides[names:], operators[names:]
    name = relation[2][0] if names else None
    if not names and len(sides) == 2 and is_name(sides[1]) and not is_name(sides[0]):
        return Stated(sides[0], sides[1])
    if not names and any(t.symbols(s) for s in sides):
        if t.symbols(sides[-1]) or sides[-1][0] in t.COLLECTIONS:
            if not all(equal(sides[0], s) for s in sides[1:]):
                return None  # an equation; else two ways to write one expression
        elif len(sides) == 2 and (len(t.symbols(sides[0])) < 2 or sides[1] == t.ZERO):
            return None  # an equation that is to be solved, or that describes a curve
        else:
            while t.symbols(sides[0]):
                name, sides, signs = sides[0], sides[1:], signs[1:]
    return _value(sides, signs, name, equal)


def _value(sides: tuple[Tree, ...], signs: tuple[str, ...], name: Tree | None, equal: Equal) -> Stated:
    exact = 1
    while exact <= len(signs) and signs[exact - 1] != "~":
        exact += 1
    for a, b in pairwise(sides[:exact]):
        if not (t.symbols(a) or t.symbols(b)) and equal(a, b) is False:
            raise ContradictionError("the sides of an equation are different")
    about = sides[exact] if exact < len(sides) else None
    if about is not None and far(sides[exact - 1], about):
        raise ContradictionError("the sides of an approximation are far apart")
    return Stated(sides[exact - 1], name, about)


def far(value: Tree, about: Tree) -> bool:
    """Whether two numbers are too far apart for one to be said to be about the other."""
    from gristmill.verifiers.math.sampling import number

    if any(x[0] in t.COLLECTIONS or x[0] == "rel" for x in (value, about)):
        return False
    a, b = number(value), number(about)
    return a is not None and b is not None and abs(a - b) > 0.05 * max(abs(a), abs(b))


def is_name(tree: Tree) -> bool:
    """Whether a tree names a value: a symbol, ``f(x)``, ``AB``, ``|AB|``, ``NO/BO``, ``(p, q)``."""
    kind = tree[0]
    if kind == "s":
        return bool(tree != DOTS)
    if kind == "*":
        if tree[1][0][0] == "s" and all(x[0] in ("s", "n") for x in tree[1]):
            return True
        return all(_geometric(x) for x in tree[1])
    if kind == "tuple":
        return all(x[0] == "s" for x in tree[3])
    if kind == "f":
        return tree[1] in ("abs", "max", "min", "sin", "cos", "tan", "gcd", "lcm") and all(
            is_name(x) for x in tree[2]
        )
    return kind == "^" and _geometric(tree)


def shortened(a: Tree, b: Tree) -> bool:
    """Whether of two symbols one is the other without its subscript."""
    if a[0] != "s" or b[0] != "s":
        return False
    (first, _, low), (second, _, other) = a[1].partition("_"), b[1].partition("_")
    return bool(first == second and not (low and other))


def _geometric(tree: Tree) -> bool:
    """A capital letter, or a power of one, as in ratios of segments."""
    if tree[0] == "^":
        return _geometric(tree[1]) and bool(tree[2][0] == "n")
    return bool(tree[0] == "s" and tree[1][:1].isupper()) or tree in (("s", "angle"), ("s", "triangle"))


def opaque(tree: Tree) -> bool:
    """Whether a tree holds words or an ellipsis, so that unequal values say nothing."""
    return any(
        name == DOTS[1] or (name.isalpha() and name.isascii() and is_word(name) and name not in GREEK)
        for name in t.symbols(tree)
    )


def expanded(limits: Limits, tree: Tree) -> Tree:
    """A list or set with its ellipsis written out, where it is an arithmetic progression of numbers."""
    if tree[0] not in ("list", "set") or DOTS not in tree[1]:
        return tree
    items = tree[1]
    at = items.index(DOTS)
    before, after = items[:at], items[at + 1 :]
    if len(after) != 1 or not before or any(x[0] != "n" for x in (*before, *after)):
        return tree
    step = before[-1][1] - before[-2][1] if len(before) > 1 else Fraction(1)
    steps = {b[1] - a[1] for a, b in pairwise(before)}
    last: Fraction = after[0][1]
    if len(steps) > 1 or not step or (last - before[-1][1]) / step % 1 or (last - before[-1][1]) / step < 1:
        return tree
    count = int((last - before[0][1]) / step) + 1
    if count > 10 * limits.items:
        return tree
    return (tree[0], tuple(t.num(before[0][1] + k * step) for k in range(count)))


class Family(NamedTuple):
    """Values that depend on a parameter out of a set of numbers: ``k pi, k ∈ Z``."""

    values: tuple[Tree, ...]
    parameter: str
    field: str


def family(tree: Tree) -> Family | None:
    """A list whose last item says which numbers its parameter runs over; ``None`` for other trees."""
    if tree[0] == "such":
        items: tuple[Tree, ...] = (tree[1], *tree[2])
    elif tree[0] == "list":
        items = tree[1]
    else:
        return None
    last = items[-1]
    if last[0] != "rel" or last[1] != ("in",) or last[2][0][0] != "s" or last[2][1][1] not in _FIELDS:
        return None
    name = last[2][0][1]
    values = [x[2][1] if x[0] == "rel" and x[1] == ("=",) and x[2][0][0] == "s" else x for x in items[:-1]]
    if not values or not any(name in t.symbols(v) for v in values):
        return None
    return Family(tuple(values), name, str(last[2][1][1]))


def renamed(limits: Limits, tree: Tree, old: str, new: Tree) -> Tree:
    """``tree`` with another tree in place of a symbol."""
    kind = tree[0]
    if kind == "s":
        return new if tree[1] == old else tree
    if kind == "+":
        return t.add(limits, [renamed(limits, x, old, new) for x in tree[1]])
    if kind == "*":
        return t.multiply(limits, [renamed(limits, x, old, new) for x in tree[1]])
    if kind == "^":
        return t.power(limits, renamed(limits, tree[1], old, new), renamed(limits, tree[2], old, new))
    if kind == "f":
        return ("f", tree[1], tuple(renamed(limits, x, old, new) for x in tree[2]))
    return tree


def solution(limits: Limits, tree: Tree, name: str) -> Tree | None:
    """What a symbol is where ``tree`` is 0, if the tree is a sum of terms linear in it; else ``None``."""
    terms = tree[1] if tree[0] == "+" else (tree,)
    slope: list[Tree] = []
    rest: list[Tree] = []
    for term in terms:
        factors = term[1] if term[0] == "*" else (term,)
        if name not in t.symbols(term):
            rest.append(term)
        elif ("s", name) in factors and sum(name in t.symbols(f) for f in factors) == 1:
            slope.append(t.multiply(limits, [f for f in factors if f != ("s", name)]))
        else:
            return None
    if not slope:
        return None
    return t.negate(limits, t.divide(limits, t.add(limits, rest), t.add(limits, slope)))


def componentwise(relation: Tree) -> Tree | None:
    """``(x, y) = (3, 2)`` as the list ``x = 3, y = 2``; ``None`` for other relations."""
    sides = relation[2]
    if relation[1] != ("=",) or any(s[0] != "tuple" for s in sides) or len(sides[0][3]) != len(sides[1][3]):
        return None
    return ("list", tuple(("rel", ("=",), pair) for pair in zip(sides[0][3], sides[1][3], strict=True)))


def without_constant(limits: Limits, tree: Tree) -> tuple[Tree, str] | None:
    """A sum without its constant of integration, and that constant's name; ``None`` if it has none."""
    if tree[0] != "+":
        return None
    for term in tree[1]:
        symbol = term[1][1] if term[0] == "*" and len(term[1]) == 2 and term[1][0] == t.MINUS else term
        if symbol[0] == "s" and symbol[1].partition("_")[0] in ("C", "c", "K"):
            rest = t.add(limits, [x for x in tree[1] if x is not term])
            if symbol[1] not in t.symbols(rest) and t.symbols(rest):
                return rest, symbol[1]
    return None


_PARAMETERS = frozenset("nkmjl")


def renamed_parameter(limits: Limits, a: Tree, b: Tree) -> Tree | None:
    """``a`` under the name that ``b`` has for its one whole number; ``None`` where they differ otherwise."""
    own, other = t.symbols(a) - t.symbols(b), t.symbols(b) - t.symbols(a)
    if len(own) != 1 or len(other) != 1 or not _PARAMETERS.issuperset(own | other):
        return None
    return renamed(limits, a, next(iter(own)), ("s", next(iter(other))))


def has_pi(tree: Tree) -> bool:
    """Whether pi is in a tree, as in the solutions of trigonometric equations."""
    return tree == ("c", "pi") or any(isinstance(x, tuple) and has_pi(x) for x in tree)
