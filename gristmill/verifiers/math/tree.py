"""Mathematical expressions as nested tuples in a light canonical form, with bounds on what is computed.

A tree is hashable and compares by value:

- ``("n", Fraction)``, ``("s", name)``, ``("c", "pi" | "e" | "i" | "inf")``
- ``("+", terms)``, ``("*", factors)``, ``("^", base, exponent)``, ``("f", name, arguments)``
- ``("meet" | "minus", two sets)``, ``("ratio", terms)``, ``("congruence", operators, modulus, sides)``,
  ``("such", what, conditions)``
- ``("tuple", opening, closing, items)``, ``("set", items)``, ``("list", items)``, ``("union", items)``,
  ``("matrix", columns, items)``, ``("rel", operators, sides)``,
  ``("sum" | "prod", variable, first, last, body)``

Like terms and powers are collected, numbers folded exactly and roots reduced as the tree is built, so many
equal answers become the same tree. No step expands a product of sums: the size stays that of the text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import msgspec

Tree = tuple[Any, ...]
COLLECTIONS = frozenset(
    {"tuple", "set", "list", "union", "meet", "minus", "matrix", "ratio", "congruence", "such"}
)
_SMALL_PRIMES = tuple(p for p in range(2, 1000) if all(p % q for q in range(2, int(p**0.5) + 1)))


class LimitError(ValueError):
    """An answer needs more than ``limit``, a field of ``Limits``, allows; the text says which."""

    def __init__(self, message: str, limit: str) -> None:
        super().__init__(f"{message} (limits.{limit})")


class NoValueError(ValueError):
    """An expression has no value, as a division by zero has none."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on what is read and computed before any answer is believed. Beyond them: ``unparseable``."""

    length: int = 2_000
    """Characters of an answer."""
    digits: int = 20_000
    """Decimal digits of an exact number, literal or computed."""
    nesting: int = 40
    """Depth of brackets, roots, fractions and powers."""
    exponent: int = 10_000
    """Absolute value of a numeric exponent."""
    factorial: int = 3_000
    """Argument of a factorial, and upper argument of a binomial."""
    items: int = 200
    """Items of a list, set, tuple or matrix."""
    terms: int = 1_000
    """Terms of a sum or factors of a product with written bounds."""

    def bounded(self, value: Fraction) -> Fraction:
        """``value``, or ``LimitError`` if it has too many digits."""
        bits = value.numerator.bit_length() + value.denominator.bit_length()
        if bits * 0.30103 > self.digits:
            raise LimitError(
                f"a number of about {int(bits * 0.30103):,} digits, over {self.digits:,}", "digits"
            )
        return value


def num(value: int | Fraction) -> Tree:
    """A rational number."""
    return ("n", value if type(value) is Fraction else Fraction(value))


_NONE: frozenset[str] = frozenset()
_NOTHING, _UNIT = Fraction(0), Fraction(1)
ZERO, ONE, MINUS = num(0), num(1), num(-1)
IMAGINARY: Tree = ("c", "i")
INF: Tree = ("c", "inf")
_SMALL = tuple(map(num, range(1_000)))
"""The whole numbers of most answers, made once: a fraction takes longer to make than a digit to read."""


def whole(digits: str) -> Tree:
    """The whole number that ``digits`` write."""
    value = int(digits)
    return _SMALL[value] if value < len(_SMALL) else num(value)


def add(limits: Limits, terms: Iterable[Tree]) -> Tree:
    """The sum, with like terms collected."""
    total = _NOTHING
    parts: dict[Tree, Fraction] = {}
    stack = list(terms)
    for term in stack:
        if term[0] == "+":
            stack.extend(term[1])
        elif term[0] == "n":
            total = limits.bounded(total + term[1])
        else:
            factor, rest = split(term)
            parts[rest] = parts.get(rest, Fraction(0)) + factor
    if not parts:
        return ("n", total)
    found = [scaled(factor, rest) for rest, factor in parts.items() if factor]
    if total or not found:
        found.append(num(total))
    return found[0] if len(found) == 1 else ("+", tuple(sorted(found, key=hash)))


def split(term: Tree) -> tuple[Fraction, Tree]:
    """A term as a number times the rest."""
    if term[0] == "*" and term[1][0][0] == "n":
        rest = term[1][1:]
        return term[1][0][1], rest[0] if len(rest) == 1 else ("*", rest)
    return Fraction(1), term


def scaled(factor: Fraction, rest: Tree) -> Tree:
    """``factor`` times a tree that carries no number of its own."""
    if factor == 1:
        return rest
    return ("*", (num(factor), *(rest[1] if rest[0] == "*" else (rest,))))


def multiply(limits: Limits, factors: Iterable[Tree]) -> Tree:
    """The product, with the powers of one base collected and a plain number distributed over a sum."""
    coefficient = _UNIT
    powers: dict[Tree, list[Tree]] = {}
    stack = list(factors)
    for factor in stack:
        if factor[0] == "*":
            stack.extend(factor[1])
        elif factor[0] == "n":
            coefficient = limits.bounded(coefficient * factor[1])
        else:
            base, exponent = (factor[1], factor[2]) if factor[0] == "^" else (factor, ONE)
            powers.setdefault(base, []).append(exponent)
    if not coefficient:
        return ZERO
    if not powers:
        return ("n", coefficient)
    found: list[Tree] = []
    for base, exponents in powers.items():
        whole = exponents[0] if len(exponents) == 1 else add(limits, exponents)
        factor = power(limits, base, whole) if len(exponents) > 1 else _joined(base, whole)
        number, rest = split(factor) if factor[0] != "n" else (factor[1], ONE)
        coefficient = limits.bounded(coefficient * number)
        if rest != ONE:
            found.extend(rest[1] if rest[0] == "*" else (rest,))
    if not found:
        return num(coefficient)
    if len(found) == 1 and found[0][0] == "+" and coefficient != 1:
        return add(limits, [multiply(limits, (num(coefficient), t)) for t in found[0][1]])
    found.sort(key=hash)
    return scaled(coefficient, found[0] if len(found) == 1 else ("*", tuple(found)))


def _joined(base: Tree, exponent: Tree) -> Tree:
    return base if exponent == ONE else ("^", base, exponent)


def negate(limits: Limits, tree: Tree) -> Tree:
    """Minus the tree."""
    return multiply(limits, (MINUS, tree))


def divide(limits: Limits, above: Tree, below: Tree) -> Tree:
    """The quotient. ``NoValueError`` for a division by zero."""
    return multiply(limits, (above, power(limits, below, MINUS)))


def power(limits: Limits, base: Tree, exponent: Tree) -> Tree:
    """``base`` to the ``exponent``; exact where both are rational and the result is not too large."""
    if exponent[0] != "n":
        if _tower(exponent):
            raise LimitError("a tower of powers", "exponent")
        return ("^", base, exponent)
    e: Fraction = exponent[1]
    if exponent is MINUS and base[0] == "n" and base[1]:
        return ("n", 1 / base[1])
    if e == 1:
        return base
    if abs(e) > limits.exponent:
        raise LimitError(f"an exponent over {limits.exponent:,}", "exponent")
    if base[0] == "n":
        return _number_power(limits, base[1], e)
    if base == IMAGINARY and e.denominator == 1:
        return (ONE, IMAGINARY, MINUS, multiply(limits, (MINUS, IMAGINARY)))[int(e) % 4]
    if e == 0:
        return ONE
    if e.denominator == 1 and base[0] == "^" and base[2][0] == "n":
        return power(limits, base[1], num(base[2][1] * e))
    if e.denominator == 1 and base[0] == "*":
        return multiply(limits, [power(limits, factor, exponent) for factor in base[1]])
    return ("^", base, exponent)


def _tower(tree: Tree) -> bool:
    """Whether an exponent itself is a power of a power."""
    return bool(tree[0] == "^" and tree[2][0] == "^" and tree[2][2][0] == "^")


def _number_power(limits: Limits, base: Fraction, e: Fraction) -> Tree:
    if base == 0 and e <= 0:
        raise NoValueError("a division by zero" if e < 0 else "zero to the zero")
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if bits > 1 and bits * abs(e) * 0.30103 > limits.digits:
        raise LimitError(f"a power with more than {limits.digits:,} digits", "digits")
    if e.denominator == 1:
        return num(base ** int(e))
    if e.denominator > 64:
        return ("^", num(base), num(e))
    if base < 0:
        if e.denominator == 2:  # the principal root
            return multiply(
                limits, (power(limits, IMAGINARY, num(e.numerator)), _number_power(limits, -base, e))
            )
        return ("^", num(base), num(e))
    whole = e.numerator // e.denominator
    return _root(limits, base, e - whole, base**whole)


def _root(limits: Limits, base: Fraction, e: Fraction, outside: Fraction) -> Tree:
    """``outside * base ** e`` for 0 < e < 1, the denominator made whole and full powers taken out."""
    n = e.denominator
    outside = limits.bounded(outside / base.denominator**e.numerator)
    radicand = limits.bounded(
        Fraction(base.numerator**e.numerator * base.denominator ** (e.numerator * (n - 1)))
    )
    left, taken = radicand.numerator, 1
    exact = _integer_root(left, n) if left.bit_length() < 4096 else None
    if exact is not None:
        return num(outside * exact)
    for prime in _SMALL_PRIMES:
        full = prime**n
        if full > left:
            break
        while left % full == 0:
            left //= full
            taken *= prime
    # A square under a higher root: 4^(1/4) is 2^(1/2).
    for d in range(n, 1, -1):
        if n % d == 0 and left.bit_length() < 4096 and (inner := _integer_root(left, d)) is not None:
            return scaled_root(outside * taken, Fraction(inner), Fraction(d, n))
    return scaled_root(outside * taken, Fraction(left), Fraction(1, n))


def scaled_root(factor: Fraction, radicand: Fraction, e: Fraction) -> Tree:
    """``factor * radicand ** e`` as a tree."""
    if e == 1 or radicand == 1:
        return num(factor * radicand)
    return scaled(factor, ("^", num(radicand), num(e)))


def _integer_root(value: int, n: int) -> int | None:
    """The exact n-th root of a natural number, or ``None``."""
    if n == 2:
        root = math.isqrt(value)
        return root if root * root == value else None
    if n > 64:
        return 1 if value == 1 else None
    low, high = 0, 1 << (value.bit_length() // n + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**n <= value else (low, middle - 1)
    return low if low**n == value else None


def factorial(limits: Limits, tree: Tree, step: int) -> Tree:
    """``tree!`` or, with step 2, ``tree!!``."""
    if tree[0] != "n":
        return ("f", "!" * step, (tree,))
    value: Fraction = tree[1]
    if value.denominator != 1 or value < 0:
        return ("f", "!" * step, (tree,))
    if value > limits.factorial:
        raise LimitError(f"a factorial over {limits.factorial:,}!", "factorial")
    n = int(value)
    whole = math.factorial(n) if step == 1 else math.prod(range(n, 0, -2))
    return num(limits.bounded(Fraction(whole)))


def binomial(limits: Limits, above: Tree, below: Tree) -> Tree:
    """The binomial coefficient, exact for small natural numbers."""
    if above[0] == "n" and below[0] == "n":
        n, k = above[1], below[1]
        if n.denominator == k.denominator == 1 and n >= 0 and k >= 0:
            if n > limits.factorial:
                raise LimitError(f"a binomial over {limits.factorial:,}", "factorial")
            return num(math.comb(int(n), int(k)))
    return ("f", "binom", (above, below))


def symbols(tree: Tree) -> frozenset[str]:
    """The names of the free symbols."""
    if tree[0] in ("n", "c"):
        return _NONE
    if tree[0] == "s":
        return frozenset({tree[1]})
    if tree[0] in ("sum", "prod"):
        return (symbols(tree[2]) | symbols(tree[3]) | symbols(tree[4])) - {tree[1]}
    found: frozenset[str] = frozenset()
    for part in tree[1:]:
        if isinstance(part, tuple):
            for inner in (part,) if part and isinstance(part[0], str) else part:
                if isinstance(inner, tuple):
                    found |= symbols(inner)
    return found


def counts(tree: Tree) -> frozenset[str]:
    """The free symbols in the bounds of sums and products: these are whole numbers."""
    if tree[0] in ("sum", "prod"):
        return symbols(tree[2]) | symbols(tree[3]) | (counts(tree[4]) - {tree[1]})
    if tree[0] in ("+", "*"):
        return frozenset[str]().union(*map(counts, tree[1]))
    if tree[0] == "^":
        return counts(tree[1]) | counts(tree[2])
    return frozenset[str]().union(*map(counts, tree[2])) if tree[0] == "f" else frozenset()


def repetitions(tree: Tree) -> int:
    """How often the innermost body of nested sums and products is evaluated."""
    if tree[0] in ("sum", "prod"):
        first, last = tree[2], tree[3]
        times = int(last[1] - first[1]) + 1 if first[0] == last[0] == "n" else 1
        return max(times, 1) * repetitions(tree[4])
    if tree[0] in ("+", "*"):
        return max(map(repetitions, tree[1]))
    if tree[0] == "^":
        return max(repetitions(tree[1]), repetitions(tree[2]))
    return max(map(repetitions, tree[2])) if tree[0] == "f" else 1
