"""What a clause states: which of its candidates is meant, and in what unit.

Where several candidates are left and the words do not say which one is meant, all of them are given, and a
verdict needs them to agree.
"""

from __future__ import annotations

import re
from functools import lru_cache

from gristmill.verifiers.math.prose import MathRun, candidates
from gristmill.verifiers.math.units import measure
from gristmill.verifiers.math.vocabulary import MINUS, NEGATION, NO_UNITS

_BOUND = re.compile(r"\b(?:at (?:least|most)|(?:more|less|fewer|greater|larger|smaller) than|between)\s*\Z")
_NUMBER = re.compile(r"(?:(?<![\w\s-])-|(?<=[a-z]\s)-|\A-)?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![-'’\w])")
_SIGNS = re.compile(r"[\\^={}\[\]$€£_<>|*/+%!≤≥≈±×÷√:]")
_DIGIT = re.compile(r"\d")
_BROKEN = re.compile(r"([=+-])\s*\$\s+\$")
"""A formula that was broken between two lines."""
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SCALED = re.compile(rf"\s({'|'.join(_SCALES)})\b", re.IGNORECASE)
"""Words behind a number that make it larger."""
_OUT_OF = re.compile(r"(\d+)\s+out\s+of\s+(\d+)(?!\s*[A-Za-z])")
_SHARE = re.compile(r"\b(?:probability|chance|odds|fraction|ratio|proportion|share)\b", re.IGNORECASE)
_UNUSUAL = NEGATION | MINUS
_UNIT_BEHIND = re.compile(r"\s?(?:[^\W\d_]+\.?(?:\^?[23])?(?:[ /·](?=[^\W\d_])|$|(?=\W))){1,4}")


def stated(clause: str, *, first: bool) -> tuple[str, ...]:
    """The readings of what a clause states, the likeliest first; none if it states no mathematics.

    ``first``: whether the clause is an answer by itself, as behind "Answer:", so that what it begins with
    is the answer and what follows a remark; else the last of several results is the likeliest.
    """
    if "$ $" in clause:
        clause = _BROKEN.sub(r"\1 ", clause)
    if first and ("at " in clause or "than" in clause or "between" in clause) and _bounded(clause):
        return ()  # "at least 5" is no number
    if not first and (turns := clause.rfind(" so ")) >= 0:
        last = clause[turns:]  # what stands before "so" is on the way
    else:
        last = clause.rpartition("(")[0] if clause.endswith(")") else clause  # a remark in brackets is none
    if "out of" in last and (parts := _OUT_OF.search(last)) is not None:
        share = f"{parts[1]}/{parts[2]}"
        return (share,) if _SHARE.search(last) else (parts[1], share)
    if (only := _only_number(last)) is not None:
        clause = last
        return (with_unit(clause, only),)
    found = candidates(clause)
    if not found:
        return ()
    for role in ("", "before", "earlier", "circumstance", "aside", "name"):
        chosen = [c for c in found if c.role == role]
        if chosen:
            break
    if len(chosen) > 1:
        chosen = _unfinished_sums_out(chosen)
    texts = [with_unit(clause, c) for c in chosen]
    if len(set(texts)) == 1:
        return (texts[0],)
    if all(c.joined for c in chosen[1:]):
        return (", ".join(dict.fromkeys(texts)),)
    likeliest = texts[0] if first else texts[-1]
    return tuple(dict.fromkeys((likeliest, *texts)))


def _bounded(clause: str) -> bool:
    """Whether the first number of a clause is only a bound."""
    digit = _DIGIT.search(clause)
    return digit is not None and _BOUND.search(clause, 0, digit.start()) is not None


def _only_number(clause: str) -> MathRun | None:
    """The number of a clause that has just one, not negated, and no other mathematics."""
    if _SIGNS.search(clause) is not None:
        return None
    digit = _DIGIT.search(clause)
    found = None if digit is None else _NUMBER.search(clause, max(digit.start() - 1, 0))
    if found is None or _DIGIT.search(clause, found.end()) is not None:
        return None
    if found.start() and not (clause[found.start() - 1].isspace() or clause[found.start() - 1] in "(`"):
        return None
    before = clause[: found.start()].lower().split()
    if not _UNUSUAL.isdisjoint(before) or any(w.endswith("n't") for w in before):
        return None
    return MathRun(found.start(), found.end(), found[0], "", False)


def _unfinished_sums_out(chosen: list[MathRun]) -> list[MathRun]:
    """Without the calculations that lead to the last candidate: ``16 - 3 = 13`` before ``13 * 2 = 26``."""
    last = chosen[-1]
    left = [c for c in chosen[:-1] if not ("=" in c.text and not any(map(str.isalpha, c.text)))]
    return [*left, last]


def with_unit(clause: str, found: MathRun) -> str:
    """The text of a candidate, with the unit behind it where that is one of measure or money."""
    if (scale := _SCALED.match(clause, found.end)) is not None and found.text[-1:].isdigit():
        return f"{found.text} \\cdot 10^{{{_SCALES[scale[1].lower()]}}}"
    text = found.text if found.text[-1:].isdigit() and found.text[:1].isdigit() else _undelimited(found.text)
    if not text[-1:].isdigit() and text[-1:] not in ("}", ")"):
        return text
    behind = _UNIT_BEHIND.match(clause, found.end)
    return text if behind is None else text + _unit_in(behind[0].strip())


def _undelimited(text: str) -> str:
    """Mathematics without the delimiters around it."""
    for opening, closing in (("$$", "$$"), ("\\(", "\\)"), ("\\[", "\\]"), ("$", "$")):
        if text.startswith(opening) and (opening != "$" or not text[1:2].isdigit() or text.endswith("$")):
            text = text.removeprefix(opening)
        text = text.removesuffix(closing) if len(text) > len(closing) else text
    return text.strip()


@lru_cache(maxsize=4096)
def _unit_in(words: str) -> str:
    """The unit that some words begin with, as it is written behind a number; empty if there is none."""
    words = words.rstrip(".")
    while words:
        if words in ("percent", "per cent"):
            return "%"
        if words.rpartition(" ")[2].lower() not in NO_UNITS and (
            words.lower().replace(".", "") in ("am", "pm") or measure(words) is not None
        ):
            return f" \\text{{ {words}}}"
        words = words.rpartition(" ")[0]
    return ""
