"""Whether two trees are equal: exactly, by their structure, or by sampling. ``None`` where that is unsure."""

from __future__ import annotations

from fractions import Fraction

from gristmill.verifiers.math import tree as t
from gristmill.verifiers.math.sampling import SamplingFinding, compare
from gristmill.verifiers.math.tree import Limits, Tree

_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}
_UNORDERED = frozenset({"set", "list", "union"})


class MathComparison:
    """Equality under one tolerance; ``rule`` names the last layer that had a say."""

    def __init__(self, limits: Limits, relative: float, absolute: float) -> None:
        self.limits = limits
        # Of the numbers as they are written: 1e-6 means 1/10^6.
        self.relative, self.absolute = (Fraction(str(x)) if x else Fraction(0) for x in (relative, absolute))
        self.rule = "exact number"

    def equal(self, a: Tree, b: Tree) -> bool | None:
        """Whether ``a`` equals ``b``."""
        if a[0] == "n" and b[0] == "n":
            return self.close(a[1], b[1])
        if a == b:
            self.rule = "structure" if a[0] in t.COLLECTIONS or a[0] == "rel" else "same expression"
            return True
        if a[0] == "rel" or b[0] == "rel":
            return self.relations(a, b)
        if a[0] in t.COLLECTIONS or b[0] in t.COLLECTIONS:
            self.rule = "structure"
            return self.collections(a, b)
        if a[:2] == ("f", "base") or b[:2] == ("f", "base"):
            return self.based(a, b)
        self.rule = "sampling"
        found = compare(a, b, float(self.relative), float(self.absolute))
        return None if found is SamplingFinding.UNSURE else found is SamplingFinding.EQUAL

    def close(self, a: Fraction, b: Fraction) -> bool:
        """Whether two numbers are equal within the tolerance."""
        if a == b or not (self.relative or self.absolute):
            return a == b
        self.rule = "decimal"
        return abs(a - b) <= max(self.relative * max(abs(a), abs(b)), self.absolute)

    def based(self, a: Tree, b: Tree) -> bool | None:
        """A numeral with a base: the base may be left out, as a unit may."""
        self.rule = "structure"
        first, second = (x[2] if x[0] == "f" and x[1] == "base" else (x, None) for x in (a, b))
        if first[1] is None or second[1] is None or first[1] == second[1]:
            return self.equal(first[0], second[0])
        found = compare(a, b)
        return None if found is SamplingFinding.UNSURE else found is SamplingFinding.EQUAL

    def collections(self, a: Tree, b: Tree) -> bool | None:
        """Lists, sets, tuples, intervals, unions and matrices."""
        if a[0] not in t.COLLECTIONS or b[0] not in t.COLLECTIONS:
            whole, single = (a, b) if a[0] in t.COLLECTIONS else (b, a)
            if whole[0] in ("set", "list") and len(whole[1]) == 1:
                return self.equal(whole[1][0], single)
            return False
        if a[0] in _UNORDERED and b[0] in _UNORDERED:
            return self.unordered(a[1], b[1])
        if a[0] == b[0] == "tuple":
            return a[1:3] == b[1:3] and self.ordered(a[3], b[3])
        if {a[0], b[0]} == {"tuple", "list"}:
            pair, row = (a, b) if a[0] == "tuple" else (b, a)
            return pair[1:3] == ("(", ")") and self.ordered(pair[3], row[1])
        if a[0] == b[0] == "matrix":
            return a[1] == b[1] and self.ordered(a[2], b[2])
        return False

    def ordered(self, a: tuple[Tree, ...], b: tuple[Tree, ...]) -> bool | None:
        """Element by element. Unsure only if no element is surely different."""
        if len(a) != len(b):
            return False
        unsure = False
        for x, y in zip(a, b, strict=True):
            found = self.equal(x, y)
            if found is False:
                self.rule = "structure"
                return False
            unsure |= found is None
        self.rule = "structure"
        return None if unsure else True

    def unordered(self, a: tuple[Tree, ...], b: tuple[Tree, ...]) -> bool | None:
        """In any order; each item has its own partner."""
        if len(a) != len(b):
            return False
        left, unsure = list(b), False
        for x in sorted(a, key=lambda x: x not in b):  # what is the same is paired first
            for at, y in enumerate(left):
                found = True if x == y else self.equal(x, y)
                if found:
                    del left[at]
                    break
                unsure |= found is None
            else:
                self.rule = "structure"
                return None if unsure else False
        self.rule = "structure"
        return True

    def relations(self, a: Tree, b: Tree) -> bool | None:
        """Equations and inequalities, one of which may be an assignment or an interval."""
        self.rule = "structure"
        if a[0] == "rel" and b[0] == "rel":
            return self.two_relations(a, b)
        relation, other = (a, b) if a[0] == "rel" else (b, a)
        value = assigned(relation)
        if value is not None:
            return self.equal(value, other) if a is relation else self.equal(other, value)
        interval = as_interval(relation)
        if interval is not None and other[0] in ("tuple", "union", "list"):
            return self.equal(interval, other)
        return False

    def two_relations(self, a: Tree, b: Tree) -> bool | None:
        """Both with one relation sign, or chains alike."""
        if a[1] == b[1] and len(a[2]) > 2 and self.ordered(a[2], b[2]):
            return True
        first, second = as_interval(a), as_interval(b)
        if first is not None and second is not None:
            return variable(a) == variable(b) and self.equal(first, second)
        if "in" in (*a[1], *b[1]) and (first or second):
            bounds, member = (a, b) if first else (b, a)
            return bool(variable(bounds) == member[2][0]) and self.equal(
                first or second or bounds, member[2][-1]
            )
        if len(a[1]) > 1 or len(b[1]) > 1:
            x, y = assigned(a), assigned(b)
            return self.equal(x, y) if x is not None and y is not None else False
        if a[1] != b[1]:
            b = ("rel", (_FLIPPED.get(b[1][0], ""),), (b[2][1], b[2][0]))
            if a[1] != b[1]:
                return False
        if "in" in a[1]:
            return self.ordered(a[2], b[2])
        if a[1][0] in ("=", "!=") and self.swapped(a[2], b[2]):
            return True
        return self.proportional(a, b)

    def swapped(self, a: tuple[Tree, ...], b: tuple[Tree, ...]) -> bool:
        """Whether the sides are the same, perhaps exchanged."""
        return bool(self.ordered(a, b) or self.ordered(a, (b[1], b[0])))

    def proportional(self, a: Tree, b: Tree) -> bool | None:
        """Whether left minus right is the same up to a constant factor (a positive one for an inequality)."""
        if any(side[0] in t.COLLECTIONS or side[0] == "rel" for side in (*a[2], *b[2])):
            return False
        self.rule = "sampling"
        first, second = (t.add(self.limits, (r[2][0], t.negate(self.limits, r[2][1]))) for r in (a, b))
        if t.symbols(first) != t.symbols(second):
            return False
        fixed = dict.fromkeys(t.symbols(first), Fraction(7, 5))
        ratio = t.divide(
            self.limits, substituted(self.limits, first, fixed), substituted(self.limits, second, fixed)
        )
        if t.symbols(ratio):
            return None
        if a[1][0] not in ("=", "!=") and (ratio[0] != "n" or ratio[1] <= 0):
            return False
        found = compare(
            first, t.multiply(self.limits, (ratio, second)), float(self.relative), float(self.absolute)
        )
        return None if found is SamplingFinding.UNSURE else found is SamplingFinding.EQUAL


def substituted(limits: Limits, tree: Tree, values: dict[str, Fraction]) -> Tree:
    """The tree with numbers, all different, in place of its symbols."""
    kind = tree[0]
    if kind == "s":
        at = sorted(values).index(tree[1])
        return t.num(values[tree[1]] + Fraction(at * at, 7 + at))
    if kind in ("+", "*"):
        parts = [substituted(limits, x, values) for x in tree[1]]
        return t.add(limits, parts) if kind == "+" else t.multiply(limits, parts)
    if kind == "^":
        return t.power(limits, substituted(limits, tree[1], values), substituted(limits, tree[2], values))
    if kind == "f":
        return ("f", tree[1], tuple(substituted(limits, x, values) for x in tree[2]))
    return tree


def assigned(relation: Tree) -> Tree | None:
    """The value in ``x = 5``, ``f(x) = 2x``, ``5 = x`` or ``x ∈ [1, 2]``; ``None`` for other relations."""
    operators, sides = relation[1], relation[2]
    if any(o not in ("=", "in") for o in operators):
        return None
    if _is_name(sides[0]):
        value: Tree = sides[-1]
        return value
    first: Tree = sides[0]
    return first if _is_name(sides[-1]) and len(sides) == 2 else None


def _is_name(tree: Tree) -> bool:
    if tree[0] == "*":
        return all(x[0] in ("s", "n") for x in tree[1]) and tree[1][0][0] == "s"
    return bool(tree[0] == "s")


def variable(relation: Tree) -> Tree | None:
    """The one symbol that an inequality bounds."""
    sides = [side for side in relation[2] if side[0] == "s"]
    return sides[0] if len(sides) == 1 else None


def as_interval(relation: Tree) -> Tree | None:
    """``a < x <= b`` or ``x > a`` as an interval; ``None`` for other relations."""
    operators, sides = relation[1], relation[2]
    if variable(relation) is None or any(o not in ("<", "<=", ">", ">=") for o in operators):
        return None
    if len({o[0] for o in operators}) > 1 or len(sides) > 3:
        return None
    if operators[0][0] == ">":
        operators, sides = tuple(_FLIPPED[o] for o in reversed(operators)), tuple(reversed(sides))
    if len(sides) == 3:
        if sides[1][0] != "s":
            return None
        low, high, left, right = sides[0], sides[2], operators[0], operators[1]
    elif sides[0][0] == "s":
        low, high, left, right = ("*", (t.MINUS, t.INF)), sides[1], "<", operators[0]
    else:
        low, high, left, right = sides[0], t.INF, operators[0], "<"
    return ("tuple", "[" if left == "<=" else "(", "]" if right == "<=" else ")", (low, high))
