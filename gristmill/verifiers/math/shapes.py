"""Equality of answers of special shapes: families over a parameter, ratios, congruences, solved equations."""

from __future__ import annotations

from fractions import Fraction
from typing import Protocol

from gristmill.verifiers.math import forms
from gristmill.verifiers.math import tree as t
from gristmill.verifiers.math.tree import Limits, Tree


class Comparing(Protocol):
    """What a comparison offers here."""

    limits: Limits
    logarithm: int | None
    whole: frozenset[str]

    def equal(self, a: Tree, b: Tree) -> bool | None:
        """Whether two trees are equal."""
        ...

    def ordered(self, a: tuple[Tree, ...], b: tuple[Tree, ...]) -> bool | None:
        """Element by element."""
        ...

    def unordered(self, a: tuple[Tree, ...], b: tuple[Tree, ...]) -> bool | None:
        """In any order."""
        ...

    def sampled_as(self, a: Tree, b: Tree, relative: float, base: int | None) -> bool | None:
        """By values."""
        ...


def families(c: Comparing, a: forms.Family | None, b: forms.Family | None) -> bool | None:
    """Values over a parameter: equal if they are alike, or linear over ℤ and shifted by whole steps."""
    if a is None or b is None:
        return False
    if a.field != b.field or len(a.values) != len(b.values):
        return None
    new = ("s", "§")
    first, second = (tuple(forms.renamed(c.limits, v, f.parameter, new) for v in f.values) for f in (a, b))
    before, c.whole = c.whole, frozenset({"§"}) if a.field in "ℤℕ" else frozenset()
    try:
        if c.unordered(first, second):
            return True
        if a.field == "ℤ" and len(first) == len(second) == 1:
            return progressions(c, first[0], second[0])
    finally:
        c.whole = before
    return None


def progressions(c: Comparing, a: Tree, b: Tree) -> bool | None:
    """Whether ``a + b k`` and ``c + d k`` run through the same values for whole k."""

    def at(tree: Tree, k: int) -> Tree:
        return forms.renamed(c.limits, tree, "§", t.num(k))

    def minus(x: Tree, y: Tree) -> Tree:
        return t.add(c.limits, (x, t.negate(c.limits, y)))

    steps = minus(at(a, 1), at(a, 0)), minus(at(b, 1), at(b, 0))
    for tree, step in zip((a, b), steps, strict=True):
        if not c.equal(minus(at(tree, 7), at(tree, 5)), t.multiply(c.limits, (t.num(2), step))):
            return None  # not linear
    ratio = t.divide(c.limits, *steps)
    shift = t.divide(c.limits, minus(at(a, 0), at(b, 0)), steps[0])
    if ratio[0] != "n" or shift[0] != "n":
        return None
    return bool(abs(ratio[1]) == 1 and shift[1].denominator == 1)


def ratios(c: Comparing, a: tuple[Tree, ...], b: tuple[Tree, ...]) -> bool | None:
    """Equal up to a common factor."""
    if len(a) != len(b):
        return False
    pairs = [
        (t.multiply(c.limits, (a[0], y)), t.multiply(c.limits, (x, b[0])))
        for x, y in zip(a[1:], b[1:], strict=True)
    ]
    return c.ordered(tuple(p[0] for p in pairs), tuple(p[1] for p in pairs))


def congruences(c: Comparing, a: Tree, b: Tree) -> bool | None:
    """The same modulus, the same left side if both have one, and residues that differ by multiples."""
    modulus = c.equal(a[2], b[2])
    if not modulus:
        return modulus
    if len(a[3]) == len(b[3]) and len(a[3]) > 1 and not c.ordered(a[3][:-1], b[3][:-1]):
        return False if c.ordered(a[3][:-1], b[3][:-1]) is False else None
    difference = t.add(c.limits, (a[3][-1], t.negate(c.limits, b[3][-1])))
    quotient = t.divide(c.limits, difference, a[2])
    if quotient[0] != "n":
        return True if difference == t.ZERO else None
    return bool(quotient[1].denominator == 1)


def solved(c: Comparing, a: Tree, b: Tree) -> bool | None:
    """Whether ``a = 0`` and ``b = 0`` say the same of a symbol that both are linear in; else ``None``."""
    for name in sorted(t.symbols(a)):
        x, y = forms.solution(c.limits, a, name), forms.solution(c.limits, b, name)
        if x is not None and y is not None:
            return c.sampled_as(x, y, 0.0, c.logarithm or None)
    return None


def constants_apart(c: Comparing, a: Tree, b: Tree) -> bool | None:
    """Whether two different expressions are equal up to a constant of integration that both have."""
    first, second = (forms.without_constant(c.limits, x) for x in (a, b))
    if first is None or second is None:
        return False
    rest = t.add(c.limits, (first[0], t.negate(c.limits, second[0])))
    names = t.symbols(rest)
    if not names:
        return True
    moved = rest
    for name in names:
        moved = forms.renamed(c.limits, moved, name, t.num(Fraction(3, 2)))
    return c.sampled_as(rest, moved, 0.0, None)
