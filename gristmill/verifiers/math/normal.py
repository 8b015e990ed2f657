"""The plain form of an answer: layout removed, its unit, percent sign and choice letter set apart."""

from __future__ import annotations

import re
from typing import NamedTuple

from gristmill.verifiers.math.layout import CLOSE, OPEN, tidy
from gristmill.verifiers.math.tokens import CONSTANTS, FUNCTIONS, is_word
from gristmill.verifiers.math.units import known, measure
from gristmill.verifiers.text import numerals

_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_SPACED = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?![\d,])")
_WORDED = re.compile(r"[a-z]+(?:[ -][a-z]+)*")
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8}
_PARTS |= {"ninth": 9, "tenth": 10}
_OPERATOR = re.compile(r"\\(?:sum|prod|i*int|oint|lim)(?![A-Za-z])")
_CHOICE = re.compile(
    rf"{OPEN}?\s*(?:\(\s*{OPEN}?([A-J]){CLOSE}?\s*\)|([A-J])\s*[.:)])\s*{CLOSE}?\s*(.*)", re.DOTALL
)
_MORE = re.compile(rf"[{OPEN}{CLOSE}\s]*(?:and|or|nor|to|both)\b")
_TIME = re.compile(
    rf"[\s{OPEN}]*(\d{{1,2}}):([0-5]\d)(?::[0-5]\d)?[\s{OPEN}]*(?:([apAP])\.?[mM]\.?|(noon)|(o'clock))?[\s{CLOSE}]*"
)
_ORDINAL = re.compile(rf"(\d+)\s*(?:\^\s*\{{?)?[\s{OPEN}]*(?:st|nd|rd|th)[\s{CLOSE}]*\}}?")
_MONTH = re.compile(
    rf"[\s{OPEN}\d,.{CLOSE}]*(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)(?:[a-z]*)\b[\s{OPEN}\d,.{CLOSE}a-z]*",
    re.IGNORECASE,
)
_CURRENCY = re.compile(r"\\\$|[€£¥₹]|\\(?:euro|pounds)(?![a-z])|(?<![\w$}\\])\$(?=\s?\d)(?![^$]*\$)|\bUSD\b")
_CURRENCIES = {"€": "€", "£": "£", "¥": "¥", "₹": "₹", r"\euro": "€", r"\pounds": "£"}
_SCIENTIFIC = re.compile(r"\d[eE][+-]?\d")
_FRACTIONAL = re.compile(r"\.\d*[1-9]")
_SPACES = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
_PROSE = re.compile(rf"[A-Za-z{OPEN}{CLOSE}\s.,'’\-()]+")
_NO_UNIT = FUNCTIONS | CONSTANTS.keys() | {"and", "or", "in"}
_BARE = frozenset("cm mm km kg mg ft yd hr sec min mL ml lb lbs oz mph kmh rad Hz hz eV keV MeV".split())  # noqa: SIM905
_TAIL = re.compile(
    rf"(?:{OPEN}[^{OPEN}{CLOSE}]*{CLOSE}|\\(?:mu|Omega|circ|euro|pounds)(?![A-Za-z])|°)"
    rf"(?:{OPEN}[^{OPEN}{CLOSE}]*{CLOSE}|\\(?:mu|Omega|cdot|circ)(?![A-Za-z])|\^\s*\{{?\s*-?\d\s*\}}?|[/·*°%]|\s)*\Z"
)
_ANGLED = re.compile(r"\\?(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_POWER = re.compile(r"\s*\^\s*(?:\{\s*-?\d\s*\}|-?\d)\s*\Z")
_PERCENT = re.compile(rf"[\s{OPEN}]*(?:%|per\s?cent|percentage|pct)[\s{CLOSE}.]*\Z")


class Answer(NamedTuple):
    """An answer, tidied. ``key`` is equal for answers that are written alike."""

    text: str
    key: str
    prose: bool
    decimal: bool
    percent: bool
    unit: str
    letter: str
    kind: str = ""
    """``time``, ``ordinal`` or ``date``; such answers are compared with their like."""


def read(raw: str) -> Answer:
    """Set apart what is not mathematics in ``raw``."""
    money = _money(raw)
    text = tidy(raw)
    if text.startswith(OPEN) and text.find(CLOSE) == len(text) - 1 and any(map(str.isdigit, text)):
        text = text[1:-1].strip()  # a number in words' clothes
    if (special := kind(text)) is not None:
        return special
    letter = ""
    found = _CHOICE.fullmatch(text)
    if found is not None and not _MORE.match(found[3]):
        behind = found[3].lstrip()
        if not behind.startswith(tuple("+-*/^=(,;<>|&")) and not behind.startswith("\\"):
            letter, text = found[1] or found[2], found[3].rstrip(CLOSE + " ")
        elif behind.startswith(("\\frac", "\\sqrt", "\\$")):
            letter, text = found[1] or found[2], found[3]
    percent = _PERCENT.search(text)
    if percent is not None and percent.start():
        text = text[: percent.start()].rstrip()
    text, unit = split_unit(text)
    prose = is_prose(text)
    if prose and (value := in_words(_plain(text))):
        (text, named), prose = value, False
        unit = unit or named
    key = _SPACES.sub("", text.replace(OPEN, " ").replace(CLOSE, " "))
    if prose:
        key = " ".join(re.sub(r"[^\w]+", " ", _plain(text)).lower().split())
    decimal = ("." in text and _FRACTIONAL.search(text) is not None) or _SCIENTIFIC.search(text) is not None
    return Answer(text, key, prose, decimal, bool(percent and percent.start()), unit or money, letter)


def _plain(text: str) -> str:
    return text.replace(OPEN, " ").replace(CLOSE, " ")


def _money(raw: str) -> str:
    found = _CURRENCY.search(raw)
    return "" if found is None else _CURRENCIES.get(found[0], "dollar")


def kind(text: str) -> Answer | None:
    """A time of day, an ordinal or a date; ``None`` for other texts."""
    if (found := _TIME.fullmatch(text)) is not None:
        half = "noon" if found[4] else (found[3] or "").lower()
        key = f"{int(found[1])}:{found[2]} {half}".strip()
        return Answer(text, key, False, False, False, "", "", "time")
    if (found := _ORDINAL.fullmatch(text)) is not None:
        return Answer(text, str(int(found[1])) + "th", False, False, False, "", "", "ordinal")
    if any(map(str.isdigit, text)) and _MONTH.fullmatch(text) is not None:
        key = " ".join(re.findall(r"\w+", _plain(text).lower()))
        return Answer(text, key, False, False, False, "", "", "date")
    return None


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
    unit = " ".join(rest)
    return (value, unit) if measure(unit) is not None else None


def split_unit(text: str) -> tuple[str, str]:
    """The text before a unit, and the unit in a plain spelling (``""`` where there is none)."""
    found = _TAIL.search(text)
    if found is not None and found.start():
        head, words = text[: found.start()].rstrip(" ,"), _plain(found[0].strip())
        if "°" in words and _ANGLED.search(head):  # an angle that something is taken of
            return text, ""
        if _takes_unit(head) and not _names_nothing(words):
            return head, _unit_name(words)
    return _bare_unit(text)


def _takes_unit(head: str) -> bool:
    """Whether a unit may stand behind ``head``."""
    return bool(head.rstrip("( ,")) and head[-1] not in "^_=+-*(/,{" and not head.endswith((OPEN, "\\frac"))


def _names_nothing(words: str) -> bool:
    """Whether words behind a number are not a unit: functions, joiners, signs."""
    names = re.findall(r"[^\W\d_]+", words)
    if any(n in _NO_UNIT and known(n) is None for n in names):
        return True
    return any(c in words for c in "=<>+") or (not names and "°" not in words and "circ" not in words)


def _bare_unit(text: str) -> tuple[str, str]:
    """A unit inside the mathematics, as in ``5 km``; its letters may as well be symbols."""
    power = _POWER.search(text)
    head = text[: power.start()].rstrip() if power else text
    if not head or not head[-1].isalpha():
        return text, ""
    before = head.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ /")
    words = head[len(before) :]
    if before.endswith("\\"):
        name, _, words = words.partition(" ")
        before += name
    names = words.replace("/", " / ").split()
    if not names or not _takes_unit(before) or any(n in _NO_UNIT for n in names):
        return text, ""
    if _OPERATOR.search(before):  # its letters are a product
        return text, ""
    if not all(n in _BARE or n == "/" or is_word(n) for n in names) and measure(words) is None:
        return text, ""
    if all(len(n) == 1 for n in names) and not (before[-1].isdigit() and "/" in names):
        return text, ""
    if before[-1].isalpha():
        return text, ""
    return before, _unit_name(words + (power[0] if power else ""))


def _unit_name(words: str) -> str:
    plain = " ".join(words.split())
    return plain.strip(" .") if measure(plain) is not None else plain.lower().strip(" .").removesuffix("s")


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
    """Commas and spaces that separate thousands taken out, where no bracket is open."""
    if " " in text:
        text = _SPACED.sub(lambda m: m[0].replace(" ", ""), text)
    if "," not in text:
        return text
    if "(" not in text and "{" not in text and "[" not in text:
        return _THOUSANDS.sub(lambda m: m[0].replace(",", ""), text)
    return _THOUSANDS.sub(lambda m: m[0] if _inside(text, m.start()) else m[0].replace(",", ""), text)


def _inside(text: str, at: int) -> bool:
    """Whether a bracket is open at ``at``."""
    before = text[:at]
    return any(before.count(a) > before.count(b) for a, b in ("()", "[]", "{}"))
