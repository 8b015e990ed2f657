"""Checks the arithmetic that a text writes out: a right answer by a false equation should not be imitated.

Only what can be decided exactly is looked at: statements such as ``3 * 4 + 1 = 13``, ``7 != 8`` or "13 plus 5
is 18" between expressions of plain numbers, in signs, LaTeX or words, in chains too (``2 + 3 = 5 = 5``).
Questions, approximations and everything else are ignored. Own code, since a computer algebra system would
parse far more than that and can be kept busy for minutes by a hostile text.
"""

from __future__ import annotations

import re
from fractions import Fraction

from gristmill.verifiers.text.numerals import is_number_word, numeral

_SIGNS = (
    (re.compile(r"\\(?:times|cdot|ast)\b|[×·]|(?<=[\w)%])\s+[xX]\s+(?=[\d.($])|(?<=\d)[xX](?=\d)"), "*"),
    (re.compile(r"\\div\b|÷"), "/"),
    (re.compile(r"\\[dt]?frac\s*\{([\d.+\-* ]{1,40})\}\s*\{([\d.+\-* ]{1,40})\}"), r"((\1)/(\2))"),
    (re.compile(r"\^\s*\{\s*(\d{1,2})\s*\}"), r"^\1"),
    (re.compile(r"\\(?:left|right)(?=[()])|\\[,;! ]|\*\*(?=\s|[A-Z])"), " "),
    (re.compile(r"\\neq?\b|≠|!=|\bis not\b|\bdoes not equal\b|\bis different from\b"), "≠"),
    (re.compile(r"\bequals\b|\bis equal to\b|\bis the same as\b|=="), "="),
    (re.compile(r"(?<=\d),(?=\d{3}(?!\d))|\\?\$"), ""),
    (re.compile(r"[−–]"), "-"),
)
# Words between numbers. "Is" says that two numbers are equal only where one of them is calculated.
_NUMBER = r"(?<![\d.])\d{1,30}+(?:\.\d{1,30}+)?"
_PHRASES = (
    (re.compile(rf"(?i)\bthe sum of ({_NUMBER}) and ({_NUMBER})"), r"(\1 + \2)"),
    (re.compile(rf"(?i)\bthe product of ({_NUMBER}) and ({_NUMBER})"), r"(\1 * \2)"),
    (re.compile(rf"(?i)\bthe difference (?:between|of) ({_NUMBER}) and ({_NUMBER})"), r"(\1 - \2)"),
    (re.compile(rf"(?i)\bhalf (?:of )?({_NUMBER})"), r"(\1 / 2)"),
    (re.compile(rf"(?i)\b(?:twice|double) ({_NUMBER})"), r"(2 * \1)"),
    (re.compile(rf"({_NUMBER})\s?(?:%|percent) of ({_NUMBER})"), r"(\1 / 100 * \2)"),
    (re.compile(rf"({_NUMBER}) squared\b"), r"\1^2"),
    (re.compile(rf"({_NUMBER}) cubed\b"), r"\1^3"),
    (re.compile(r"(?<=[\d)])\s+plus\s+(?=[\d(.])"), " + "),
    (re.compile(r"(?<=[\d)])\s+minus\s+(?=[\d(.])"), " - "),
    (re.compile(r"(?<=[\d)])\s+(?:times|multiplied by)\s+(?=[\d(.])"), " * "),
    (re.compile(r"(?<=[\d)])\s+(?:divided by|over)\s+(?=[\d(.])"), " / "),
    # 3 apples + 5 apples = 8 apples
    (re.compile(r"(?<=\d) +[a-z]{2,20}(?= *[-+*/] *\(?[\d.])"), ""),
    (re.compile(rf"(?<=\d) +([a-z]{{2,20}})(?= *= *{_NUMBER} +\1\b)"), ""),
)
# Every part is bounded and taken whole, so that no text makes the search more than linear.
_CALCULATED = r"-?[\d.()]{1,40}+(?:\s?[-+*/^]\s?[\d.()]{1,40}+){1,12}+"
_IS = (
    r"\s+(?:is|are|was|were|gives|makes|make|leaves|yields|totals|becomes|comes to|adds up to|amounts to)\s+"
)
# A number that is what the statement is about, and not "packages of 3" or "step 3".
_ALONE = r"(?:(?<![^.,;:\n(])|(?<=[.,;:\n(]\s)|(?<=\bso )|(?<=\bthat )|(?<=\band )|(?<=\bbut )|(?<=\bthus ))"
_NO_MORE = r"(?!\s*(?:more|less|fewer|times|percent|%|of\b|and a|or\b|to\b|units?\b|points?\b))"
_STATED = (
    re.compile(rf"(?<![\d.()])({_CALCULATED}){_IS}(?=-?{_NUMBER}(?!\d|\.\d){_NO_MORE})"),
    re.compile(rf"{_ALONE}(-?{_NUMBER}){_IS}(?={_CALCULATED}{_NO_MORE})"),
)
_END = re.compile(r"(?<=[\d)])\.(?=\s|\Z)")  # a sentence ends here, and a statement with it
# A run of nothing but numbers, operators, brackets and relations, with at least one relation.
# Bounded, so that no text makes the search more than linear.
_RUN = re.compile(r"(?<![\w.\\{}^])[-(\d.][\d .+\-*/()^]{0,100}(?:[=≠<>][\d .+\-*/()^]{1,100}){1,20}")
# A number behind such a word is a part of something that is not calculated here (5 mod 3, 9 choose 2, gcd
# of 4), and so is what is in front of one, and the argument of a function or its derivative: f(1), f'(1).
_OPERATION = r"(?:p?mod|modulo|choose|gcd|lcm|log|ln|sqrt|base|[CP])"
_OPENED = re.compile(rf"(?:\\|\b){_OPERATION}\s*\Z|['’]\Z")
_CONTINUED = re.compile(rf"\s*\\?{_OPERATION}\b|\s*\(\s*\\?p?mod\b")
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?|\.\d+)|([-+*/()^]))")
_RELATION = re.compile(r"([=≠<>])")
_WORD = re.compile(r"[A-Za-z]+(?:[- ][A-Za-z]+)*")
_LARGEST_POWER = 64
_LONGEST = 300
"""Characters of an expression that is calculated."""


def _plain(text: str) -> str:
    """``text`` with its arithmetic in signs and digits."""
    for pattern, plain in _SIGNS:
        text = pattern.sub(plain, text)
    text = _WORD.sub(_digits, text)
    for pattern, plain in _PHRASES:
        text = pattern.sub(plain, text)
    for pattern in _STATED:
        text = pattern.sub(r"\1 = ", text)
    return _END.sub("\n", text)


def _digits(found: re.Match[str]) -> str:
    """Number words as digits: "six times seven" as "6 times 7"."""
    words = re.split(r"([- ])", found[0])
    if not any(is_number_word(w.lower()) for w in words[::2]):
        return found[0]
    out: list[str] = []
    at, plain = 0, [w.lower() for w in words[::2]]
    while at < len(plain):
        value = numeral(plain, at) if is_number_word(plain[at]) else None
        if value is None or value[0].endswith("th"):
            out.append(words[2 * at])
            at += 1
        else:
            out.append(value[0])
            at = value[1]
        if at < len(plain):
            out.append(words[2 * at - 1])
    return "".join(out)


def statements(text: str) -> list[tuple[str, bool]]:
    """Each relation between two numeric expressions in ``text``, with whether it is true."""
    text = _plain(text)
    found: list[tuple[str, bool]] = []
    for run in _RUN.finditer(text):
        before, after = text[: run.start()].rstrip()[-1:], text[run.end() : run.end() + 1]
        if after == "?" or text[run.end() : run.end() + 2].strip()[:1] == "?":
            continue  # a question states nothing
        if before in tuple("+-*/^=≠<>") or (before.isalnum() and run[0][0] == "-"):
            continue  # the left side began earlier, with something that is not a number
        if _OPENED.search(text, max(0, run.start() - 12), run.start()) or _CONTINUED.match(text, run.end()):
            continue
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


def calculate(expression: str) -> Fraction | None:
    """The exact value of an expression of plain numbers with ``+ - * / ^`` (or ``**``) and brackets, in
    signs, LaTeX or words; ``None`` for anything else and for powers over 64. No code is evaluated."""
    if len(expression) > _LONGEST:
        return None
    try:
        return _value(_plain(expression.replace("**", "^")))
    except RecursionError:  # brackets in brackets, hundreds deep
        return None


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
    value, tokens = _power(tokens)
    while tokens and tokens[0] in "*/":
        multiply = tokens[0] == "*"
        factor, tokens = _power(tokens[1:])
        value = value * factor if multiply else value / factor
    return value, tokens


def _power(tokens: list[str]) -> tuple[Fraction, list[str]]:
    """A number with a small natural power. ``ValueError`` for other powers."""
    if tokens[0] == "-":  # -2^2 is minus the square
        value, rest = _power(tokens[1:])
        return -value, rest
    value, tokens = _atom(tokens)
    if tokens and tokens[0] == "^":
        exponent, tokens = _atom(tokens[1:])
        if exponent.denominator != 1 or not 0 <= exponent <= _LARGEST_POWER or abs(value) > 10**6:
            raise ValueError("a power that is not looked at")
        value **= int(exponent)
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
