"""Values of a tree at a point: exact rationals as long as possible, then balls (Arb) that hold the value.

A ball is a number with a bound on its error, so that two that do not overlap are surely different. Nothing
here runs away: the precision bounds what is computed, and what would need more becomes a ball that says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache
from typing import Any

from gristmill.verifiers.math.tree import Tree

_TERMS = 5_000
"""Terms of the sums and products of a tree, evaluated once."""
_EXACT_BITS = 20_000
"""Bits of an exact power; a larger one becomes a ball."""
_LARGEST_BOUND = 10**6
_WHOLE = 100
"""A ball that holds one whole number and has a radius below 2^-100 is taken for it."""
Value = Any
"""An ``fmpq``, an ``arb`` (real) or an ``acb`` (complex)."""


class UnknownValueError(ValueError):
    """The tree holds something that has no number here, or none at this point."""


class SamplePoint:
    """Where a tree is evaluated: exact values of its symbols, and the logarithm's base where it is bare.

    After an evaluation ``complex`` says whether anything on the way was not real, ``low`` and ``high`` the
    binary exponents of the smallest and the largest value on the way.
    """

    def __init__(self, values: Mapping[str, Fraction], *, base: int | None = None) -> None:
        self.flint = _flint()
        self.values = {name: self.number(value) for name, value in values.items()}
        self.base = base
        self.bound: dict[str, Value] = {}
        self.terms = 0
        self.complex = False
        self.low, self.high = 0, 0

    def number(self, value: Fraction) -> Value:
        """An exact rational."""
        return self.flint.fmpq(value.numerator, value.denominator)

    def evaluate(self, tree: Tree) -> Value:
        """The value of a scalar tree. ``UnknownValueError`` where it has none."""
        kind = tree[0]
        if kind == "n":
            value = self.number(tree[1])
        elif kind in ("s", "c"):
            return self.named(kind, tree[1])
        elif kind == "+":
            value = self.evaluate(tree[1][0])
            for term in tree[1][1:]:
                value = value + self.evaluate(term)
        elif kind == "*":
            value = self.evaluate(tree[1][0])
            for factor in tree[1][1:]:
                value = value * self.evaluate(factor)
        elif kind == "^":
            value = self.power(tree[1], tree[2])
        elif kind == "f":
            value = self.apply(tree[1], [self.evaluate(a) for a in tree[2]])
        elif kind in ("sum", "prod"):
            value = self.repeat(tree)
        else:
            raise UnknownValueError(kind)
        return self.seen(value)

    def named(self, kind: str, name: str) -> Value:
        """A symbol or a constant."""
        if name in self.bound:
            return self.bound[name]
        if kind == "s":
            if name not in self.values:
                raise UnknownValueError(name)
            return self.values[name]
        flint = self.flint
        if name == "pi":
            return flint.arb.pi()
        if name == "e":
            return flint.arb(1).exp()
        if name == "i":
            return flint.acb(0, 1)
        raise UnknownValueError(name)

    def seen(self, value: Value) -> Value:
        """``value``, its size remembered. ``UnknownValueError`` if it is not finite."""
        if isinstance(value, self.flint.fmpq):
            if value:
                size = int(value.p).bit_length() - int(value.q).bit_length()
                self.low, self.high = min(self.low, size - 1), max(self.high, size + 1)
            return value
        if not value.is_finite():
            raise UnknownValueError("not finite")
        low, high = exponent(value.abs_lower()), exponent(value.abs_upper())
        if low is not None:
            self.low = min(self.low, low)
        if high is not None:
            self.high = max(self.high, high)
        return value

    def real(self, value: Value) -> Value:
        """An exact rational or a real ball."""
        if isinstance(value, self.flint.acb):
            if not value.imag.is_zero():
                raise UnknownValueError("not real")
            return value.real
        return value

    def ball(self, value: Value) -> Value:
        """A ball, real where ``value`` is."""
        return self.flint.arb(value) if isinstance(value, self.flint.fmpq) else value

    def power(self, base_tree: Tree, exponent_tree: Tree) -> Value:
        """A power; an odd root of a negative number is its real one."""
        flint = self.flint
        if base_tree == ("c", "e"):
            return self.ball(self.evaluate(exponent_tree)).exp()
        base, power = self.evaluate(base_tree), self.evaluate(exponent_tree)
        if isinstance(power, flint.fmpq) and isinstance(base, flint.fmpq) and power.q == 1:
            n = int(power.p)
            if n < 0 and not base:
                raise UnknownValueError("a division by zero")
            size = max(int(base.p).bit_length(), int(base.q).bit_length())
            if abs(n) * size <= _EXACT_BITS:
                return base**n
        if not base and isinstance(base, flint.fmpq):
            if isinstance(power, flint.fmpq) and power > 0:
                return base
            raise UnknownValueError("a power of zero")
        base = self.ball(base)
        if isinstance(power, flint.fmpq):
            if power.q == 1:
                return base ** flint.fmpz(power.p) if abs(power.p) < 2**62 else base ** self.ball(power)
            if isinstance(base, flint.arb) and base < 0:
                if power.q % 2:
                    root = (-base) ** self.ball(power)
                    return -root if power.p % 2 else root
                self.complex = True
                return flint.acb(base) ** flint.acb(self.ball(power))
            return self.tried(base, lambda x: x ** type(x)(self.ball(power)))
        power = self.ball(power)
        if isinstance(power, flint.acb) or isinstance(base, flint.acb):
            return flint.acb(base) ** flint.acb(power)
        return self.tried(base, lambda x: x ** type(x)(power))

    def tried(self, value: Value, function: Callable[[Value], Value]) -> Value:
        """A function in the real numbers, and where it has no value there in the complex ones."""
        value = self.ball(value)
        found = function(value)
        if found.is_finite() or isinstance(value, self.flint.acb):
            return found
        found = function(self.flint.acb(value))
        if found.is_finite():
            self.complex = True
        return found

    def apply(self, name: str, arguments: list[Value]) -> Value:
        """A function by its name."""
        if name in _STEPS:
            return _STEPS[name](self, *map(self.real, arguments))
        if name in ("ln", "log"):
            found = self.tried(arguments[0], lambda x: x.log())
            if name == "log" and self.base is not None:
                found = found / self.flint.arb(self.base).log()
            return found
        if name == "log10":
            return self.tried(arguments[0], lambda x: x.log()) / self.flint.arb(10).log()
        method = _METHODS.get(name)
        if method is None or len(arguments) != 1:
            raise UnknownValueError(name)
        if name in _OF_INVERSE:
            if not arguments[0]:
                raise UnknownValueError("a division by zero")
            return self.tried(1 / arguments[0], lambda x: getattr(x, method)())
        return self.tried(arguments[0], lambda x: getattr(x, method)())

    def repeat(self, tree: Tree) -> Value:
        """A sum or product with bounds that are whole numbers here."""
        kind, name, first, last, body = tree
        low, high = self.whole(self.evaluate(first)), self.whole(self.evaluate(last))
        self.terms += max(high - low, 0)
        if self.terms > _TERMS or max(abs(low), abs(high)) > _LARGEST_BOUND:
            raise UnknownValueError("too many terms")
        if high < low - 1:
            raise UnknownValueError("a sum that ends before it begins")
        before = self.bound
        result = self.number(Fraction(0 if kind == "sum" else 1))
        for k in range(low, high + 1):
            self.bound = {**before, name: self.number(Fraction(k))}
            value = self.evaluate(body)
            result = result + value if kind == "sum" else result * value
        self.bound = before
        return result

    def whole(self, value: Value) -> int:
        """The whole number that ``value`` is. ``UnknownValueError`` if it is none."""
        value = self.real(value)
        if isinstance(value, self.flint.fmpq):
            if value.q != 1:
                raise UnknownValueError("no whole number")
            return int(value.p)
        near = value.unique_fmpz()
        if near is None or not value.rad() < self.flint.arb(2) ** -_WHOLE:
            raise UnknownValueError("no whole number")
        return int(near)


def exponent(value: Value) -> int | None:
    """The binary exponent of a positive number; ``None`` for zero and what is not finite."""
    if not value.is_finite() or value.is_zero():
        return None
    mantissa, power = value.mid().man_exp()
    return int(power) + int(abs(mantissa)).bit_length()


def _rounded(at: SamplePoint, value: Value, *, up: bool) -> Value:
    if isinstance(value, at.flint.fmpq):
        whole = math.ceil(Fraction(int(value.p), int(value.q))) if up else int(value.p) // int(value.q)
        return at.number(Fraction(whole))
    low, high = (value.lower().ceil(), value.upper().ceil()) if up else (
        value.lower().floor(), value.upper().floor())  # fmt: skip
    a, b = low.unique_fmpz(), high.unique_fmpz()
    if a is None or b is None:
        raise UnknownValueError("no whole number")
    return at.number(Fraction(int(a) if a == b else at.whole(value)))


def _absolute(at: SamplePoint, value: Value) -> Value:
    return abs(value)


def _largest(at: SamplePoint, *values: Value) -> Value:
    found = at.ball(values[0])
    for value in values[1:]:
        found = found.max(at.ball(value))
    return found


def _smallest(at: SamplePoint, *values: Value) -> Value:
    return -_largest(at, *(-v for v in values))


def _factorial(at: SamplePoint, value: Value) -> Value:
    if isinstance(value, at.flint.fmpq) and value.q == 1:
        if value < 0:
            raise UnknownValueError("a factorial below zero")
        if value <= 500:
            return at.number(Fraction(math.factorial(int(value.p))))
    return (at.ball(value) + 1).gamma()


def _double_factorial(at: SamplePoint, value: Value) -> Value:
    n = at.whole(value)
    if not 0 <= n <= 1000:
        raise UnknownValueError("a double factorial")
    return at.number(Fraction(math.prod(range(n, 0, -2))))


def _choose(at: SamplePoint, n: Value, k: Value) -> Value:
    exact = isinstance(n, at.flint.fmpq) and isinstance(k, at.flint.fmpq) and n.q == k.q == 1
    if exact and 0 <= n <= 2000 and 0 <= k <= 2000:
        return at.number(Fraction(math.comb(int(n.p), int(k.p))))
    n, k = at.ball(n), at.ball(k)
    return (n + 1).gamma() * (k + 1).rgamma() * (n - k + 1).rgamma()


def _based(at: SamplePoint, value: Value, base: Value) -> Value:
    digits, b = str(at.whole(value)), at.whole(base)
    if not 2 <= b <= 36:
        raise UnknownValueError("a base")
    try:
        return at.number(Fraction(int(digits, b)))
    except ValueError as error:
        raise UnknownValueError("a digit that the base does not have") from error


def _remainder(at: SamplePoint, value: Value, modulus: Value) -> Value:
    n, m = at.whole(value), at.whole(modulus)
    if m <= 0:
        raise UnknownValueError("a modulus")
    return at.number(Fraction(n % m))


def _divisor(at: SamplePoint, *values: Value) -> Value:
    return at.number(Fraction(math.gcd(*map(at.whole, values))))


def _multiple(at: SamplePoint, *values: Value) -> Value:
    return at.number(Fraction(math.lcm(*map(at.whole, values))))


def _sign(at: SamplePoint, value: Value) -> Value:
    for sign in (1, -1):
        if value * sign > 0:
            return at.number(Fraction(sign))
    if isinstance(value, at.flint.fmpq):
        return value
    raise UnknownValueError("a sign that cannot be told")


_STEPS: dict[str, Callable[..., Value]] = {
    "floor": lambda at, x: _rounded(at, x, up=False),
    "ceil": lambda at, x: _rounded(at, x, up=True),
    "abs": _absolute,
    "max": _largest,
    "min": _smallest,
    "!": _factorial,
    "!!": _double_factorial,
    "binom": _choose,
    "base": _based,
    "mod": _remainder,
    "gcd": _divisor,
    "lcm": _multiple,
    "sgn": _sign,
}
_METHODS = {name: name for name in "sin cos tan cot sec csc sinh cosh tanh coth sech csch".split()}  # noqa: SIM905
_METHODS |= {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "atan", "arcsec": "acos"}
_METHODS |= {"arccsc": "asin", "asinh": "asinh", "acosh": "acosh", "atanh": "atanh", "gamma": "gamma"}
_OF_INVERSE = frozenset({"arccot", "arcsec", "arccsc"})
NAMES = frozenset(_STEPS) | frozenset(_METHODS) | {"ln", "log", "log10"}
"""The functions that have values here."""


@cache
def _flint() -> Any:
    """Imported only where a value is wanted."""
    import flint

    return flint
