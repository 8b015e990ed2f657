"""Whether two trees are equal: exactly, by their structure, or by sampling. ``None`` where that is unsure."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from gristmill.verifiers.math import forms, sets, shapes
from gristmill.verifiers.math import tree as t
from gristmill.verifiers.math.forms import ContradictionError, Stated
from gristmill.verifiers.math.sampling import SamplingFinding, compare, traits
from gristmill.verifiers.math.sets import FLIPPED, as_interval, variable
from gristmill.verifiers.math.tokens import DOTS, SYMMETRIC
from gristmill.verifiers.math.tree import Limits, Tree

_UNORDERED = frozenset({"set", "list", "union", "meet"})


@lru_cache(maxsize=64)
def _exact(value: float) -> Fraction:
    return Fraction(str(value)) if value else Fraction(0)


class MathComparison:
    """Equality under one tolerance; ``rule`` names the last layer that had a say.

    ``logarithm`` is the base of a bare ``\\log``: ``None`` for the natural one, 0 where it is not decided, so
    that a verdict must hold for base e and for base 10.
    """

    def __init__(
        self, limits: Limits, relative: float, absolute: float, logarithm: int | None = None
    ) -> None:
        self.limits = limits
        # Of the numbers as they are written: 1e-6 means 1/10^6.
        self.relative, self.absolute = _exact(relative), _exact(absolute)
        self.logarithm = logarithm
        self.whole: frozenset[str] = frozenset()
        self.rule = "exact number"

    def equal(self, a: Tree, b: Tree) -> bool | None:
        """Whether ``a`` equals ``b``."""
        if a[0] == "n" and b[0] == "n":
            return self.close(a[1], b[1])
        if a == b:
            self.rule = "structure" if a[0] in t.COLLECTIONS or a[0] == "rel" else "same expression"
            return True
        if (a[0] == "rel") != (b[0] == "rel"):
            relation, other = (a, b) if a[0] == "rel" else (b, a)
            return self.relation_and_value(relation, other)
        if a[0] == "rel":
            self.rule = "structure"
            return self.two_relations(a, b)
        if a[0] in t.COLLECTIONS or b[0] in t.COLLECTIONS:
            self.rule = "structure"
            return self.collections(forms.expanded(self.limits, a), forms.expanded(self.limits, b))
        if a[:2] == ("f", "base") or b[:2] == ("f", "base"):
            return self.based(a, b)
        return self.sampled(a, b)

    def close(self, a: Fraction, b: Fraction) -> bool:
        """Whether two numbers are equal within the tolerance; a relative one serves no whole number."""
        if a == b or not (self.relative or self.absolute):
            return a == b
        self.rule = "decimal"
        relative = 0 if a.denominator == 1 or b.denominator == 1 else self.relative
        return abs(a - b) <= max(relative * max(abs(a), abs(b)), self.absolute)

    def sampled(self, a: Tree, b: Tree) -> bool | None:
        """By the values of two expressions."""
        self.rule = "sampling"
        if forms.opaque(a) or forms.opaque(b):
            return None
        whole = (a[0] == "n" and a[1].denominator == 1) or (b[0] == "n" and b[1].denominator == 1)
        relative = 0.0 if whole else float(self.relative)
        found = self.sampled_as(a, b, relative, self.logarithm or None)
        if found is False and (renamed := forms.renamed_parameter(self.limits, a, b)) is not None:
            alike = self.sampled_as(renamed, b, relative, self.logarithm or None)
            return False if alike is False else True if alike and forms.has_pi(b) else None
        if found is None or self.logarithm != 0 or not (traits(a).logarithm or traits(b).logarithm):
            return shapes.constants_apart(self, a, b) if found is False else found
        return found if self.sampled_as(a, b, relative, 10) is found else None

    def sampled_as(self, a: Tree, b: Tree, relative: float, base: int | None) -> bool | None:
        """By values, with a tolerance and a base of bare logarithms."""
        found = compare(a, b, relative, float(self.absolute), whole=self.whole, base=base)
        return None if found is SamplingFinding.UNSURE else found is SamplingFinding.EQUAL

    def based(self, a: Tree, b: Tree) -> bool | None:
        """A numeral with a base: the base may be left out, as a unit may."""
        self.rule = "structure"
        first, second = (x[2] if x[0] == "f" and x[1] == "base" else (x, None) for x in (a, b))
        if first[1] is None or second[1] is None or first[1] == second[1]:
            return self.equal(first[0], second[0])
        found = compare(a, b)
        return None if found is SamplingFinding.UNSURE else found is SamplingFinding.EQUAL

    def collections(self, a: Tree, b: Tree) -> bool | None:
        """Lists, sets, tuples, intervals, unions, ratios, congruences, families and matrices."""
        families = forms.family(a), forms.family(b)
        if any(families):
            return shapes.families(self, *families)
        if sets.is_set(a) or sets.is_set(b):
            return self.sets(a, b)
        if a[0] not in t.COLLECTIONS or b[0] not in t.COLLECTIONS:
            return self.collection_and_value(*((a, b) if a[0] in t.COLLECTIONS else (b, a)))
        if a[0] == b[0] == "ratio":
            return shapes.ratios(self, a[1], b[1])
        if a[0] == b[0] == "congruence":
            return shapes.congruences(self, a, b)
        if a[0] == b[0] == "minus":
            return self.ordered(a[1], b[1])
        if {a[0], b[0]} & {"ratio", "congruence", "minus", "such"}:
            return None
        assigned = self.assignments(a), self.assignments(b)
        if any(assigned):
            return self.assigned(a, b, *assigned)
        if a[0] == "tuple" and b[0] == "tuple":
            return (a[1], a[2]) == (b[1], b[2]) and self.ordered(a[3], b[3])
        if {a[0], b[0]} == {"tuple", "list"}:  # the brackets of a point may be left out
            point, items = (a, b) if a[0] == "tuple" else (b, a)
            return (point[1], point[2]) == ("(", ")") and self.ordered(point[3], items[1])
        if a[0] in _UNORDERED and b[0] in _UNORDERED:
            one, other = (tuple(dict.fromkeys(x[1])) if x[0] == "set" else x[1] for x in (a, b))
            return self.unordered(one, other) if (a[0] == "union") == (b[0] == "union") else False
        if a[0] == b[0] == "matrix":
            return a[1] == b[1] and self.ordered(a[2], b[2])
        if "matrix" in (a[0], b[0]) and "tuple" in (a[0], b[0]):
            column, point = (a, b) if a[0] == "matrix" else (b, a)
            return column[1] == 1 and point[1] == "(" and self.ordered(column[2], point[3])
        return False

    def collection_and_value(self, collection: Tree, value: Tree) -> bool | None:
        """A list of one value written in several ways is that value; a ratio of two is their quotient."""
        if collection[0] == "congruence" or (collection[0] == "tuple" and {"j", "k"} & t.symbols(value)):
            return None  # n = 3k + 2, i + 2j + 3k
        if collection[0] == "list" and DOTS not in collection[1]:
            found = [self.equal(x, value) for x in collection[1]]
            if not all(found) and self.several(collection):
                return None if True in found else False  # which of several things was asked for?
            return False if False in found else None if None in found else True
        if collection[0] == "ratio" and len(collection[1]) == 2:
            return self.equal(t.divide(self.limits, *collection[1]), value)
        if collection[0] in ("union", "meet", "minus", "such") or DOTS in collection[-1]:
            return None
        if collection[0] == "set" and len(collection[1]) == 1:
            return None if self.equal(collection[1][0], value) is not False else False
        return False

    def sets(self, a: Tree, b: Tree) -> bool | None:
        """By content, where the bounds are constant; else part by part."""
        first, second = sets.content(a), sets.content(b)
        if first is not None and second is not None:
            listed = a if b[0] in ("union", "meet", "minus", "such") or sets.is_set(b) else b
            if listed[0] == "list" and not sets.is_set(listed) and not all(sets.is_set(x) for x in listed[1]):
                return None
            return sets.same(first, second, self.equal)
        if sets.scalar(a) or sets.scalar(b):
            known = first if second is None else second
            return (
                None
                if known is None or (len(known) == 1 and known[0].low.place == known[0].high.place)
                else False
            )
        if {a[0], b[0]} == {"union", "list"} and all(x[0] == "tuple" for x in (*a[1], *b[1])):
            return self.unordered(a[1], b[1])
        if a[0] == b[0] == "such":
            return True if len(a[2]) == len(b[2]) and self.unordered(a[2], b[2]) else None
        if a[0] == b[0] and a[0] in ("union", "meet"):
            return self.unordered(a[1], b[1])
        if a[0] == b[0] == "minus":
            return self.ordered(a[1], b[1])
        return None

    def assignments(self, tree: Tree) -> tuple[tuple[Tree, Tree], ...]:
        """The names and values of ``x = 3, y = 2`` or ``(x, y) = (3, 2)``; none for other trees."""
        if tree[0] != "list" or not all(x[0] == "rel" and set(x[1]) == {"="} for x in tree[1]):
            return ()
        found = [self.stated(x) for x in tree[1]]
        if any(f is None or f.name is None for f in found):
            return ()
        return tuple((f.name, f.value) for f in found if f is not None and f.name is not None)

    def several(self, collection: Tree) -> bool:
        """Whether a list says something of several things, not several values of one."""
        if not any(x[0] == "rel" for x in collection[1]):
            return False
        named = self.assignments(collection)
        return not named or len({str(n) for n, _ in named}) > 1

    def assigned(
        self, a: Tree, b: Tree, first: tuple[tuple[Tree, Tree], ...], second: tuple[tuple[Tree, Tree], ...]
    ) -> bool | None:
        """Values with names against such, or against values without."""
        if first and second:
            return self.unordered(a[1], b[1])
        named, other = (first, b) if first else (second, a)
        values = tuple(v for _, v in named)
        names = [n for n, _ in named]
        if len({str(n) for n in names}) == 1:  # x = 1 or x = 2 is no point and no interval
            return self.unordered(values, other[1]) if other[0] in _UNORDERED else False
        if other[0] in ("list", "set"):
            return self.unordered(values, other[1])
        if other[0] != "tuple" or (other[1], other[2]) != ("(", ")"):
            return False
        found = self.ordered(values, other[3])
        by_name = sorted(named, key=lambda pair: str(pair[0]))
        if [n for n, _ in by_name] == names:
            return found
        alphabetical = self.ordered(tuple(v for _, v in by_name), other[3])
        return found if found == alphabetical else None

    def ordered(self, a: tuple[Tree, ...], b: tuple[Tree, ...]) -> bool | None:
        """Element by element. Unsure only if no element is surely different."""
        self.rule = "structure"
        if len(a) != len(b):
            return None if DOTS in a or DOTS in b else False
        unsure = False
        for x, y in zip(a, b, strict=True):
            found = self.equal(x, y)
            if found is False:
                self.rule = "structure"
                return None if DOTS in a or DOTS in b else False
            unsure |= found is None
        self.rule = "structure"
        return None if unsure else True

    def unordered(self, a: tuple[Tree, ...], b: tuple[Tree, ...]) -> bool | None:
        """In any order; each item has its own partner."""
        if DOTS in a or DOTS in b:
            return None
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

    def stated(self, relation: Tree) -> Stated | None:
        """The value that a relation states; see ``forms.stated``."""
        exact = MathComparison(self.limits, 1e-6, 0.0, self.logarithm)
        return forms.stated(relation, exact.equal)

    def relation_and_value(self, relation: Tree, other: Tree) -> bool | None:
        """An equation that states a value, or an inequality that is a set, against a value."""
        self.rule = "structure"
        if relation[1] == ("in",) and relation[2][1][0] == "set" and other[0] == "list":  # x in {1, 2}
            return self.equal(("list", relation[2][1][1]), other)
        if (several := forms.componentwise(relation)) is not None and other[0] == "list":
            return self.equal(several, other)
        if (
            other[0] == "list"
            and other[1]
            and all(x[0] == "rel" for x in other[1])
            and not sets.is_set(relation)
        ):
            return self.collection_and_value(other, relation)
        try:
            found = self.stated(relation)
        except ContradictionError:
            return None
        if found is not None:
            return self.value_or_about(found, other)
        if sets.is_set(relation) or other[0] in ("union", "meet", "minus", "such", "tuple", "list"):
            if other[0] in t.COLLECTIONS or other[0] == "rel":
                return self.sets_or_intervals(relation, other)
            return False
        if len(relation[1]) == 1 and relation[1] == ("=",) and other[0] not in t.COLLECTIONS:
            return self.unsolved(relation, other)
        return None if other[0] in t.COLLECTIONS else False

    def unsolved(self, relation: Tree, value: Tree) -> bool | None:
        """An equation that states no value against one: another thing, unless it might be solved by it."""
        left, right = relation[2]
        names = t.symbols(left) | t.symbols(right)
        if t.symbols(value):
            return None
        if len(names) != 1:
            return False
        solved = forms.renamed(self.limits, left, name := next(iter(names)), value)
        fails = self.equal(solved, forms.renamed(self.limits, right, name, value)) is False
        return False if fails and self.equal(right, value) is False else None

    def value_or_about(self, found: Stated, other: Tree) -> bool | None:
        """The value, or the decimal that it is said to be about, if the other side is a decimal."""
        equal = self.equal(found.value, other)
        if not equal and found.about is not None and other[0] == "n" and other[1].denominator > 1:
            return self.equal(found.about, other)
        return equal

    def sets_or_intervals(self, relation: Tree, other: Tree) -> bool | None:
        """An inequality against an interval, a union or a list of inequalities."""
        if other[0] == "list" and not all(x[0] == "rel" and sets.is_set(x) for x in other[1]):
            return False
        interval = as_interval(relation)
        if interval is not None and other[0] == "tuple":
            return self.ordered(interval[3], other[3]) if interval[1:3] == other[1:3] else False
        return self.sets(relation, other)

    def two_relations(self, a: Tree, b: Tree) -> bool | None:
        """Both with one relation sign, or chains alike."""
        if a[1] == b[1] and len(a[2]) > 2 and self.ordered(a[2], b[2]):
            return True
        if sets.is_set(a) or sets.is_set(b):
            names = variable(a), variable(b)
            if None not in names and ((sets.is_set(a) and sets.is_set(b)) or "in" in (*a[1], *b[1])):
                return self.set_relations(a, b, same_name=names[0] == names[1])
        if len(a[1]) > 1 or len(b[1]) > 1 or "~" in (*a[1], *b[1]):
            return self.two_chains(a, b)
        if a[1] != b[1]:
            b = ("rel", (FLIPPED.get(b[1][0], ""),), (b[2][1], b[2][0]))
            if a[1] != b[1]:
                return False
        if a[1][0] not in FLIPPED:
            if a[1][0] in SYMMETRIC and self.swapped(a[2], b[2]):
                return True
            return self.ordered(a[2], b[2])
        if a[1][0] in ("=", "!=") and self.swapped(a[2], b[2]):
            return True
        if a[1] == ("=",) and forms.shortened(a[2][0], b[2][0]):
            return self.equal(a[2][1], b[2][1])
        return self.proportional(a, b)

    def set_relations(self, a: Tree, b: Tree, *, same_name: bool) -> bool | None:
        """Two conditions on one symbol."""
        first, second = sets.content(a), sets.content(b)
        if first is not None and second is not None:
            return same_name and sets.same(first, second, self.equal)
        x, y = as_interval(a), as_interval(b)
        if x is not None and y is not None:
            return same_name and self.equal(x, y)
        if a[1] == b[1] == ("in",):
            return self.ordered(a[2], b[2])
        return self.proportional(a, b) if len(a[1]) == len(b[1]) == 1 and a[1] == b[1] else None

    def two_chains(self, a: Tree, b: Tree) -> bool | None:
        """Two relations of which one is a chain: by the values that they state."""
        try:
            x, y = self.stated(a), self.stated(b)
        except ContradictionError:
            return None
        if x is None or y is None:
            return None
        if x.name is not None and y.name is not None and self.equal(x.name, y.name) is False:
            return False
        return self.equal(x.value, y.value)

    def swapped(self, a: tuple[Tree, ...], b: tuple[Tree, ...]) -> bool:
        """Whether the sides are the same, perhaps exchanged."""
        return bool(self.ordered(a, b) or self.ordered(a, (b[1], b[0])))

    def proportional(self, a: Tree, b: Tree) -> bool | None:
        """Whether left minus right is the same up to a constant factor (a positive one for an inequality)."""
        if any(side[0] in t.COLLECTIONS or side[0] == "rel" for side in (*a[2], *b[2])):
            return False
        self.rule = "sampling"
        first, second = (t.add(self.limits, (r[2][0], t.negate(self.limits, r[2][1]))) for r in (a, b))
        if forms.opaque(first) or forms.opaque(second):
            return None
        if t.symbols(first) != t.symbols(second) or t.ZERO in (first, second):
            return False
        if a[1][0] in ("=", "!=") and (found := shapes.solved(self, first, second)) is not None:
            return found
        fixed = dict.fromkeys(t.symbols(first), Fraction(7, 5))
        ratio = t.divide(
            self.limits, substituted(self.limits, first, fixed), substituted(self.limits, second, fixed)
        )
        if t.symbols(ratio):
            return None
        if a[1][0] not in ("=", "!=") and (ratio[0] != "n" or ratio[1] <= 0):
            return False
        return self.sampled_as(
            first, t.multiply(self.limits, (ratio, second)), float(self.relative), self.logarithm or None
        )


def substituted(limits: Limits, tree: Tree, values: dict[str, Fraction]) -> Tree:
    """The tree with numbers, all different, in place of its symbols."""
    for at, name in enumerate(sorted(values)):
        tree = forms.renamed(limits, tree, name, t.num(values[name] + Fraction(at * at, 7 + at)))
    return tree
