"""The plain form of an answer: layout removed, its unit, percent sign and choice letter set apart."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple

from gristmill.verifiers.math.tokens import CONSTANTS, FUNCTIONS, is_word
from gristmill.verifiers.text import numerals

# Wrapped text stands between these two, so that "5 m" in variables and "5 \text{ m}" in metres differ.
OPEN, CLOSE = "\x01", "\x02"

_LAYOUT = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|scriptstyle|big[lrm]?|Big[lrm]?|bigg[lrm]?|Bigg[lrm]?|limits|rm|bf"
    r"|quad|qquad|middle)(?![A-Za-z])\.?|\\[,;:! ()\[\]]|[$~]|\\\$"
)
_WRAPPED = re.compile(
    r"\\(?:text|mbox|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mathsf|operatorname|hbox|emph)\*?"
    r"\s*\{([^{}]*)\}"
)
_SPELLED = re.compile(
    r"\\(dfrac|tfrac|cfrac|dbinom|tbinom|choose|%|degrees?|lbrace|rbrace|lbrack|rbrack|colon)(?![A-Za-z])"
)
_SPELLINGS = {
    "dfrac": r"\frac ",
    "tfrac": r"\frac ",
    "cfrac": r"\frac ",
    "dbinom": r"\binom ",
    "tbinom": r"\binom ",
}
_SPELLINGS |= {
    "%": "%",
    "degree": "°",
    "degrees": "°",
    "lbrace": r"\{",
    "rbrace": r"\}",
    "lbrack": "[",
    "rbrack": "]",
}
_DEGREES = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))")
_PRIMES = re.compile(r"\^\s*(?:\{\s*((?:\\prime\s*)+)\}|(\\prime)(?![A-Za-z]))")
_SPLIT_NUMBER = re.compile(r"(?<=\d)(?:,\s*\\!\s*|\{,\}\s*|\\[,!;]\s*)(?=\d{3}(?!\d))")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_CIRCLED = str.maketrans(
    {"−": "-", "–": "-", "×": "*", "·": "*", "÷": "/", "，": ",", "（": "(", "）": ")", "\u00a0": " "}
)
_CIRCLED |= {
    ord(c): " " + unicodedata.normalize("NFKC", c).replace("\u2044", "/") for c in "½¼¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
}
_RAISED, _LOWERED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "₀₁₂₃₄₅₆₇₈₉₊₋"
_SCRIPTS = str.maketrans(_RAISED + _LOWERED, "0123456789+-" * 2)
_SCRIPT = re.compile(rf"([{_RAISED}]+)|[{_LOWERED}]+")
_WORDED = re.compile(r"[a-z]+(?:[ -][a-z]+)*")
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8}
_PARTS |= {"ninth": 9, "tenth": 10}
# t(0,4]: no function has an argument that opens one way and closes the other.
_NAMED_INTERVAL = re.compile(r"([A-Za-z])\s*:?\s*(\([^()\[\],]+,[^()\[\],]+\]|\[[^()\[\],]+,[^()\[\],]+\))")
_OPERATOR = re.compile(r"\\(?:sum|prod|i*int|oint|lim)(?![A-Za-z])")
_GROUPS = 50
"""Pairs of braces around all of an answer that are taken off. With more it is nested too deeply to read."""
_CHOICE = re.compile(
    rf"{OPEN}?\s*(?:\(\s*{OPEN}?([A-J]){CLOSE}?\s*\)|([A-J])\s*[.:)])\s*{CLOSE}?\s*(.*)", re.DOTALL
)
_POWER = re.compile(r"\s*\^\s*(?:\{\s*(-?\d)\s*\}|(-?\d))\s*")
_MODULE = re.compile(r"\b(?:np|math|sympy)\.(?=[a-z])")
_WHERE = re.compile(r",?\s+where\s.*", re.DOTALL)
_SCIENTIFIC = re.compile(r"\d[eE][+-]?\d")
_FRACTIONAL = re.compile(r"\.\d*[1-9]")
_SPACES = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
_PROSE = re.compile(rf"[A-Za-z{OPEN}{CLOSE}\s.,'’\-()]+")
_NO_UNIT = FUNCTIONS | CONSTANTS.keys() | {"and", "or", "in"}

# Each unit as its dimension and its size in it.
_LENGTH: dict[str, Fraction | int] = {
    "m": 1,
    "meter": 1,
    "metre": 1,
    "cm": Fraction(1, 100),
    "centimeter": Fraction(1, 100),
    "mm": Fraction(1, 1000),
}
_LENGTH |= {"km": 1000, "kilometer": 1000, "in": Fraction(254, 10000), "inch": Fraction(254, 10000)}
_LENGTH |= {"ft": Fraction(3048, 10000), "foot": Fraction(3048, 10000), "feet": Fraction(3048, 10000)}
_LENGTH |= {"mile": Fraction(1609344, 1000), "yard": Fraction(9144, 10000), "yd": Fraction(9144, 10000)}
_TIME: dict[str, Fraction | int] = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hr": 3600,
    "hour": 3600,
}
_TIME |= {"day": 86400, "week": 604800}
_MASS: dict[str, Fraction | int] = {"g": 1, "gram": 1, "kg": 1000, "kilogram": 1000, "mg": Fraction(1, 1000)}
_ANGLE: dict[str, Fraction | int] = {"degree": 1}
_MONEY: dict[str, Fraction | int] = {"dollar": 1, "cent": Fraction(1, 100), "usd": 1}
_UNITS: dict[str, tuple[str, Fraction]] = {
    name: (dimension, Fraction(size))
    for dimension, table in (
        ("length", _LENGTH),
        ("time", _TIME),
        ("mass", _MASS),
        ("money", _MONEY),
        ("angle", _ANGLE),
    )
    for name, size in table.items()
}
_BARE = frozenset("cm mm km kg mg ft yd hr sec min mL ml lb lbs oz mph kmh rad Hz hz eV keV MeV".split())  # noqa: SIM905


class Answer(NamedTuple):
    """An answer, tidied. ``key`` is equal for answers that are written alike."""

    text: str
    key: str
    prose: bool
    decimal: bool
    percent: bool
    unit: str
    letter: str


def read(raw: str) -> Answer:
    """Set apart what is not mathematics in ``raw``."""
    text = tidy(raw)
    letter = ""
    found = _CHOICE.fullmatch(text)
    if found is not None and (not found[3] or not found[3].lstrip().startswith(tuple("+-*/^=(,;<>"))):
        letter, text = found[1] or found[2], found[3].rstrip(CLOSE + " ")
    money = "\\$" in raw or "USD" in raw
    text, unit = split_unit(text)
    percent = text.endswith("%")
    text = text.rstrip("% ") if percent else text
    prose = is_prose(text)
    if prose and (value := in_words(text.replace(OPEN, " ").replace(CLOSE, " "))):
        (text, named), prose = value, False
        unit = unit or named
    key = _SPACES.sub("", text.replace(OPEN, " ").replace(CLOSE, " "))
    if prose:
        key = " ".join(re.sub(r"[^\w]+", " ", text.replace(OPEN, " ").replace(CLOSE, " ")).lower().split())
    decimal = ("." in text and _FRACTIONAL.search(text) is not None) or _SCIENTIFIC.search(text) is not None
    return Answer(text, key, prose, decimal, percent, unit or ("dollar" if money else ""), letter)


def in_words(text: str) -> tuple[str, str] | None:
    """A number in words as digits, and its unit: "two thirds", "minus five", "twenty-one dollars".

    ``None`` for ordinals, and where any word is left that is not a unit of known size.
    """
    plain = text.strip().lower()
    if len(plain) > 200 or _WORDED.fullmatch(plain) is None:
        return None
    words = plain.replace("-", " ").split()
    found = numerals.numeral(words, 0)
    if found is None or found[0].endswith("th"):
        return None
    value, rest = found[0], words[found[1] :]
    if not rest:
        return value, ""
    below = _PARTS.get("half" if rest[0] == "halves" else rest[0].removesuffix("s"))
    if below is not None and len(rest) == 1 and value.lstrip("-").isdigit() and abs(int(value)) < 20:
        return f"{value}/{below}", ""
    unit = _unit_name(rest, "")
    return (value, unit) if unit.partition("^")[0] in _UNITS else None


def plain_digits(text: str) -> str:
    """``text`` with the decimal digits of all scripts in ASCII."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)


def _script(run: re.Match[str]) -> str:
    return ("^{" if run[1] else "_{") + run[0].translate(_SCRIPTS) + "}"


def tidy(raw: str) -> str:
    """``raw`` without layout, delimiters and spelling variants of LaTeX and Unicode."""
    text = raw
    for _ in range(_GROUPS):
        text = _tidy(text)
        if text.startswith("{" * _GROUPS) or not (
            text.startswith("{") and text.endswith("}") and _one_group(text)
        ):
            break
        text = text[1:-1]
    return text


def _tidy(raw: str) -> str:
    text = raw.strip()
    if not text.isascii():
        text = _SCRIPT.sub(_script, plain_digits(text).translate(_CIRCLED))
    if "\\" in text or "$" in text or "~" in text or "{,}" in text:
        text = _SPLIT_NUMBER.sub("", text.replace(r"\\!", r"\!"))
        text = _WRAPPED.sub(rf" {OPEN}\1{CLOSE} ", text)
        text = _DEGREES.sub("° ", text)
        text = _PRIMES.sub(lambda m: "'" * (m[1] or m[2]).count("prime"), text)
        text = _SPELLED.sub(lambda m: _SPELLINGS.get(m[1], m[0]), text)
        rows = text.split(r"\\")  # a line break ends here: "\\ [" is no bracket
        text = r"\\".join(_LAYOUT.sub(" ", row) for row in rows)
    if "." in text:
        text = _MODULE.sub("", text)
    if " where " in text:
        text = _WHERE.sub("", text)
    text = text.strip(" \t\n")
    while text.endswith((".", ",", ";", ":")) and not text.endswith("\\;"):
        text = text[:-1].rstrip()
    if text.endswith(("]", ")")) and (found := _NAMED_INTERVAL.fullmatch(text)):
        return rf"{found[1]}\in {found[2]}"
    return text


def _one_group(text: str) -> bool:
    depth = 0
    for at, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return at == len(text) - 1
    return False


def split_unit(text: str) -> tuple[str, str]:
    """The text before a unit, and the unit in a plain spelling (``""`` where there is none)."""
    if text.endswith("°") and len(text) > 1:
        return text[:-1].rstrip(), "degree"
    head, suffix = text, ""
    if head and head[-1] in "}0123456789" and (at := head.rfind("^")) > 0 and _POWER.fullmatch(head, at):
        power = _POWER.fullmatch(head, at)
        head, suffix = head[:at].rstrip(), "^" + ((power[1] or power[2]) if power else "")
    if head.endswith(CLOSE):
        start = head.rfind(OPEN)
        words, before = head[start + 1 : -1], head[:start].rstrip(" ,")
        if before and before[-1].isalpha() and before[-1].islower() and not words.strip():
            return text, ""
        wrapped = True
    elif head and head[-1].isalpha():
        before = head.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ /")
        words, wrapped = head[len(before) :], False
        if before.endswith("\\"):
            name, _, words = words.partition(" ")
            before += name
        words = words.strip()
    else:
        return text, ""
    names = words.replace("/", " / ").split()
    if (
        not before.rstrip(" (,")
        or not names
        or before[-1] in "^_=+-*(/,{"
        or before.endswith((OPEN, "\\frac"))
    ):
        return text, ""
    if any(name in _NO_UNIT for name in names) and names != ["in"]:
        return text, ""
    if not wrapped and _OPERATOR.search(before):  # its letters are a product
        return text, ""
    if not wrapped and not all(n in _BARE or n == "/" or is_word(n) for n in names):
        return text, ""
    if any(c in words for c in "=\\<>+"):
        return text, ""
    return before, _unit_name(names, suffix)


def _unit_name(names: list[str], suffix: str) -> str:
    if names[0].lower() in ("square", "sq", "sq.", "cubic") and len(names) > 1:
        suffix = "^3" if names[0].lower() == "cubic" else "^2"
        names = names[1:]
    plain = [n.lower().rstrip(".") for n in names]
    plain = [
        "inch" if n == "inches" else n[:-1] if len(n) > 2 and n.endswith("s") and n != "lbs" else n
        for n in plain
    ]
    return " ".join(plain) + suffix


def unit_ratio(ours: str, theirs: str) -> Fraction | None:
    """The factor from a number of unit ``ours`` to one of ``theirs``; ``None`` if that is not known."""
    if not ours or not theirs or ours == theirs:
        return Fraction(1)
    (a, _, m), (b, _, n) = ours.partition("^"), theirs.partition("^")
    if m != n or a not in _UNITS or b not in _UNITS:
        return None
    if _UNITS[a][0] != _UNITS[b][0]:
        return Fraction(0)
    return (_UNITS[a][1] / _UNITS[b][1]) ** int(m or 1)


def is_prose(text: str) -> bool:
    """Whether a text is words, not mathematics."""
    if not text or _PROSE.fullmatch(text) is None:
        return False
    if text.startswith(OPEN):
        inner = text.strip(OPEN + CLOSE + " ")
        return len(inner) > 1 and inner not in FUNCTIONS and inner not in CONSTANTS
    words = text.replace(OPEN, " ").replace(CLOSE, " ").split()
    words = [w.strip(".,'’()-") for w in words]
    return any(is_word(w) for w in words) and "(" not in text.replace(" (", "")


def plain_thousands(text: str) -> str:
    """Commas that separate thousands taken out, where no bracket is open."""
    if "," not in text:
        return text
    if "(" in text or "{" in text or "[" in text:
        return text
    return _THOUSANDS.sub(lambda m: m[0].replace(",", ""), text)
