"""The layers of a decision, cheapest first: text, exact numbers, structure, sampling, math-verify."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from fractions import Fraction
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

from gristmill.verifiers.math import tree as t
from gristmill.verifiers.math.compare import MathComparison
from gristmill.verifiers.math.normal import (
    Answer,
    is_prose,
    plain_digits,
    plain_thousands,
    read,
    unit_ratio,
)
from gristmill.verifiers.math.parser import parse
from gristmill.verifiers.math.tokens import ParseError
from gristmill.verifiers.math.tree import LimitError, Limits, Tree

_NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,9})?")
# What keeps sympy busy for ever, and what it expands or evaluates without being asked.
_HEAVY = re.compile(r"\^\s*\{?[^{}]{0,40}\^|!|\\(?:binom|choose)(?![A-Za-z])|\d{60}|\*\*|\^\s*\{?\s*\d{3}")
# sympy sets about these as they are read; it was seen not to come back from an elementary integral.
_CALCULUS = re.compile(r"\\(?:prod|sum|i*int|oint|lim)(?![A-Za-z])|[∑∏∫]")


class Unreadable(ValueError):
    """Neither mathematics nor words."""


class Undecided(ValueError):
    """Mathematics that no layer here can compare, and that is not handed to sympy."""


class Reading(NamedTuple):
    """An answer, and the trees that it may mean (none where it is not understood here)."""

    answer: Answer
    trees: tuple[Tree, ...]
    problem: str


class Judgement(NamedTuple):
    """Whether two answers are equal, and the layer that found it."""

    equal: bool
    rule: str


def reading(raw: str, limits: Limits, memo: int = 0) -> Reading:
    """Read an answer, the last ``memo`` readings being kept. ``LimitError`` if it goes beyond a limit."""
    if len(raw) > limits.length:
        raise LimitError(f"the answer has {len(raw):,} characters, over {limits.length:,}", "length")
    return _readings(memo)(raw, limits)


@cache
def _readings(memo: int) -> Callable[[str, Limits], Reading]:
    return lru_cache(memo)(_read)


def _read(raw: str, limits: Limits) -> Reading:
    if _NUMBER.fullmatch(raw) and len(raw) <= limits.digits:  # the most frequent answers, without detours
        decimal = "." in raw and raw.rstrip("0")[-1] != "."
        return Reading(Answer(raw, raw, False, decimal, False, "", ""), (t.num(Fraction(raw)),), "")
    answer = read(raw)
    if answer.prose or not answer.text:
        return Reading(answer, (), "")
    joined = plain_thousands(answer.text)
    trees: list[Tree] = []
    problem = ""
    for text in dict.fromkeys((joined, answer.text)):
        try:
            trees.append(parse(text, limits))
        except ParseError as error:
            problem = str(error)
        except LimitError:
            raise
        except (ValueError, ZeroDivisionError) as error:
            problem = str(error)
    return Reading(answer, tuple(trees), problem)


def forget() -> None:
    """Empty the memo of readings."""
    _readings.cache_clear()


def same_text(a: Answer, b: Answer) -> bool:
    """Whether two answers are written alike, but for layout and a unit that one of them leaves out."""
    return (
        a.key == b.key
        and (a.prose, a.percent) == (b.prose, b.percent)
        and (not (a.letter and b.letter) or a.letter == b.letter)
        and any(map(str.isalnum, a.key))
        and unit_ratio(a.unit, b.unit) in (None, 1)
    )


def judge(
    ours: Reading, theirs: Reading, raw: tuple[str, str], limits: Limits, tolerance: tuple[float, float]
) -> Judgement:
    """Compare an answer with a reference. ``Unreadable`` if math-verify cannot read the answer either."""
    found = judge_here(ours, theirs, limits, tolerance)
    return _by_math_verify(*raw) if found is None else found


def judge_here(
    ours: Reading, theirs: Reading, limits: Limits, tolerance: tuple[float, float]
) -> Judgement | None:
    """The layers that neither hang nor evaluate anybody's text; ``None`` where they are not sure."""
    a, b = ours.answer, theirs.answer
    if same_text(a, b):
        return Judgement(True, "same text")
    if a.letter or b.letter:
        found = _choices(a, b)
        if found is not None:
            return Judgement(found, "choice")
    if a.prose or b.prose:
        return Judgement(a.prose and b.prose and a.key == b.key, "words")
    if ours.trees and theirs.trees:
        exact = not (a.decimal or b.decimal)
        comparison = MathComparison(limits, *((0.0, 0.0) if exact else tolerance))
        found = _scaled(comparison, ours, theirs)
        if found is not None:
            return Judgement(found, comparison.rule)
    return None


def _choices(a: Answer, b: Answer) -> bool | None:
    """By letter where both have one, else by content (``None``: go on with the contents)."""
    letters = [x.letter or (x.text if re.fullmatch("[A-J]", x.text) else "") for x in (a, b)]
    if all(letters):
        return letters[0] == letters[1]
    return None if a.text and b.text else False


def _scaled(comparison: MathComparison, ours: Reading, theirs: Reading) -> bool | None:
    """Compare all readings, in one unit; if just one side has a percent sign, also as hundredths."""
    a, b = ours.answer, theirs.answer
    ratio = unit_ratio(a.unit, b.unit)
    ratios = [Fraction(1) if ratio is None else ratio]
    if a.percent != b.percent:
        ratios.append(Fraction(1, 100) if a.percent else Fraction(100))
    results: list[bool | None] = []
    for factor in ratios:
        if not factor:
            return False
        for x in ours.trees:
            if factor != 1:
                if x[0] in t.COLLECTIONS or x[0] == "rel":
                    continue
                x = t.multiply(comparison.limits, (x, t.num(factor)))
            for y in theirs.trees:
                found = comparison.equal(x, y)
                if found:
                    return True
                results.append(found)
    return None if None in results else False


def _by_math_verify(ours: str, theirs: str) -> Judgement:
    for text in (ours, theirs):
        if _CALCULUS.search(text):
            raise Undecided("an integral, a limit, or a sum that is not decided here")
        if _HEAVY.search(text):
            raise Undecided("not decided here, and not safe to hand to sympy")
    read_by, equal = math_verify()
    wanted, found = read_by(_boxed(theirs)), read_by(_boxed(ours))
    if not found:
        raise Unreadable("no mathematics")
    if equal(wanted, found):
        return Judgement(True, "math-verify")
    if len(found) == 1 and isinstance(found[0], str):
        raise Unreadable("it cannot be parsed")
    return Judgement(False, "math-verify")


def readable(raw: str, found: Reading) -> bool:
    """Whether an answer is anything that can be compared."""
    if found.trees or found.answer.prose or found.answer.letter:
        return True
    if not found.answer.text or is_prose(raw) or _HEAVY.search(raw) or _CALCULUS.search(raw):
        return bool(found.answer.text)
    parsed = math_verify()[0](_boxed(raw))
    return bool(parsed) and not (len(parsed) == 1 and isinstance(parsed[0], str))


def _boxed(answer: str) -> str:
    return f"\\boxed{{{plain_digits(answer)}}}"


@cache
def math_verify() -> tuple[Callable[[str], list[Any]], Callable[[list[Any], list[Any]], bool]]:
    """math-verify's ``parse`` and ``verify`` without time-outs, the latter's errors raised.

    What its parser fails on, however it fails, cannot be parsed.
    """
    import math_verify

    # It warns once that time-outs are off; the pool has the deadline.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return (
        partial(math_verify.parse, parsing_timeout=None, raise_on_error=False),
        partial(math_verify.verify, timeout_seconds=None, raise_on_error=True),
    )
