"""Which answers are equal, where they are found, what is a setting, which are one class."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.verdicts import Outcome
from gristmill.verifiers.math import Limits, Math, extract, group, verify
from gristmill.verifiers.pool.pool import Pool

SAME = [
    # units, percent, currency, degrees, thousands
    (r"90^\circ", "90"),
    (r"10\text{ cm}", r"0.1\text{ m}"),
    (r"864 \mbox{ inches}^2", "864 square inches"),
    (r"\$32,\!348", "32348"),
    ("18 dollars", r"\$18"),
    (r"5.4 \text{ cents}", r"\$0.054"),
    (r"8\%", "0.08"),
    (r"8\%", "8"),
    (r"10,\!080", "10080"),
    ("58, 500", "58,500"),
    (r"\text{Evelyn}", "evelyn"),
    ("banana", "banana"),
    # numbers
    (r"1\frac{4}{5}", "9/5"),
    ("1 4/5", "1.8"),
    (r"6.02\times10^{23}", "6.02e23"),
    (r"\frac43", "4/3"),
    (r"\frac{1}{\sqrt{3}}", r"\frac{\sqrt3}{3}"),
    (r"\sqrt[3]{54}", r"3\sqrt[3]{2}"),
    (r"\sqrt{3+2\sqrt{2}}", r"1+\sqrt2"),
    ("52", "52_8"),
    (r"\binom{5}{2}", "10"),
    (r"\sum_{k=1}^{10} k", "55"),
    ("-1./3", r"-\frac13"),
    # lists, sets, tuples, intervals, matrices
    (r"1 \pm \sqrt{19}", r"1-\sqrt{19}, 1+\sqrt{19}"),
    (r"x=1 \text{ or } x=2", "2, 1"),
    ("1, 2 and 3", r"\{3,2,1\}"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)"),
    (r"(-\infty,2)\cup(3,\infty)", r"(3,\infty)\cup(-\infty, 2)"),
    (r"-2\le x\le 7", r"x \in [-2,7]"),
    ("x > 5", r"(5,\infty)"),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{bmatrix} 1 & 4/2\\3&4\end{bmatrix}"),
    # expressions and equations
    (r"\sin^2 x+\cos^2 x", "1"),
    ("x^2-1", "(x-1)(x+1)"),
    (r"\log_{2} 8", "3"),
    ("2y=4x+6", "y = 2x + 3"),
    ("f(x)=2x", "2x"),
    (r"1-1/\mathrm{e}", "1-e^{-1}"),
    (r"\lfloor n/2 \rfloor + 1", r"1+\left\lfloor\frac{n}{2}\right\rfloor"),
    # choices
    ("(C)", r"\text{(C)}"),
    ("C", r"\text{(C)}"),
    (r"(C)\ 12", "C"),
    ("(C) 12", "12"),
]
DIFFERENT = [
    ("1-1/e", r"1+1/\mathrm{e}"),
    (r"1-1/\mathrm{e}", "1+1/e"),
    ("1/2004!", "1/2006!"),
    ("1/2^{99}", "1/2^{98}"),
    ("3*x-1*y+13=0", "3x + 4y + 14=0"),
    ("0.00000000000000000001", "0.00000000000000000002"),
    ("1e-30", "2e-30"),
    (r"\sqrt{10^{40}+1}", "10^{20}"),
    ("1000001", "1000000"),
    ("1000001", "1000000.0"),
    ("nabana", "banana"),
    ("dogs chase cats", "cats chase dogs"),
    (r"10\text{ cm}", r"10\text{ m}"),
    (r"\sqrt{x^2}", "x"),
    ("x=5", "y=5"),
    ("(2,1)", "(1,2)"),
    ("1,1,2", "1,2,2"),
    ("1,2", "1,2,3"),
    (r"\begin{pmatrix} 1 & 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    ("x > 5", r"[5,\infty)"),
    ("x > y", "x < y"),
    ("(B) 12", r"\text{(C)}"),
    ("(2,251,252)", "2251252"),
    ("3.14", r"\pi"),
    (r"8\%", "0.8"),
    ("y=2x", "y=2x+1"),
    ("I(0)", "0"),
    ("I(0)", r"I(0) e^{-\frac{t}{R C}}"),
    (r"\$36", r"36^\circ"),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_same(a: str, b: str) -> None:
    assert verify(rf"\boxed{{{a}}}", b).outcome is Outcome.CORRECT
    assert verify(rf"\boxed{{{b}}}", a).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different(a: str, b: str) -> None:
    for x, y in ((a, b), (b, a)):
        verdict = verify(rf"\boxed{{{x}}}", y)
        assert verdict.outcome is Outcome.INCORRECT, verdict


@pytest.mark.parametrize(
    ("text", "answer", "how"),
    [
        (r"so \boxed{1} and \boxed{2}.", "1, 2", "boxed"),
        (r"\boxed{1} was wrong. \boxed{2}", "2", "boxed"),
        ("2 + 3 = 5\n#### 5", "5", "####"),
        (r"The answer is $x=\frac12$.", r"$x=\frac12$", "phrase"),
        ("Final answer: 1.5 because of that.", "1.5", "phrase"),
        (r"\frac12", r"\frac12", "whole text"),
        (r"We get $3$ and so $x = 4$ there.", "x = 4", "last expression"),
        ("He pays 3 and then 1,250 in all.", "1,250", "last expression"),
    ],
)
def test_extraction(text: str, answer: str, how: str) -> None:
    assert extract(text) == (answer, how)
    assert (how in verify(text, answer).detail) == (how != "boxed")


def test_nothing_to_extract() -> None:
    assert extract("I have no idea at all.") is None
    assert extract("") is None


def test_tolerance_is_the_users_choice() -> None:
    assert not verify(r"\boxed{3.14}", r"\pi").correct
    assert Math(tolerance_relative=1e-3)(r"\boxed{3.14}", r"\pi").correct
    assert Math(tolerance_absolute=0.5)(r"\boxed{3.5}", "3").correct
    assert not Math(tolerance_absolute=0.5)(r"\boxed{4}", "3").correct  # exact stays exact
    assert not Math(tolerance_relative=0.0)(r"\boxed{0.333333}", r"\frac13").correct


def test_limits_are_settings() -> None:
    assert verify(r"\boxed{50!/49!}", "50").correct
    verdict = Math(limits=Limits(factorial=20))(r"\boxed{50!/49!}", "50")
    assert (verdict.outcome, verdict.rule, verdict.detail) == (
        Outcome.UNPARSEABLE,
        "limit",
        "a factorial over 20! (limits.factorial)",
    )


def test_options_through_the_pool() -> None:
    options = {"tolerance_relative": 0.01, "limits": {"factorial": 5}}
    with Pool("gristmill.verifiers.math:Math", workers=1, options=options) as pool:
        assert pool.verify(r"\boxed{3.14}", r"\pi").correct
        assert pool.verify(r"\boxed{6!}", "720").rule == "limit"


def test_group() -> None:
    answers = [
        "1/2",
        "0.5",
        "x+1",
        r"\frac12",
        "1+x",
        "2",
        "banana",
        "Banana",
        ")(",
        "9^9^9^9",
        "(1+x)^2",
        "x^2+2x+1",
    ]
    assert group(answers) == [[0, 1, 3], [2, 4], [5], [6, 7], [8], [9], [10, 11]]
    assert group([]) == []


def test_group_compares_few(monkeypatch: pytest.MonkeyPatch) -> None:
    from gristmill.verifiers.math import decide

    forms = [r"\frac{{{0}}}{{7}}+x", r"x+{0}/7", r"\frac{{7x+{0}}}{{7}}", r"\left(x+\frac{{{0}}}7\right)"]
    answers = [forms[i // 40 % 4].format(3 * (i % 40) + 100) + " " * (i // 160) for i in range(1000)]
    calls = 0
    judge = decide.judge

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return judge(*arguments)

    monkeypatch.setattr(decide, "judge", counted)
    classes = group(answers)
    assert sorted(map(len, classes)) == [25] * 40
    assert [c[0] for c in classes] == list(range(40))
    assert calls < 1000


def test_memo(monkeypatch: pytest.MonkeyPatch) -> None:
    from gristmill.verifiers.math import decide

    first = verify(r"\boxed{(a+7)^3}", "(7+a)^3")
    monkeypatch.setattr(decide, "judge", None)  # it is not asked again
    assert verify(r"Once more \boxed{(a+7)^3}", "(7+a)^3") is first
    assert Math(tolerance_relative=0.1)(r"\boxed{(a+7)^3}", "(7+a)^3").outcome is Outcome.ERROR


ALPHABET = (
    r"\frac { } \sqrt ^ _ ( ) [ ] 1 2 09 x e i + - \pm , \text{ ! ° % $ \ \\ & \begin{pmatrix} \end{pmatrix} "
    r"= < \le and or | \lfloor \rfloor \sum_{k=1}^ \prod \binom . \infty \pi sin \log \cup \{ \} cm \in "
    r"\mathrm{ ½ ² ' / * : 1e9 boxed{"
)
PIECES = st.sampled_from(ALPHABET.split())


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=14).map("".join)), st.lists(PIECES, max_size=6)
)
def test_no_text_breaks_it(text: str, reference: list[str]) -> None:
    for completion in (text, rf"\boxed{{{text}}}"):
        verdict = verify(completion, "".join(reference))
        assert verdict.rule != "raised", verdict
        assert (verdict.score is None) == (not verdict.decided)
