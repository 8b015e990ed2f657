"""Numbers and dates in one form each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.verifiers.text.numerals import dates, literal, numeral

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    " seventeen eighteen nineteen"
)
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety"


def spell(n: int) -> str:
    """The number in English words, written here a second time to check the reader."""
    for size, name in ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if n >= size:
            rest = f" {'and ' if size == 100 else ''}{spell(n % size)}" if n % size else ""
            return f"{spell(n // size)} {name}{rest}"
    if n < 20:
        return ONES.split()[n]
    return TENS.split()[n // 10] + (f" {ONES.split()[n % 10]}" if n % 10 else "")


@given(st.integers(0, 10**12 - 1))
def test_every_number_in_words_is_read(n: int) -> None:
    words = spell(n).split()
    assert numeral(words, 0) == (str(n), len(words))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234,567.80", "1234567.8"),
        ("12,34", None),
        ("007", "7"),
        (".5", "0.5"),
        ("-0.0", "0"),
        ("+3", "3"),
        ("1.2.3", None),
        ("-$5", "-5"),
        ("€1,000", "1000"),
        ("٣", None),
        ("", None),
        ("-", None),
    ],
)
def test_literal(text: str, value: str | None) -> None:
    assert literal(text) == value


@pytest.mark.parametrize(
    ("words", "value", "end"),
    [
        ("one two", "1", 1),
        ("twenty twenty", "20", 1),
        ("five hundred thousand and", "500000", 3),
        ("zero five", "0", 1),
        ("hundred", None, 0),
        ("an apple", None, 0),
        ("a million dollars", "1000000", 2),
        ("1.25 million", "1250000", 2),
        ("0.5 hundred", "50", 2),
        ("-1.5 thousand", "-1500", 2),
        ("minus minus one", "-1", 3),
        ("three point", "3", 1),
        ("one hundred and first", "101th", 4),
    ],
)
def test_numeral(words: str, value: str | None, end: int) -> None:
    assert numeral(words.split(), 0) == (None if value is None else (value, end))


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("2020-1-5", ("2020-01-05",)),
        ("1.2.2020", ("2020-02-01",)),
        ("1/2/2020", ("2020-02-01", "2020-01-02")),
        ("5/5/2020", ("2020-05-05",)),
        ("12/31/2020", ("2020-12-31",)),
        ("30 February 2020", ()),
        ("29 Feb 2020", ("2020-02-29",)),
        ("29 Feb 2021", ()),
        ("13/13/2020", ()),
        ("0/1/2020", ()),
        ("2020", ()),
        ("may", ()),
        ("Sept. 2001", ("2001-09",)),
    ],
)
def test_dates(text: str, readings: tuple[str, ...]) -> None:
    assert dates(text) == readings
