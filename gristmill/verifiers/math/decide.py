"""The layers of a decision, cheapest first: text, exact numbers, structure, sampling. Each must be sure."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any, NamedTuple

from gristmill.verifiers.math import tree as t
from gristmill.verifiers.math.compare import MathComparison
from gristmill.verifiers.math.forms import ContradictionError
from gristmill.verifiers.math.normal import Answer, plain_thousands, read
from gristmill.verifiers.math.parser import parse
from gristmill.verifiers.math.tokens import ParseError
from gristmill.verifiers.math.tree import LimitError, Limits, NoValueError, Tree
from gristmill.verifiers.math.units import unit_ratio

_NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,9})?")
_ARITHMETIC = re.compile(r"[-(\d][-\d +*/=().]*")
_REPEATING = re.compile(r"\.\d*\(")
_FRACTIONAL = re.compile(r"\.\d*[1-9]")
_CALCULUS = re.compile(r"\\(?:prod|sum|i*int|oint|lim)(?![A-Za-z])|[∑∏∫]")
_REORDERED = re.compile("[\u202a-\u202e\u2066-\u2069]")
_LETTER_UNIT = re.compile(r"(.*\d)\s+([a-zA-Z])")
_HALF_TURN = ("*", (t.num(Fraction(1, 180)), ("c", "pi")))


class Rules(NamedTuple):
    """What equality means beside the limits: the tolerances, and the base of a bare ``\\log``."""

    relative: float = 1e-6
    absolute: float = 0.0
    logarithm: int | None = 0


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
    found: Reading = _readings(memo)(raw, limits)
    return found


@cache
def _readings(memo: int) -> Any:
    _MEMOS.append(found := lru_cache(memo)(_read))
    return found


_MEMOS: list[Any] = []


def _read(raw: str, limits: Limits) -> Reading:
    if _NUMBER.fullmatch(raw) and len(raw) <= limits.digits:  # the most frequent answers, without detours
        decimal = "." in raw and raw.rstrip("0")[-1] != "."
        number = t.whole(raw) if raw.isdecimal() and raw.isascii() else t.num(Fraction(raw))
        return Reading(Answer(raw, raw, False, decimal, False, "", ""), (number,), "")
    answer = _arithmetic(raw) or read(raw)
    if answer.kind == "time":
        return Reading(answer, _trees(answer.key.partition(" ")[0], limits)[0], "")
    if answer.prose or answer.kind or not answer.text:
        return Reading(answer, (), "")
    if not raw.isascii() and _REORDERED.search(raw):
        return Reading(answer, (), "characters that show the text in another order")
    trees, problem = _trees(answer.text, limits)
    return Reading(answer, trees, problem)


def _arithmetic(raw: str) -> Answer | None:
    """A text of plain numbers and signs, in which there is no layout to take off."""
    text = raw.strip()
    if _ARITHMETIC.fullmatch(text) is None or _REPEATING.search(text) or text.endswith("."):
        return None
    return Answer(text, text.replace(" ", ""), False, _FRACTIONAL.search(text) is not None, False, "", "")


def _trees(text: str, limits: Limits) -> tuple[tuple[Tree, ...], str]:
    """What a text may mean: with its thousands joined, and as it stands where that is something else."""
    trees: list[Tree] = []
    problem = ""
    joined = plain_thousands(text) if "," in text or " " in text else text
    for form in (text,) if joined == text else (joined, text):
        try:
            trees.append(parse(form, limits))
        except ParseError as error:
            problem = str(error)
        except LimitError:
            raise
        except (ValueError, ZeroDivisionError) as error:
            problem = str(error)
    return tuple(trees), problem


def forget() -> None:
    """Empty the memo of readings."""
    for memo in _MEMOS:
        memo.cache_clear()


def same_text(a: Answer, b: Answer) -> bool:
    """Whether two answers are written alike, except for layout and a unit that one of them leaves out."""
    return (
        a.key == b.key
        and (a.prose, a.percent, a.kind) == (b.prose, b.percent, b.kind)
        and (not (a.letter and b.letter) or a.letter == b.letter)
        and any(map(str.isalnum, a.key))
        and unit_ratio(a.unit, b.unit) in (None, 1)
    )


def judge(ours: Reading, theirs: Reading, limits: Limits, rules: Rules) -> Judgement | None:
    """Compare two answers without evaluating anybody's text; ``None`` where nothing is sure."""
    a, b = ours.answer, theirs.answer
    if same_text(a, b):
        return Judgement(True, "same text")
    if a.kind or b.kind:
        return _kinds(ours, theirs)
    if a.letter or b.letter:
        found = _choices(a, b)
        if found is not None:
            return Judgement(found, "choice")
    if a.prose or b.prose:
        return _words(ours, theirs)
    if ours.trees and theirs.trees:
        exact = not (a.decimal or b.decimal)
        tolerance = (0.0, 0.0) if exact else (rules.relative, rules.absolute)
        comparison = MathComparison(limits, *tolerance, rules.logarithm)
        found = _scaled(comparison, ours, theirs)
        if found is not None:
            return Judgement(found, comparison.rule)
    return None


def _kinds(ours: Reading, theirs: Reading) -> Judgement | None:
    """Times of day, ordinals and dates, of which at least one side is one."""
    a, b = ours.answer, theirs.answer
    if a.kind == b.kind == "date":
        same = sorted(w[:3] for w in a.key.split()) == sorted(w[:3] for w in b.key.split())
        return Judgement(same, "words") if same or a.key.count(" ") == b.key.count(" ") else None
    if a.kind == b.kind:
        (first, _, half), (second, _, other) = a.key.partition(" "), b.key.partition(" ")
        same = first == second and (half == other or not half or not other)
        return Judgement(same, a.kind)
    if "time" in (a.kind, b.kind) and (ours.trees and theirs.trees):
        ratio, other_tree = (
            (ours.trees[0], theirs.trees[0]) if a.kind == "time" else (theirs.trees[0], ours.trees[0])
        )
        hours, minutes = (x[1] for x in ratio[1])
        if other_tree[0] == "ratio" or (other_tree[0] == "n" and other_tree[1] * minutes == hours):
            return None  # 1:10 may be ten past one, or a tenth
        return Judgement(False, "time")
    if a.prose or b.prose or not (ours.trees or theirs.trees or (a.kind and b.kind)):
        return None
    return Judgement(False, a.kind or b.kind)


def _words(ours: Reading, theirs: Reading) -> Judgement | None:
    """Words against words, or against mathematics, which they are surely not if it could be read."""
    a, b = ours.answer, theirs.answer
    first, second = (_SAID.get(x.key.lower(), x.key.lower()) for x in (a, b))
    if first == second or (a.prose and b.prose):  # NONE in capitals looks like a product
        return Judgement(first == second, "words")
    other = theirs if a.prose else ours
    return Judgement(False, "words") if other.trees else None


_NOTHING = "none|no solution|no solutions|there is no solution|there are no solutions|no such number exists"
_NO_LIMIT = "dne|does not exist|it does not exist|the limit does not exist"
_SAID = dict.fromkeys(_NOTHING.split("|"), "none") | dict.fromkeys(_NO_LIMIT.split("|"), "dne")
"""Answers in words that say the same."""


def _choices(a: Answer, b: Answer) -> bool | None:
    """By letter where both have one, else by content (``None``: continue with the contents)."""
    letters = [x.letter or (x.key.strip() if re.fullmatch("[A-J]", x.key.strip()) else "") for x in (a, b)]
    if all(letters):
        return letters[0] == letters[1]
    return None if a.text and b.text else False


def _scaled(comparison: MathComparison, ours: Reading, theirs: Reading) -> bool | None:
    """Compare all readings, in one unit; if just one side has a percent sign, also as hundredths."""
    a, b = ours.answer, theirs.answer
    ratio = unit_ratio(a.unit, b.unit)
    factors: list[Tree] = [t.num(1 if ratio is None else ratio)]
    if a.percent != b.percent:
        factors.append(t.num(Fraction(1, 100) if a.percent else Fraction(100)))
    if _turns(ours, theirs):
        factors.append(_HALF_TURN if _is_degree(a) else t.power(comparison.limits, _HALF_TURN, t.MINUS))
    if factors[0] == t.ZERO:
        return False
    results: list[bool | None] = []
    for factor in factors:
        for x in ours.trees:
            if factor != t.ONE:
                if x[0] in t.COLLECTIONS or x[0] == "rel":
                    continue
                x = t.multiply(comparison.limits, (x, factor))
            for y in theirs.trees:
                found = _equal(comparison, x, y)
                if found:
                    return True
                results.append(found)
    if None in results or _letter_units(ours, theirs, comparison) or _slashed(ours, theirs, comparison):
        return None
    return False


def _equal(comparison: MathComparison, x: Tree, y: Tree) -> bool | None:
    """Whether two trees are equal; unsure where the comparison comes upon something without a value, or upon
    a chain that is false."""
    try:
        return comparison.equal(x, y)
    except (NoValueError, ContradictionError):
        return None


def _is_degree(answer: Answer) -> bool:
    return answer.unit.startswith(("degree", "deg", "°"))


def _turns(ours: Reading, theirs: Reading) -> bool:
    """Whether degrees stand against radians: an angle with pi in it and no unit, or "radians"."""
    a, b = ours.answer, theirs.answer
    if _is_degree(a) == _is_degree(b):
        return False
    other = b if _is_degree(a) else a
    return "pi" in other.text or "π" in other.text


def _letter_units(ours: Reading, theirs: Reading, comparison: MathComparison) -> bool:
    """Whether ``5 m`` stands against 5: a letter may be a unit or a variable."""
    for one, other in ((ours, theirs), (theirs, ours)):
        found = _LETTER_UNIT.fullmatch(one.answer.text.strip())
        if found is None or any(t.symbols(x) for x in other.trees):
            continue
        trees, _ = _trees(found[1], comparison.limits)
        if any(_equal(comparison, x, y) is not False for x in trees for y in other.trees):
            return True
    return False


_SLASHED = re.compile(r"/\s*((?=\w*[A-Za-z])[A-Za-z\d]{2,})")


def _slashed(ours: Reading, theirs: Reading, comparison: MathComparison) -> bool:
    """Whether ``a/bc`` stands against ``a/(bc)``: what is below the line is not said."""
    for one, other in ((ours, theirs), (theirs, ours)):
        text = one.answer.text
        if "/" in text and "\\" not in text and (grouped := _SLASHED.sub(r"/(\1)", text)) != text:
            trees, _ = _trees(grouped, comparison.limits)
            if any(_equal(comparison, x, y) for x in trees for y in other.trees):
                return True
    return False


def why_undecided(ours: Reading, theirs: Reading) -> str:
    """What keeps two answers from being compared."""
    for found, whose in ((ours, "the answer"), (theirs, "the reference")):
        if _CALCULUS.search(found.answer.text):
            return f"{whose} has an integral, a limit or a sum that is not decided here"
    for found, whose in ((ours, "the answer"), (theirs, "the reference")):
        if not found.trees and found.problem:
            return f"{whose} is not understood here: {found.problem}"
    return "no layer is sure whether the two are equal"


def is_calculus(text: str) -> bool:
    """Whether a text has an integral, a limit, a sum or a product in it."""
    return _CALCULUS.search(text) is not None


def readable(found: Reading) -> bool:
    """Whether a reference is anything that an answer can be compared with."""
    if found.problem.startswith(("a division by zero", "zero to the zero")) and not found.trees:
        return False
    return bool(found.trees or found.answer.prose or found.answer.letter or found.answer.kind) or any(
        map(str.isalnum, found.answer.key)
    )
