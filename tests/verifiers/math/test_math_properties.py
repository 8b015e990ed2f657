"""Equality is an equivalence where it is exact, and right on pairs whose truth is known by construction."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.verdicts import Outcome
from gristmill.verifiers.math import group, verify

NUMBERS = st.sampled_from(
    [
        "0",
        "1",
        "2",
        "-3",
        r"\frac{1}{2}",
        "2/4",
        "0.5",
        r"\sqrt{2}",
        r"\frac{2}{\sqrt{2}}",
        r"\sqrt{8}/2",
        r"\pi",
        "e",
    ]
)
ATOMS = st.one_of(NUMBERS, st.sampled_from(["x", "y", r"\sin x", r"|x|", r"\sqrt{x}", r"\ln x", "2^x"]))
SUMS = st.tuples(ATOMS, st.sampled_from("+-"), ATOMS).map("".join)
PRODUCTS = st.tuples(ATOMS, ATOMS).map(lambda p: f"({p[0]})({p[1]})")
SCALARS = st.one_of(ATOMS, SUMS, PRODUCTS)
PARTS = st.lists(SCALARS, min_size=2, max_size=3).map(",".join)
ANSWERS = st.one_of(
    SCALARS,
    PARTS.map(lambda p: f"({p})"),
    PARTS.map(lambda p: rf"\{{{p}\}}"),
    st.tuples(NUMBERS, NUMBERS).map(lambda p: f"[{p[0]},{p[1]}]"),
    SCALARS.map(lambda s: f"x>{s}"),
)


def outcome(a: str, b: str) -> Outcome:
    return verify(rf"\boxed{{{a}}}", b).outcome


@settings(max_examples=200, deadline=None)
@given(ANSWERS)
def test_reflexive(a: str) -> None:
    assert outcome(a, a) is Outcome.CORRECT


@settings(max_examples=300, deadline=None)
@given(ANSWERS, ANSWERS)
def test_symmetric(a: str, b: str) -> None:
    assert outcome(a, b) is outcome(b, a)


@settings(max_examples=200, deadline=None)
@given(SCALARS, SCALARS, SCALARS)
def test_transitive(a: str, b: str, c: str) -> None:
    if outcome(a, b) is outcome(b, c) is Outcome.CORRECT:
        assert outcome(a, c) is Outcome.CORRECT


@settings(max_examples=60, deadline=None)
@given(st.lists(ANSWERS, min_size=2, max_size=7))
def test_group_is_pairwise_equality(answers: list[str]) -> None:
    classes = group(answers)
    of = {i: number for number, one in enumerate(classes) for i in one}
    for i, a in enumerate(answers):
        for j, b in enumerate(answers):
            assert (of[i] == of[j]) == (a == b or outcome(a, b) is Outcome.CORRECT), (a, b)


def test_what_group_says_about_lenient_equality_is_so() -> None:
    """5 is equal to 5 cm and to 5 kg, which are not equal: the first of a class decides."""
    assert group(["5", r"5\text{ cm}", r"5\text{ kg}"]) == [[0, 1, 2]]
    assert group([r"5\text{ cm}", r"5\text{ kg}", "5"]) == [[0, 2], [1]]


Known = tuple[str, str, bool]


class Made:
    """Pairs of known truth: an expression, what sympy makes of it, and what it is with a small change."""

    def __init__(self, seed: int) -> None:
        import sympy

        self.s: Any = sympy
        self.draw = random.Random(seed)
        self.x, self.y = sympy.symbols("x y")
        self.n = sympy.Symbol("n", integer=True)
        self.kinds: list[Callable[[], tuple[Any, Any]]] = [
            self.polynomial, self.factored, self.fractions, self.trigonometric, self.exponential,
            self.surd, self.number, self.logarithm, self.binomial,
        ]  # fmt: skip

    def whole(self, low: int = -9, high: int = 9) -> int:
        return self.draw.choice([k for k in range(low, high + 1) if k])

    def linear(self) -> Any:
        return self.whole() * self.x + self.whole() * self.draw.choice([1, self.y])

    def polynomial(self) -> tuple[Any, Any]:
        e = self.linear() * self.linear() + self.whole() * self.linear() ** self.draw.choice([2, 3])
        return e, self.s.expand(e)

    def factored(self) -> tuple[Any, Any]:
        e = self.s.expand(self.linear() * self.linear() * self.draw.choice([1, self.x + self.whole()]))
        return e, self.s.factor(e)

    def fractions(self) -> tuple[Any, Any]:
        a, b = self.whole(), self.whole(10, 19)
        e = self.s.Rational(self.whole(), 3) / (self.x + a) + self.linear() / (self.x + b)
        return e, self.draw.choice([self.s.together, self.s.factor])(e)

    def trigonometric(self) -> tuple[Any, Any]:
        e = (
            self.whole()
            * self.s.sin(self.x + self.whole() * self.y)
            * self.s.cos(self.draw.randint(2, 4) * self.x)
        )
        return e, self.s.expand_trig(e)

    def exponential(self) -> tuple[Any, Any]:
        e = self.s.exp(self.linear()) * self.draw.choice([2, self.x]) + self.s.exp(self.whole() * self.x) ** 2
        return e, self.s.expand(e)

    def surd(self) -> tuple[Any, Any]:
        a, b, c = self.whole(2, 30), self.whole(2, 30), self.whole(1, 9)
        e = c / (self.s.sqrt(a) + self.s.sqrt(b))
        return e, self.s.radsimp(e)

    def number(self) -> tuple[Any, Any]:
        a = Fraction(self.whole(), self.whole(2, 9))
        e = self.s.Rational(a.numerator, a.denominator) * self.draw.choice(
            [self.s.pi, self.s.E, self.s.sqrt(7)]
        )
        return self.s.Add(e, self.s.Rational(1, 6)), self.s.together(e + self.s.Rational(1, 6))

    def logarithm(self) -> tuple[Any, Any]:
        a, k = self.whole(2, 9), self.whole(2, 5)
        return self.s.log(a**k, evaluate=False), k * self.s.log(a)

    def binomial(self) -> tuple[Any, Any]:
        k = self.whole(1, 3)
        product = 1
        for i in range(k):
            product *= self.n - i
        return self.s.binomial(self.n, k, evaluate=False), product / self.s.factorial(k)

    def changed(self, e: Any) -> Any:
        """``e`` made something else: moved, stretched, or with one coefficient changed."""
        small = self.s.Rational(1, self.draw.choice([2, 10, 10**6, 10**12]))
        return self.draw.choice(
            [e + small, e - small, e * (1 + small), e + small * (e.free_symbols or {1}).pop()]
        )

    def pairs(self, count: int) -> Iterator[Known]:
        for i in range(count):
            first, second = self.kinds[i % len(self.kinds)]()
            true = i // len(self.kinds) % 2 == 0
            a, b = self.s.latex(first), self.s.latex(second if true else self.changed(second))
            # sympy writes the natural logarithm as \log.
            yield a.replace(r"\log", r"\ln"), b.replace(r"\log", r"\ln"), true


@pytest.mark.parametrize(("seed", "count"), [(1, 270), pytest.param(2, 3000, marks=pytest.mark.slow)])
def test_pairs_of_known_truth(seed: int, count: int) -> None:
    false_positives, false_negatives, undecided = [], [], []
    for a, b, true in Made(seed).pairs(count):
        found = outcome(a, b)
        if found is Outcome.CORRECT and not true:
            false_positives.append((a, b))
        elif found is Outcome.INCORRECT and true:
            false_negatives.append((a, b))
        elif found not in (Outcome.CORRECT, Outcome.INCORRECT):
            undecided.append((a, b, true))
    assert false_positives == []
    assert false_negatives == []
    assert len(undecided) <= 0.005 * count, undecided[:5]
