"""Every limit is a setting, names itself in the verdict, and decides before anything is computed."""

from __future__ import annotations

import msgspec
import pytest

from gristmill.core.verdicts import Outcome
from gristmill.verifiers.math import Limits, Math, decide, group, verify
from gristmill.verifiers.math import verifier as module

BEYOND = [
    ("length", 10, "1+1+1+1+1+1+1", "7"),
    ("digits", 3, "12345", "12345.0"),
    ("digits", 30, "7^{50}", "1"),
    ("digits", 30, r"123456789012345\cdot 12345678901234567890", "1"),
    ("nesting", 5, "((((((7))))))", "8"),
    ("nesting", 5, r"\sqrt{\sqrt{\sqrt{\sqrt{x}}}}", "x"),
    ("exponent", 9, "2^{10}", "1025"),
    ("exponent", 9, "1e10", "1"),
    ("exponent", 9, "x^{10}", "x"),
    ("factorial", 9, "10!", "3628801"),
    ("factorial", 9, r"\binom{10}{5}", "253"),
    ("items", 3, "1,2,3,4", "1"),
    ("items", 3, r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "1"),
    ("terms", 9, r"\sum_{k=1}^{10} k", "56"),
    ("terms", 9, r"\prod_{k=1}^{10} k", "56"),
    ("terms", 9, r"\sum_{k=1}^{4}\sum_{j=1}^{4} jk", "56"),
]


def refuse(*_: object) -> None:
    raise AssertionError("a limit was met, and yet a layer was asked")


@pytest.mark.parametrize(("name", "value", "answer", "reference"), BEYOND)
def test_beyond_a_limit_no_layer_is_asked(
    name: str, value: int, answer: str, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verify(rf"\boxed{{{answer}}}", reference).decided  # within the limits that are the default
    strict = Math(limits=Limits(**{name: value}), memo=0)
    monkeypatch.setattr(decide, "judge", refuse)
    verdict = strict(rf"\boxed{{{answer}}}", "1")
    assert (verdict.outcome, verdict.score) == (Outcome.UNPARSEABLE, None), verdict
    assert verdict.rule == ("too long" if name == "length" else "limit")
    assert f"(limits.{name})" in verdict.detail


def test_every_limit_is_tried() -> None:
    assert {name for name, *_ in BEYOND} == {field.name for field in msgspec.structs.fields(Limits)}


def test_a_text_over_the_length_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "parse", refuse)
    monkeypatch.setattr(decide, "read", refuse)
    assert verify(r"\boxed{" + "1+" * 1_000 + "1}", "1").rule == "too long"
    assert group(["1+" * 1_000 + "1"]) == [[0]]


def test_a_reference_beyond_a_limit_is_an_error_that_names_it() -> None:
    verdict = Math(limits=Limits(factorial=9))(r"\boxed{5}", "10!")
    assert (verdict.outcome, verdict.rule) == (Outcome.ERROR, "reference unparseable")
    assert "(limits.factorial)" in verdict.detail


def test_the_memo_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    judge = decide.judge

    def counted(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        return judge(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(decide, "judge", counted)
    module.forget()
    for size, expected in ((0, 3), (1, 1)):
        calls = 0
        verdicts = [Math(memo=size)(r"\boxed{a+8}", "8+a") for _ in range(3)]
        assert verdicts[0].correct and verdicts == verdicts[:1] * 3
        assert calls == expected
    module.forget()
    small, calls = Math(memo=1), 0
    for answer in ("a+8", "a+9", "a+8"):
        small(rf"\boxed{{{answer}}}", "8+a")
    assert calls == 3  # of two answers the later one is kept


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("twelve", "12"),
        (r"\text{twenty-one}", "21"),
        ("Two hundred and five", "205"),
        ("minus five", "-5"),
        ("two thirds", r"\frac23"),
        ("one half", "0.5"),
        ("twelve dollars", r"\$12"),
        ("three point five", "3.5"),
        ("twelve", "Twelve"),
        # digits of other scripts, raised and lowered numerals
        ("٣٤", "34"),
        ("𝟏𝟐", "12"),
        ("2¹⁰", "1024"),
        ("x⁻¹", r"\frac1x"),
        ("log₂ 8", "3"),
        ("x₁₂", "x_{12}"),
        ("⅔", "2/3"),
        # a name before an interval, sums
        ("t(0,4]", "(0,4]"),
        (r"t \in (0,4]", "t(0,4]"),
        ("x: [1,2)", "[1, 2)"),
        (r"\sum_{i=1}^{10} i^2", "385"),
        (r"\sum_{k=1}^{3} 2\cdot k", "12"),
        (r"\sum_{k=1}^{4} 1/k", r"\frac{25}{12}"),
        (r"\sum_{k=1}^{n} k", r"\frac{n(n+1)}{2}"),
        (r"\sum_{k=0}^{n} x^k", r"\frac{x^{n+1}-1}{x-1}"),
        (r"\prod_{k=1}^{n} k", "n!"),
        (r"\sum_{k=1}^{n}\sum_{j=1}^{k} j", "n(n+1)(n+2)/6"),
        (r"\sum_{k=1}^{n} a_k", r"\sum_{j=1}^{n} a_k"),
    ],
)
def test_equal(answer: str, reference: str) -> None:
    for a, b in ((answer, reference), (reference, answer)):
        verdict = verify(rf"\boxed{{{a}}}", b)
        assert verdict.outcome is Outcome.CORRECT, verdict


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("twelve", "13"),
        ("two thirds", "2"),
        ("third", "3"),
        ("one of them", "1"),
        ("-five", "five"),
        ("twelve dollars", "12 cm"),
        ("2¹⁰", "1"),
        ("t(0,4]", "(0,4)"),
        ("t(0,4]", "[0,4]"),
        (r"\sum_{k=1}^{n} k", r"\frac{n(n-1)}{2}"),
        (r"\sum_{k=1}^{n} k", r"\sum_{k=1}^{n+1} k"),
        (r"\sum_{i=1}^{10} i^2", "-10"),
        (r"\prod_{k=1}^{n} k", "n^2"),
    ],
)
def test_unequal(answer: str, reference: str) -> None:
    for a, b in ((answer, reference), (reference, answer)):
        verdict = verify(rf"\boxed{{{a}}}", b)
        assert verdict.outcome is Outcome.INCORRECT, verdict


@pytest.mark.parametrize(
    "answer",
    [
        r"\int_0^1 x\,dx",
        r"\lim_{x\to 0} \frac{\sin x}{x}",
        r"\sum_{k=0}^{\infty} 2^{-k}",
    ],
)
def test_what_nothing_here_decides_is_said_so(answer: str) -> None:
    verdict = verify(rf"\boxed{{{answer}}}", "2^{n-1}")
    assert (verdict.outcome, verdict.rule) == (Outcome.UNPARSEABLE, "undecided"), verdict
    assert "not decided here" in verdict.detail
    assert verify(rf"\boxed{{{answer}}}", answer).correct


@pytest.mark.parametrize(
    "answer", ["²", "①", "Ⅷ", "፩", "٣٫٥", "x = ①", "\ud800", "{" * 900 + "1" + "}" * 900]
)
def test_odd_numerals_and_shapes_are_unparseable_and_no_error(answer: str) -> None:
    assert verify(rf"\boxed{{{answer}}}", "1").outcome is Outcome.UNPARSEABLE


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("1=1=a_{1},1=1=0", "2,3"),  # a list with a false chain in it
        ("1=2, 5", "5"),
        ("not_\ud800", "1"),  # half a character, as the name of a variable
    ],
)
def test_what_a_fuzzer_found_is_unparseable_and_no_error(answer: str, reference: str) -> None:
    for pair in ((rf"\boxed{{{answer}}}", reference), (rf"\boxed{{{reference}}}", answer)):
        assert verify(*pair).rule != "raised", pair
        assert not verify(*pair).correct


@pytest.mark.parametrize(
    "sentence",
    [
        "From 30 we take 2, so there are 28.",
        "3 bushels, of which 1 is produced at home and 2 are imported.",
        "7or with 8 other adults",
        "4 * 7 = 28 cookies for 10:30 AM",
    ],
)
def test_a_boxed_sentence_is_equal_to_itself(sentence: str) -> None:
    assert verify(rf"\boxed{{{sentence}}}", sentence).correct
    assert not verify(rf"\boxed{{{sentence}}}", "1234").correct


def test_what_only_its_parser_chokes_on_is_unparseable() -> None:
    """sympy raises SympifyError for these in a relation with digits of other scripts."""
    for answer in ("|\\infty\\rfloorⅶ=𑁫", "cm꯵/09=𑱐and", "=꣕৹\\{", "᭗=𑄼൯\\pm"):
        for completion, reference in ((rf"\boxed{{{answer}}}", "1"), (r"\boxed{1}", answer)):
            assert verify(completion, reference).rule != "raised"
