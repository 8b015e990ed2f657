"""Checks the arithmetic that a text writes out: a right answer by a false equation should not be imitated.

Only statements that can be decided exactly are checked: ``3 * 4 + 1 = 13`` or ``7 != 8`` between expressions
of plain numbers, also in chains (``2 + 3 = 5 = 5``). Everything else is ignored. Own code, since sympy would
parse far more than that and can be kept busy for minutes by a hostile text.
"""

from __future__ import annotations

import re
from fractions import Fraction

_WORDS = (
    (re.compile(r"\\(?:times|cdot)\b|[×·]"), "*"),
    (re.compile(r"\\div\b|÷"), "/"),
    (re.compile(r"\\neq?\b|≠|!=|\bis not\b|\bdoes not equal\b|\bis different from\b"), "≠"),
    (re.compile(r"\bequals\b|\bis equal to\b|\bis the same as\b|=="), "="),
    (re.compile(r"(?<=\d),(?=\d{3}(?!\d))|\$"), ""),
    (re.compile(r"[−–]"), "-"),
    (re.compile(r"(?<=[\d)])\.(?=\s|\Z)"), "\n"),  # a sentence ends here, and a statement with it
)
# A run of nothing but numbers, operators, brackets and relations, with at least one relation.
# Bounded, so that no text makes the search more than linear.
_RUN = re.compile(r"(?<![\w.\\{}^])[-(\d.][\d .+\-*/()]{0,100}(?:[=≠<>][\d .+\-*/()]{1,100}){1,20}")
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?|\.\d+)|([-+*/()]))")
_RELATION = re.compile(r"([=≠<>])")


def statements(text: str) -> list[tuple[str, bool]]:
    """Each relation between two numeric expressions in ``text``, with whether it is true."""
    for pattern, plain in _WORDS:
        text = pattern.sub(plain, text)
    found: list[tuple[str, bool]] = []
    for run in _RUN.finditer(text):
        before, after = text[: run.start()].rstrip()[-1:], text[run.end() : run.end() + 1]
        if before in tuple("+-*/^=≠<>") or (before.isalnum() and run[0][0] == "-"):
            continue  # the left side began earlier, with something that is not a number
        parts = _RELATION.split(run[0])
        # "= 5 apples" ends in a number, "= 5x" and "= 5^2" do not.
        if (after.isalpha() or after in tuple("^_{\\%!")) and not parts[-1].endswith(" "):
            parts = parts[:-2]
        sides = [_value(p) for p in parts[::2]]
        for i, relation in enumerate(parts[1::2]):
            left, right = sides[i], sides[i + 1]
            if left is not None and right is not None:
                shown = f"{parts[2 * i].strip()} {relation} {parts[2 * i + 2].strip(' .')}"
                found.append((shown, _holds(left, relation, right)))
    return found


def sound(text: str, *, at_least: int = 0) -> bool:
    """Whether ``text`` has at least ``at_least`` arithmetic statements, and none of them is false."""
    found = statements(text)
    return len(found) >= at_least and all(true for _, true in found)


def _holds(left: Fraction, relation: str, right: Fraction) -> bool:
    if relation == "<":
        return left < right
    if relation == ">":
        return left > right
    return (left == right) == (relation == "=")


def _value(expression: str) -> Fraction | None:
    """The exact value of sums and products of plain numbers; ``None`` for anything else."""
    expression = expression.strip().rstrip(".")
    tokens: list[str] = []
    at = 0
    while at < len(expression):
        token = _TOKEN.match(expression, at)
        if token is None:
            return None
        tokens.append(token[1] or token[2])
        at = token.end()
    try:
        value, rest = _sum(tokens)
    except (IndexError, ValueError, ZeroDivisionError):
        return None
    return value if not rest else None


def _sum(tokens: list[str]) -> tuple[Fraction, list[str]]:
    value, tokens = _product(tokens)
    while tokens and tokens[0] in "+-":
        sign = 1 if tokens[0] == "+" else -1
        term, tokens = _product(tokens[1:])
        value += sign * term
    return value, tokens


def _product(tokens: list[str]) -> tuple[Fraction, list[str]]:
    value, tokens = _atom(tokens)
    while tokens and tokens[0] in "*/":
        multiply = tokens[0] == "*"
        factor, tokens = _atom(tokens[1:])
        value = value * factor if multiply else value / factor
    return value, tokens


def _atom(tokens: list[str]) -> tuple[Fraction, list[str]]:
    """A number, a bracket or a negated atom. ``IndexError`` or ``ValueError`` if there is none."""
    if tokens[0] == "-":
        value, rest = _atom(tokens[1:])
        return -value, rest
    if tokens[0] == "(":
        value, rest = _sum(tokens[1:])
        if rest[0] != ")":
            raise ValueError("unclosed bracket")
        return value, rest[1:]
    return Fraction(tokens[0]), tokens[1:]
