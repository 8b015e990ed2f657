"""Whether two trees have one value wherever it was looked: balls refute surely, and confirm to many digits.

Sampling may always call two expressions unequal. It calls them equal only if their functions are analytic
where it looked, or, with steps, absolute values, even roots, logarithms and inverse functions in them, if the
points reach far, on both sides of zero and of every number that is written in them.
"""

from __future__ import annotations

import cmath
import random
from collections.abc import Iterator, Mapping
from enum import Enum
from fractions import Fraction
from functools import cache
from hashlib import blake2b
from itertools import product
from typing import NamedTuple

from gristmill.verifiers.math.tree import Tree, counts, symbols
from gristmill.verifiers.math.values import SamplePoint, UnknownValueError, Value, exponent

_CONSTANT_BITS = 1 << 16
_FUNCTION_BITS = 1 << 12
_MARGIN = 64
"""Equal is what agrees to so many bits below the smallest value that was met."""
_SMOOTH_POINTS = 4
_STEPPED_POINTS = 96
"""Points of several symbols that functions with steps and branches are compared at."""
_ENOUGH = 3
_CONVENTIONAL = frozenset("nkmjN")
"""Letters that are whole numbers where something in the expression says so."""
_BRANCHED = frozenset(
    str.split(
        """
        abs floor ceil max min ln log log10 arcsin arccos arctan arccot arcsec arccsc asinh
        acosh atanh mod sgn
        """
    )
)
_COUNTING = frozenset(
    str.split(
        """
        floor ceil ! !! binom mod gcd lcm
        """
    )
)
_FAILS = (ValueError, ZeroDivisionError, OverflowError, ArithmeticError)


class SamplingFinding(Enum):
    """What sampling found out."""

    EQUAL = "equal"
    DIFFERENT = "different"
    UNSURE = "unsure"


class _Traits(NamedTuple):
    """What a tree holds that says where to look."""

    branched: bool
    counting: bool
    imaginary: bool
    logarithm: bool
    numbers: frozenset[Fraction]


def compare(
    ours: Tree,
    theirs: Tree,
    relative: float = 0.0,
    absolute: float = 0.0,
    *,
    whole: frozenset[str] = frozenset(),
    base: int | None = None,
) -> SamplingFinding:
    """Whether two scalar trees have one value everywhere that was looked.

    ``whole`` are symbols that are known to be whole numbers, ``base`` the base of a bare logarithm.
    """
    names = sorted(symbols(ours) | symbols(theirs))
    a, b = traits(ours), traits(theirs)
    if not names:
        return _constants(ours, theirs, relative, absolute, base, imaginary=a.imaginary or b.imaginary)
    integral = {n for n in names if n in whole or n in counts(ours) | counts(theirs)}
    if a.counting or b.counting:
        integral |= {n for n in names if n[0] in _CONVENTIONAL and n[1:2] in ("", "_")}
    looked, mismatch = 0, False
    for values in _points(names, integral, a, b):
        verdict = _at(values, ours, theirs, (relative, absolute), base)
        if verdict is None:
            continue
        difference, first, second = verdict
        if a.imaginary or b.imaginary:
            first = second = False
            if any(v < 0 for v in values.values()):
                continue
        if difference:
            if not first and not second:
                return SamplingFinding.DIFFERENT
        elif difference is False and first == second:
            looked += 1
        mismatch |= first != second and _in_sight(values, integral)
    if mismatch or looked < _ENOUGH:
        return SamplingFinding.UNSURE
    return SamplingFinding.EQUAL


def _in_sight(values: Mapping[str, Fraction], integral: set[str]) -> bool:
    """Whether a point counts against expressions only one of which has a value there.

    Of several symbols, people take all but one for positive; and formulas in whole numbers begin somewhere.
    """
    return not integral and all(values.values()) and sum(v < 0 for v in values.values()) < 2


@cache
def traits(tree: Tree) -> _Traits:
    """Which branches, steps, whole numbers, imaginary units and logarithms without a base a tree has."""
    kind = tree[0]
    if kind == "n":
        return _Traits(False, False, False, False, frozenset({abs(tree[1])}))
    if kind in ("s", "c"):
        return _Traits(False, False, tree == ("c", "i"), False, frozenset())
    branched = counting = logarithm = False
    if kind == "^":
        parts = tree[1:]
        if symbols(tree[1]) and not (tree[2][0] == "n" and tree[2][1].denominator == 1):
            branched = True
        if tree[1][0] == "n" and tree[1][1] < 0 and symbols(tree[2]):
            counting = True
    elif kind == "f":
        parts = tree[2]
        branched = tree[1] in _BRANCHED and bool(symbols(tree))
        counting = tree[1] in _COUNTING or (tree[1] in ("sin", "cos", "tan") and _turns(tree[2][0]))
        logarithm = tree[1] == "log"
    elif kind in ("sum", "prod"):
        parts, counting = tree[2:], True
    else:
        parts = tree[1] if kind in ("+", "*") else ()
    inner = [traits(p) for p in parts]
    return _Traits(
        branched or any(t.branched for t in inner),
        counting or any(t.counting for t in inner),
        any(t.imaginary for t in inner),
        logarithm or any(t.logarithm for t in inner),
        frozenset[Fraction]().union(*(t.numbers for t in inner)),
    )


def _turns(tree: Tree) -> bool:
    """Whether an angle is a multiple of pi with a symbol in it."""
    return tree[0] == "*" and ("c", "pi") in tree[1] and bool(symbols(tree))


def _points(names: list[str], integral: set[str], a: _Traits, b: _Traits) -> Iterator[dict[str, Fraction]]:
    """Where to look: the same points in every process."""
    draw = random.Random("".join(names).encode("utf-8", "surrogatepass"))
    for point in range(_SMOOTH_POINTS):
        yield {
            n: Fraction(2 + point + 3 * names.index(n)) if n in integral else coordinate(n, point)
            for n in names
        }
    stepped = a.branched or b.branched
    for name in names:
        yield {
            n: (-1 if n == name else 1)
            * (Fraction(3 + names.index(n)) if n in integral else coordinate(n, 5))
            for n in names
        }
    if not (stepped or integral):
        return
    wide = _wide(a.numbers | b.numbers) if stepped else ()
    counted = [Fraction(k) for k in (*range(1, 25), 37, 50, 101, 0, *range(-1, -8, -1))]
    columns = [counted if n in integral else [*wide] or [coordinate(n, k) for k in range(6)] for n in names]
    total = 1
    for column in columns:
        total *= len(column)
    if total <= 3 * _STEPPED_POINTS:
        for values in product(*columns):
            yield dict(zip(names, values, strict=True))
        return
    for _ in range(2 * _STEPPED_POINTS):
        yield {n: draw.choice(column) for n, column in zip(names, columns, strict=True)}


def _wide(numbers: frozenset[Fraction]) -> list[Fraction]:
    """Numbers far and near, on both sides of zero and of ``numbers``."""
    found = [Fraction(k) for k in range(-6, 13)]
    found += [Fraction(2 * k + 1, 2) for k in range(-8, 9)] + [
        Fraction(1, 7),
        Fraction(-2, 9),
        Fraction(22, 7),
    ]
    found += [
        sign * Fraction(10) ** k * Fraction(37, 20) for sign in (1, -1) for k in (-3, 1, 2, 3, 4, 6, 9, 12)
    ]
    for number in sorted(numbers)[:24]:
        if 0 < number < 10**30:
            found += [s * number + d for s in (1, -1) for d in (0, Fraction(-3, 4), Fraction(4, 5))]
            found += [2 * number, -2 * number]
    return list(dict.fromkeys(found))


def coordinate(name: str, point: int) -> Fraction:
    """A value between 0.2 and 2.2 for a symbol at a point: the same in every process."""
    digest = blake2b(f"{point}:{name}".encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return Fraction(1, 5) + Fraction(int.from_bytes(digest, "big"), 1 << 31)


def _at(
    values: Mapping[str, Fraction],
    ours: Tree,
    theirs: Tree,
    tolerance: tuple[float, float],
    base: int | None,
    most: int = _FUNCTION_BITS,
) -> tuple[bool | None, bool, bool] | None:
    """Whether the two differ at a point (``None``: not told), and which has no real value there.

    ``None`` where both have no value at all.
    """
    with _Precision() as precision:
        bits = 128
        while True:
            precision.set(bits)
            first, second = SamplePoint(values, base=base), SamplePoint(values, base=base)
            a, b = _value(first, ours), _value(second, theirs)
            if a is None or b is None:
                return None if a is None and b is None else (None, a is None, b is None)
            told = _differ(first, a, b, min(first.low, second.low), tolerance)
            if told is not None or bits >= most:
                return told, first.complex, second.complex
            wanted = max(first.high, second.high) - min(first.low, second.low) + 2 * _MARGIN
            bits = min(max(2 * bits, min(wanted, most)), most)


def _value(point: SamplePoint, tree: Tree) -> Value | None:
    try:
        return point.evaluate(tree)
    except UnknownValueError:
        return None
    except _FAILS:
        return None


def _differ(point: SamplePoint, a: Value, b: Value, low: int, tolerance: tuple[float, float]) -> bool | None:
    """Whether two values differ; ``None`` if the precision does not tell."""
    flint = point.flint
    difference = a - b
    if isinstance(difference, flint.fmpq):
        if not difference:
            return False
        difference = flint.arb(difference)
        a, b = point.ball(a), point.ball(b)
    if any(tolerance):
        gap = abs(difference)
        allowed = tolerance[0] * _larger(abs(point.ball(a)), abs(point.ball(b)))
        allowed = _larger(allowed, flint.arb(tolerance[1]))
        if gap <= allowed:
            return False
        return True if gap > allowed else None
    if not difference.contains(0):
        return True
    top = exponent(difference.abs_upper())
    return False if top is None or top < low - _MARGIN else None


def _larger(a: Value, b: Value) -> Value:
    return a.max(b)


def _constants(
    ours: Tree,
    theirs: Tree,
    relative: float,
    absolute: float,
    base: int | None,
    *,
    imaginary: bool,
) -> SamplingFinding:
    infinite = _infinite(ours), _infinite(theirs)
    if any(infinite):
        if all(infinite) and ours != theirs:
            return SamplingFinding.DIFFERENT
        told = _at({}, *((theirs, theirs) if infinite[0] else (ours, ours)), (0.0, 0.0), base)
        return SamplingFinding.DIFFERENT if told and told[0] is False else SamplingFinding.UNSURE
    told = _at({}, ours, theirs, (relative, absolute), base, _CONSTANT_BITS)
    if told is None or told[0] is None:
        return SamplingFinding.UNSURE
    if not told[0] and told[1] != told[2] and not imaginary:
        return SamplingFinding.EQUAL
    return SamplingFinding.DIFFERENT if told[0] else SamplingFinding.EQUAL


def _infinite(tree: Tree) -> bool:
    return tree == ("c", "inf") or (tree[0] == "*" and ("c", "inf") in tree[1])


def number(tree: Tree) -> float | None:
    """A constant as a float, to order by; ``None`` if it is not a real number."""
    if _infinite(tree):
        return (
            float("-inf") if tree[0] == "*" and tree[1][0][0] == "n" and tree[1][0][1] < 0 else float("inf")
        )
    found = fingerprint(tree)
    return found.real if found is not None and not symbols(tree) and abs(found.imag) < 1e-12 else None


def fingerprint(tree: Tree) -> complex | None:
    """A number that is nearly the same for equal trees; ``None`` where there is none."""
    names = symbols(tree)
    if counts(tree) or traits(tree).logarithm:
        return None
    with _Precision() as precision:
        precision.set(256)
        point = SamplePoint({n: coordinate(n, 0) for n in names})
        value = _value(point, tree)
        if value is None:
            return None
        ball = point.flint.acb(point.ball(value))
        real, imaginary = float(ball.real.mid()), float(ball.imag.mid())
        if float(ball.real.rad()) > 1e-9 * max(abs(real), 1e-300) or not cmath.isfinite(
            complex(real, imaginary)
        ):
            return None
        return complex(real, imaginary)


class _Precision:
    """Arb's precision for a while: it is one for the process, and others may use it."""

    def __enter__(self) -> _Precision:
        import flint

        self.context = flint.ctx
        self.before = int(flint.ctx.prec)
        return self

    def set(self, bits: int) -> None:
        """Compute with so many bits."""
        self.context.prec = bits

    def __exit__(self, *_: object) -> None:
        self.context.prec = self.before
