"""Whether a row's values have the types of a format: every key there, no other kind of value.

Own code beside ``msgspec.convert``, which stops at a row's first fault and knows no short reason to count by.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from msgspec import Struct
from msgspec.structs import fields

from gristmill.pipelines.sources.values import kind, short

_WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
_WIDEST = 2**63


class Fault(NamedTuple):
    """What is wrong with a row: a short reason, by which rows are counted, and the details."""

    reason: str
    detail: str = ""


@cache
def _fields(record: type[Struct]) -> list[tuple[str, Any, bool]]:
    """Name and type of each field, and whether it may be missing."""
    hints = get_type_hints(record)
    return [(f.name, hints[f.name], not f.required) for f in fields(record)]


def type_faults(row: dict[str, Any], record: type[Struct], *, unneeded: str = "id") -> Iterator[Fault]:
    """The values of ``row`` that are not those of ``record``. A trainer does without ``unneeded``."""
    yield from _struct(row, record, "", unneeded)


def _struct(value: dict[str, Any], record: type[Struct], path: str, unneeded: str = "") -> Iterator[Fault]:
    for name, hint, optional in _fields(record):
        place = f"{path}.{name}" if path else name
        if name in value:
            yield from _value(value[name], hint, place)
        elif name != unneeded and not optional and not _nullable(hint):
            yield Fault(f"{place}: missing", f"the keys are {', '.join(value)[:80]}")


def _value(value: Any, hint: Any, path: str) -> Iterator[Fault]:
    if value is None:
        if not _nullable(hint):
            yield Fault(f"{path}: null", f"it must be {_called(hint)}")
        return
    hint = _bare(hint)
    origin = get_origin(hint)
    if origin is Literal and isinstance(value, str):
        if value not in get_args(hint):
            known = ", ".join(map(str, get_args(hint)))
            yield Fault(f"{path}: unknown value", f"{short(value)}; known are {known}")
    elif not _fits(value, hint):
        yield Fault(f"{path}: {kind(value)} instead of {_called(hint)}", short(value))
    elif origin is tuple:
        for i, item in enumerate(value):
            for fault in _value(item, get_args(hint)[0], f"{path}[]"):
                yield Fault(fault.reason, f"item {i + 1}: {fault.detail}")
    elif isinstance(hint, type) and issubclass(hint, Struct):
        yield from _struct(value, hint, path)
    elif isinstance(value, str):
        yield from _text(value, path)
    elif isinstance(value, float) and not math.isfinite(value):
        yield Fault(f"{path}: not a finite number", repr(value))
    elif isinstance(value, int) and not -_WIDEST <= value < _WIDEST:
        yield Fault(f"{path}: a number of more than 64 bits", short(value))


def _text(text: str, path: str) -> Iterator[Fault]:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        yield Fault(f"{path}: half of a surrogate pair", f"at character {error.start + 1}")


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is tuple:
        return isinstance(value, list)
    if isinstance(hint, type) and issubclass(hint, Struct):
        return isinstance(value, dict)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    if get_origin(hint) is Literal:
        return isinstance(value, str)
    return isinstance(value, hint) if hint in _WORDS else True


def _nullable(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint)


def _bare(hint: Any) -> Any:
    """A type without its null."""
    if _nullable(hint):
        return next(a for a in get_args(hint) if a is not type(None))
    return hint


def _called(hint: Any) -> str:
    hint = _bare(hint)
    if get_origin(hint) is Literal:
        return "text"
    return "a list" if get_origin(hint) is tuple else _WORDS.get(hint, "an object")
