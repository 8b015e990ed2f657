"""Units of measure: the dimension and the size of what stands behind a number, and money.

``measure("km/h")`` is the length and time that it is made of and how many metres a second it is. Two units of
one dimension convert, two of different dimensions are never equal, and words that are not a unit say nothing.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple


class Unit(NamedTuple):
    """A unit: the exponents of its base dimensions, sorted by name, and its size in base units."""

    dimension: tuple[tuple[str, int], ...]
    size: Fraction


_PREFIXES = {"k": 3, "c": -2, "m": -3, "μ": -6, "u": -6, "n": -9, "p": -12, "d": -1, "M": 6, "G": 9, "T": 12}
_LONG_PREFIXES = {
    "kilo": 3,
    "centi": -2,
    "milli": -3,
    "micro": -6,
    "nano": -9,
    "pico": -12,
    "deci": -1,
    "mega": 6,
    "giga": 9,
}
# Symbols that take a prefix, and the word for each: base dimensions and size.
_METRIC: dict[str, tuple[str, str, str | int | Fraction]] = {
    "m": ("meter metre", "length", 1),
    "s": ("", "time", 1),
    "g": ("gram gramme", "mass", 1),
    "L": ("liter litre", "length3", Fraction(1, 1000)),
    "A": ("ampere amp", "current", 1),
    "mol": ("mole", "amount", 1),
    "K": ("kelvin", "temperature", 1),
    "N": ("newton", "mass length time-2", 1000),
    "J": ("joule", "mass length2 time-2", 1000),
    "W": ("watt", "mass length2 time-3", 1000),
    "Pa": ("pascal", "mass length-1 time-2", 1000),
    "Hz": ("hertz", "time-1", 1),
    "C": ("coulomb", "current time", 1),
    "V": ("volt", "mass length2 time-3 current-1", 1000),
    "Ω": ("ohm", "mass length2 time-3 current-2", 1000),
    "F": ("farad", "mass-1 length-2 time4 current2", Fraction(1, 1000)),
    "eV": ("electronvolt", "mass length2 time-2", Fraction("1.602176634e-16")),
    "B": ("byte", "information", 8),
}
_OTHER: dict[str, tuple[str, str | int | Fraction]] = {
    "second sec": ("time", 1),
    "minute min": ("time", 60),
    "hour h hr": ("time", 3600),
    "day": ("time", 86400),
    "week": ("time", 604800),
    "month": ("months", 1),
    "year yr": ("months", 12),
    "inch inches in": ("length", "0.0254"),
    "foot feet ft": ("length", "0.3048"),
    "yard yd": ("length", "0.9144"),
    "mile mi": ("length", "1609.344"),
    "lb lbs pound": ("mass", "453.59237"),
    "oz ounce": ("mass", "28.349523125"),
    "tonne ton": ("mass", 1000000),
    "gallon gal": ("length3", "0.003785411784"),
    "l": ("length3", "0.001"),
    "ml mL": ("length3", "0.000001"),
    "degree deg °": ("angle", 1),
    "radian rad": ("radian", 1),
    "dollar usd $": ("dollar", 1),
    "cent ¢": ("dollar", "0.01"),
    "euro eur €": ("euro", 1),
    "£ gbp": ("sterling", 1),
    "yen ¥": ("yen", 1),
    "rupee ₹": ("rupee", 1),
    "mph": ("length time-1", "0.44704"),
    "kph kmh": ("length time-1", Fraction(5, 18)),
    "bit": ("information", 1),
    "dozen": ("count", 12),
}
_DIMENSION = re.compile(r"([a-z]+)(-?\d)?")
_TOKEN = re.compile(
    r"\s*(?:([A-Za-zμµΩ°€£$¥₹¢]+)\.?|\^\s*\{?\s*([+-]?\d)\s*\}?|(/|÷|\bper\b)|(\\cdot|\\times|[·⋅*×~-]))"
)
_GREEK = {r"\mu": "μ", r"\Omega": "Ω", r"\ohm": "Ω", r"\circ": "°", "µ": "μ", "Ω": "Ω", r"\euro": "€"}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_POWERS_BEHIND = {"squared": 2, "cubed": 3}


def _dimension(text: str) -> dict[str, int]:
    return {name: int(power or 1) for name, power in _DIMENSION.findall(text)}


def _table() -> dict[str, tuple[dict[str, int], Fraction]]:
    found: dict[str, tuple[dict[str, int], Fraction]] = {}
    for symbol, (words, dimension, size) in _METRIC.items():
        found[symbol] = (_dimension(dimension), Fraction(size))
        for word in words.split():
            found[word] = found[symbol]
            for prefix, power in _LONG_PREFIXES.items():
                found[prefix + word] = (_dimension(dimension), Fraction(size) * Fraction(10) ** power)
        for prefix, power in _PREFIXES.items():
            found.setdefault(prefix + symbol, (_dimension(dimension), Fraction(size) * Fraction(10) ** power))
    for words, (dimension, size) in _OTHER.items():
        for word in words.split():
            found[word] = (_dimension(dimension), Fraction(size))
    return found


_UNITS = _table()


@lru_cache(maxsize=8192)
def known(word: str) -> tuple[dict[str, int], Fraction] | None:
    """The unit of one word or symbol; ``None`` if it is none."""
    if word in _UNITS:
        return _UNITS[word]
    low = word.lower()
    if len(word) > 2 or not word.isascii():
        for form in (low, low.removesuffix("s"), low.removesuffix("es")):
            if form in _UNITS and (len(form) > 2 or form == low):
                return _UNITS[form]
    return None


@lru_cache(maxsize=4096)
def measure(text: str) -> Unit | None:
    """What ``text`` ("square feet", "kg m/s^2", "miles per hour") measures; ``None`` if it is not a unit."""
    for command, letter in _GREEK.items():
        text = text.replace(command, letter)
    text = text.replace("μ ", "μ").strip()
    dimension: dict[str, int] = {}
    size = Fraction(1)
    last: tuple[dict[str, int], Fraction] | None = None
    sign, power, at = 1, 1, 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            return None
        at = found.end()
        word: str = found[1] or ""
        if found[3] or word == "per":
            sign = -1
        elif found[2] or word in _POWERS_BEHIND:
            extra = (int(found[2]) if found[2] else _POWERS_BEHIND[word]) - 1
            if last is None:
                return None
            size *= _gather(dimension, last, extra)
        elif word and word.lower() in _POWERS:
            power = _POWERS[word.lower()]
        elif word:
            unit = known(word)
            if unit is None:
                return None
            last = ({k: v * sign * power for k, v in unit[0].items()}, unit[1] ** (sign * power))
            size *= _gather(dimension, last, 1)
            sign = power = 1
    if last is None:
        return None
    return Unit(tuple(sorted((k, v) for k, v in dimension.items() if v)), size)


def _gather(dimension: dict[str, int], unit: tuple[dict[str, int], Fraction], times: int) -> Fraction:
    for name, power in unit[0].items():
        dimension[name] = dimension.get(name, 0) + power * times
    return Fraction(unit[1] ** times)


def unit_ratio(ours: str, theirs: str) -> Fraction | None:
    """The factor from a number of unit ``ours`` to one of ``theirs``: 0 if they measure different things.

    ``None`` if either is not a known unit; 1 if either is missing.
    """
    if not ours or not theirs or ours == theirs:
        return Fraction(1)
    a, b = measure(ours), measure(theirs)
    if a is None or b is None:
        return None
    return a.size / b.size if a.dimension == b.dimension else Fraction(0)
