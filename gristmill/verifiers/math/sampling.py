"""Values of a tree at fixed random points: floats refute, sixty digits confirm."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from enum import Enum
from fractions import Fraction
from functools import cache
from hashlib import blake2b
from typing import Any

from gristmill.verifiers.math.tree import Tree, counts, symbols

_DIGITS = 60
_POINTS = 5
_POSITIVE = 3
"""Of the points, so many have only positive coordinates; the next some, the last only negative ones."""
_CLOSE = 1e-3
"""Floats that differ by less than this, relatively, are looked at again with more digits."""
_WHOLE_POINTS = 12
"""Points where the bounds of a sum are symbols: so many whole numbers from 2 on are put in their place."""
_TERMS = 5_000
"""Terms of the sums and products of a tree, evaluated once."""
_LARGE = 1e6
_ANY_SIZE = frozenset({"abs", "floor", "ceil", "max", "min", "base", "ln", "log"})
_CANCELLED = 1e-6
"""A float this much smaller than an intermediate value is not trusted."""


class SamplingFinding(Enum):
    """What sampling found out."""

    EQUAL = "equal"
    DIFFERENT = "different"
    UNSURE = "unsure"


class UnknownValueError(ValueError):
    """The tree holds something that has no number here."""


class Floats:
    """Evaluation in double precision, remembering the largest intermediate value."""

    def __init__(self, point: int, whole: frozenset[str] = frozenset()) -> None:
        self.point, self.peak = point, 0.0
        self.whole = sorted(whole)
        self.terms = 0
        self.bound: dict[str, Any] = {}

    def number(self, value: Fraction) -> Any:
        """A rational number."""
        try:
            return value.numerator / value.denominator
        except OverflowError as error:
            raise UnknownValueError("too large for a float") from error

    def constant(self, name: str) -> Any:
        """A constant by its name."""
        return {"pi": math.pi, "e": math.e, "i": 1j, "inf": math.inf}[name]

    def coordinate(self, name: str) -> Any:
        """The value of a symbol."""
        return self.number(self.place(name))

    def place(self, name: str) -> Fraction:
        """The exact value of a symbol; those in the bounds of sums are whole numbers."""
        if name in self.whole:
            return Fraction(2 + self.point + 3 * self.whole.index(name))
        return coordinate(name, self.point)

    def power(self, base: Any, exponent: Any) -> Any:
        """A power."""
        return base**exponent

    def function(self, name: str) -> Callable[..., Any]:
        """A function by its name."""
        return _FLOAT[name]

    def seen(self, value: Any) -> Any:
        """``value``, its size remembered."""
        size = abs(value)
        if size > self.peak:
            self.peak = size
        return value


class Digits(Floats):
    """Evaluation with sixty digits."""

    def number(self, value: Fraction) -> Any:
        """A rational number."""
        return _mp().mpf(value.numerator) / value.denominator

    def constant(self, name: str) -> Any:
        """A constant by its name."""
        mp = _mp()
        return {"pi": +mp.pi, "e": +mp.e, "i": mp.mpc(0, 1), "inf": mp.inf}[name]

    def coordinate(self, name: str) -> Any:
        """The value of a symbol."""
        return self.number(self.place(name))

    def power(self, base: Any, exponent: Any) -> Any:
        """A power."""
        return _mp().power(base, self.small(exponent))

    def function(self, name: str) -> Callable[..., Any]:
        """A function by its name."""
        found: Callable[..., Any] = _precise()[name]
        return found if name in _ANY_SIZE else lambda *x: found(*map(self.small, x))

    def small(self, value: Any) -> Any:
        """``value``, unless its power or sine would take for ever: these need as many digits as it has."""
        if abs(value) > _LARGE:
            raise UnknownValueError("an argument too large for sixty digits")
        return value


def coordinate(name: str, point: int) -> Fraction:
    """The value of a symbol at a point: the same in every process; see ``_POSITIVE`` for the signs."""
    digest = blake2b(f"{point}:{name}".encode(), digest_size=4).digest()
    value = Fraction(1, 5) + Fraction(int.from_bytes(digest, "big"), 1 << 31)
    return -value if point == _POINTS - 1 or (point >= _POSITIVE and digest[0] & 1) else value


def evaluate(tree: Tree, at: Floats) -> Any:
    """The value of a scalar tree."""
    kind = tree[0]
    if kind == "n":
        return at.seen(at.number(tree[1]))
    if kind == "s":
        return at.bound[tree[1]] if tree[1] in at.bound else at.coordinate(tree[1])
    if kind == "c":
        return at.bound[tree[1]] if tree[1] in at.bound else at.constant(tree[1])
    if kind == "+":
        total = evaluate(tree[1][0], at)
        for term in tree[1][1:]:
            total = total + evaluate(term, at)
            at.seen(total)
        return total
    if kind == "*":
        product = evaluate(tree[1][0], at)
        for factor in tree[1][1:]:
            product = product * evaluate(factor, at)
        return at.seen(product)
    if kind == "^":
        return at.seen(at.power(evaluate(tree[1], at), evaluate(tree[2], at)))
    if kind == "f":
        return at.seen(_apply(tree[1], tree[2], at))
    if kind in ("sum", "prod"):
        return _repeat(tree, at)
    raise UnknownValueError(kind)


def _apply(name: str, arguments: tuple[Tree, ...], at: Floats) -> Any:
    if name not in _FLOAT:
        raise UnknownValueError(name)
    return at.function(name)(*(evaluate(a, at) for a in arguments))


def _repeat(tree: Tree, at: Floats) -> Any:
    kind, name, first, last, body = tree
    low, high = _bound(first, at), _bound(last, at)
    at.terms += max(high - low, 0)
    if at.terms > _TERMS:
        raise UnknownValueError("too many terms")
    before = at.bound
    result: Any = 0 if kind == "sum" else 1
    for k in range(low, high + 1):
        at.bound = {**before, name: at.number(Fraction(k))}
        value = evaluate(body, at)
        result = result + value if kind == "sum" else result * value
    at.bound = before
    return result


def _bound(tree: Tree, at: Floats) -> int:
    value = evaluate(tree, at)
    if isinstance(value, complex) or not abs(value) < _LARGE or value != int(value):
        raise UnknownValueError("a bound that is no whole number")
    return int(value)


_FAILS = (ValueError, ZeroDivisionError, OverflowError, TypeError, ArithmeticError)


def compare(ours: Tree, theirs: Tree, relative: float = 0.0, absolute: float = 0.0) -> SamplingFinding:
    """Whether two scalar trees have one value everywhere that was looked."""
    constant = not (symbols(ours) or symbols(theirs))
    close = max(_CLOSE, 10 * relative)
    whole = counts(ours) | counts(theirs)
    points = 1 if constant else _WHOLE_POINTS if whole else _POINTS
    for point in range(points):
        try:
            at = Floats(point, whole)
            a = evaluate(ours, at)
            left = at.peak
            at = Floats(point, whole)
            b = evaluate(theirs, at)
        except _FAILS:
            break
        size = max(abs(a), abs(b))
        if not math.isfinite(size):
            if constant and (math.isinf(abs(a)) != math.isinf(abs(b)) or a != b):
                return (
                    SamplingFinding.DIFFERENT
                    if _infinite(ours) or _infinite(theirs)
                    else SamplingFinding.UNSURE
                )
            break
        sound = size > _CANCELLED * max(left, at.peak)
        if sound and abs(a - b) > max(close * size, 10 * absolute) and point < _POSITIVE:
            return SamplingFinding.DIFFERENT
    return _confirm(ours, theirs, points, relative, absolute)


def _infinite(tree: Tree) -> bool:
    return tree == ("c", "inf") or (tree[0] == "*" and ("c", "inf") in tree[1])


def _confirm(ours: Tree, theirs: Tree, points: int, relative: float, absolute: float) -> SamplingFinding:
    """Look again with sixty digits."""
    mp = _mp()
    whole = counts(ours) | counts(theirs)
    looked = 0
    for point in range(points):
        try:
            a, b = evaluate(ours, Digits(point, whole)), evaluate(theirs, Digits(point, whole))
            difference, size = abs(a - b), max(abs(a), abs(b))
        except _FAILS:
            continue
        if not mp.isfinite(size):
            continue
        looked += 1
        if difference <= max(mp.mpf(10) ** (15 - _DIGITS) * size, relative * size, absolute):
            continue
        if size < mp.mpf(10) ** (20 - _DIGITS):  # what is left of a cancellation
            continue
        # Where symbols are negative, roots and logarithms have branches.
        return SamplingFinding.DIFFERENT if point < _POSITIVE else SamplingFinding.UNSURE
    return SamplingFinding.EQUAL if looked > (_WHOLE_POINTS // 2 if whole else 0) else SamplingFinding.UNSURE


def fingerprint(tree: Tree) -> complex | None:
    """A number that is nearly the same for equal trees; ``None`` where there is none."""
    try:
        at = Floats(0)
        value = complex(evaluate(tree, at))  # with symbols in its bounds a sum has none
    except _FAILS:
        return None
    if not cmath.isfinite(value) or abs(value) < _CANCELLED * at.peak:
        return None
    return value


def _real(value: Any) -> float:
    if isinstance(value, complex):
        if value.imag:
            raise UnknownValueError("not real")
        return value.real
    return float(value)


def _base(value: Any, base: Any) -> float:
    digits, b = str(int(value)), int(base)
    if not 2 <= b <= 36:
        raise UnknownValueError("base")
    return float(int(digits, b))


def _gamma(value: Any) -> float:
    return math.gamma(_real(value) + 1)


def _choose(n: Any, k: Any) -> float:
    return _gamma(n) / _gamma(k) / _gamma(_real(n) - _real(k))


def _inverse(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: function(1 / x)


_FLOAT: dict[str, Callable[..., Any]] = {
    "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan,
    "cot": lambda x: 1 / cmath.tan(x), "sec": lambda x: 1 / cmath.cos(x), "csc": lambda x: 1 / cmath.sin(x),
    "arcsin": cmath.asin, "arccos": cmath.acos, "arctan": cmath.atan,
    "arccot": _inverse(cmath.atan), "arcsec": _inverse(cmath.acos), "arccsc": _inverse(cmath.asin),
    "sinh": cmath.sinh, "cosh": cmath.cosh, "tanh": cmath.tanh,
    "coth": lambda x: 1 / cmath.tanh(x), "sech": lambda x: 1 / cmath.cosh(x),
    "asinh": cmath.asinh, "acosh": cmath.acosh, "atanh": cmath.atanh,
    "ln": cmath.log, "log": cmath.log,
    "abs": abs, "floor": lambda x: float(math.floor(_real(x))), "ceil": lambda x: float(math.ceil(_real(x))),
    "max": lambda *x: max(map(_real, x)), "min": lambda *x: min(map(_real, x)),
    "!": _gamma, "binom": _choose, "base": _base,
}  # fmt: skip


@cache
def _mp() -> Any:
    """A context of our own: the precision of mpmath's global one is others' business."""
    import mpmath

    context = mpmath.mp.clone()
    context.dps = _DIGITS
    return context


@cache
def _precise() -> dict[str, Callable[..., Any]]:
    mp = _mp()
    names = {
        "arcsin": "asin",
        "arccos": "acos",
        "arctan": "atan",
        "arccot": "acot",
        "arcsec": "asec",
        "arccsc": "acsc",
    }
    names |= {"ln": "log", "abs": "fabs", "!": "factorial", "binom": "binomial"}
    same: dict[str, Callable[..., Any]] = {
        "base": lambda value, base: mp.mpf(_base(value, base)),
        "max": max,
        "min": min,
    }
    return {name: same[name] if name in same else getattr(mp, names.get(name, name)) for name in _FLOAT}
