"""Numbers and dates as people write them, each in one plain form.

Own code, since libraries such as dateutil or dateparser guess (``1/2/2020`` gets one reading, and missing
parts come from today), and a verdict must not depend on a guess or on the day.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from fractions import Fraction
from typing import Literal

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    " seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SMALL = {word: value for value, word in enumerate(_UNITS.split())} | {
    word: 10 * value for value, word in enumerate(_TENS.split(), start=2)
}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_NTH = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth"
    " fifteenth sixteenth seventeenth eighteenth nineteenth"
)
_ORDINALS = {word: value for value, word in enumerate(_NTH.split(), start=1)} | {
    word[:-1] + "ieth": value for word, value in _SMALL.items() if value >= 20
}
_LITERAL = re.compile(
    r"([+-]?)[$€£¥]?([0-9]{1,3}(?:[,\u00a0\u2009\u202f'][0-9]{3})++|[0-9]++)?(?:\.([0-9]++))?"
)
_ORDINAL = re.compile(r"([0-9]{1,15})(?:st|nd|rd|th)")
_SCALABLE = 40
"""A literal longer than this many characters is not multiplied by a following "million"."""

Order = Literal["undecided", "day_first", "month_first"]


def literal(text: str) -> str | None:
    """A number in digits (sign, currency, thousands separators) in its one plain form: ``1,200.50`` is
    ``1200.5``. Exact at any length; ``None`` for anything else."""
    match = _LITERAL.fullmatch(text.replace("−", "-"))
    if match is None or (match[2] is None and match[3] is None):
        return None
    whole = re.sub("[^0-9]", "", match[2] or "").lstrip("0") or "0"
    fraction = (match[3] or "").rstrip("0")
    value = f"{whole}.{fraction}" if fraction else whole
    return f"-{value}" if match[1] == "-" and value != "0" else value


def numeral(words: Sequence[str], at: int) -> tuple[str, int] | None:
    """The number that starts at ``words[at]`` (lower case) in its plain form, and where it ends.

    Reads digits, English number words, both with a scale ("3.5 million"), decimals ("three point five")
    and ordinals ("twenty-first" split in two, "21st": both ``21th``). ``None`` if there is none.
    """
    if ordinal := _ORDINAL.fullmatch(words[at]):
        return f"{int(ordinal[1])}th", at + 1
    if words[at] == "minus" and at + 1 < len(words) and (found := numeral(words, at + 1)):
        value, end = found
        return (value if value[0] in "-0" or value.endswith("th") else f"-{value}"), end
    plain = literal(words[at])
    if plain is None:
        return _spelled(words, at)
    scale = {"hundred": 100, **_SCALES}.get(words[at + 1] if at + 1 < len(words) else "")
    if scale is None or len(plain) > _SCALABLE:
        return plain, at + 1
    return _decimal(Fraction(plain) * scale), at + 2


def _decimal(value: Fraction) -> str:
    """A fraction that terminates in base ten, written out."""
    digits = 0
    while value.denominator != 1 and digits < _SCALABLE:
        value, digits = value * 10, digits + 1
    text = str(abs(value.numerator)).rjust(digits + 1, "0")
    plain = literal(f"{text[:-digits]}.{text[-digits:]}" if digits else text) or text
    return f"-{plain}" if value < 0 else plain


def _spelled(words: Sequence[str], at: int) -> tuple[str, int] | None:
    total, group, room, top = 0, None, 1000, 10**15
    start, seen = at, False
    if words[at] in ("a", "an") and at + 1 < len(words) and words[at + 1] in ("hundred", *_SCALES):
        group, room, at = 1, 0, at + 1
    while at < len(words):
        word = words[at]
        value = _SMALL.get(word, _ORDINALS.get(word))
        if value is not None and value < room and (value > 0 or not seen):
            group, room, seen, at = (group or 0) + value, 10 if value >= 20 else 0, True, at + 1
            if word in _ORDINALS:
                return f"{total + group}th", at
            if value == 0:
                room = -1
        elif word == "hundred" and group is not None and 0 < group < 100:
            group, room, seen, at = group * 100, 100, True, at + 1
        elif word in _SCALES and group and _SCALES[word] < top:
            total, group, room, top = total + group * _SCALES[word], None, 1000, _SCALES[word]
            seen, at = True, at + 1
        elif (
            word == "and"
            and seen
            and room >= 100
            and at + 1 < len(words)
            and words[at + 1] in _SMALL | _ORDINALS
        ):
            at += 1
        else:
            break
    if not seen:
        return None
    return _with_point(words, start, at, total + (group or 0))


def _with_point(words: Sequence[str], start: int, at: int, whole: int) -> tuple[str, int]:
    digits = ""
    if at < len(words) and words[at] == "point" and at > start:
        after = at + 1
        while after < len(words) and (digit := _SMALL.get(words[after], 10)) < 10:
            digits, after = digits + str(digit), after + 1
        if digits:
            return literal(f"{whole}.{digits}") or str(whole), after
    return str(whole), at


def is_number_word(word: str) -> bool:
    """Whether ``word`` (lower case) can be part of a number in words."""
    return word in _SMALL or word in _ORDINALS or word in _SCALES or word == "hundred"


_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan",
            "february feb",
            "march mar",
            "april apr",
            "may",
            "june jun",
            "july jul",
            "august aug",
            "september sept sep",
            "october oct",
            "november nov",
            "december dec",
        ),
        start=1,
    )
    for name in names.split()
}
_MONTH = "(?P<month>" + "|".join(_MONTHS) + r")\.?"
_DAY = r"(?:the\s)?(?P<day>[0-9]{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>[0-9]{4})"
_WEEKDAY = re.compile(r"(?:on\s)?(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,?\s)?")
_NAMED = tuple(
    re.compile(form)
    for form in (
        rf"{_DAY}(?:\sof)?\s{_MONTH},?\s{_YEAR}",
        rf"{_MONTH}\s{_DAY},?\s{_YEAR}",
        rf"{_YEAR},?\s{_MONTH}\s{_DAY}",
        rf"{_MONTH},?\s{_YEAR}",
        rf"{_YEAR}[-/.](?P<month>[0-9]{{1,2}})[-/.](?P<day>[0-9]{{1,2}})",
    )
)
_NUMERIC = re.compile(rf"([0-9]{{1,2}})([-/.])([0-9]{{1,2}})\2{_YEAR}")


def dates(text: str, order: Order = "undecided") -> tuple[str, ...]:
    """The readings of ``text`` as a date, in ISO form; empty if it is not a date.

    Reads ``31 January 2020``, ``Jan. 31st, 2020``, ``2020-01-31``, ``31/01/2020``, ``January 2020`` (gives
    ``2020-01``) and the like, with years of four digits. ``1/2/2020`` has two readings, day first and
    then month first, of which ``order`` may choose; ``1.2.2020`` has the day first.
    """
    if len(text) > 60:
        return ()
    text = " ".join(text.lower().strip(" .,;:!()[]\"'").split())
    text = text[_WEEKDAY.match(text).end() :]  # type: ignore[union-attr]  # it matches the empty string too
    for form in _NAMED:
        if match := form.fullmatch(text):
            found = match.groupdict()
            month = _MONTHS.get(found["month"]) or int(found["month"])
            day = found.get("day")
            whole = _iso(int(found["year"]), month, int(day or 1))
            return () if whole is None else (whole if day else whole[:7],)
    if match := _NUMERIC.fullmatch(text):
        first, mark, second, year = int(match[1]), match[2], int(match[3]), int(match["year"])
        day_first, month_first = _iso(year, second, first), _iso(year, first, second)
        if mark == ".":
            month_first = None
        readings = [r for r in (day_first, month_first) if r]
        if len(readings) == 2 and order != "undecided":
            readings = [readings[order == "month_first"]]
        return tuple(dict.fromkeys(readings))
    return ()


def _iso(year: int, month: int, day: int) -> str | None:
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return None
