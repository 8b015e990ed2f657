"""Values of a row as records hold them: texts, numbers as text, ids, and a record's ``meta``."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from gristmill.core.errors import RowRejected


def checked(what: str, text: str, limit: int) -> str:
    """``text``; rejected if it is longer than ``limit`` characters, or is not valid text."""
    if len(text) > limit:
        raise RowRejected(
            f"{what} too long",
            f"the {what} has {len(text):,} characters; at most {limit:,} are taken. "
            "Raise 'max_chars' in the source to take it.",
        )
    if "\0" in text:
        raise RowRejected("NUL character", f"the {what} has a NUL at character {text.index(chr(0)) + 1}.")
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise RowRejected(
            "invalid UTF-8", f"the {what} is not Unicode text at character {e.start + 1}."
        ) from e
    return text


def texts(value: Any) -> Iterator[str]:
    """All texts in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)


def number(value: Any) -> str | None:
    """A finite number as text, the same for equal numbers; ``None`` for anything else."""
    from decimal import Decimal

    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, Decimal) and value.is_finite():
        return format(value.normalize(), "f")
    return None


def is_nothing(value: Any) -> bool:
    """Whether a cell holds no value: null, blank text, or a float that is not a finite number."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def digest(text: str) -> bytes:
    """Eight bytes that stand for a text."""
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def identity(problem: str) -> str:
    """The id of a problem that has none of its own: the same wherever it is read, and whatever its answer is,
    so that a corrected answer changes no seed."""
    return digest(problem).hex()


def meta(row: Mapping[str, Any], used: Collection[str], more: Mapping[str, Any] | None = None) -> str:
    """The columns of ``row`` that are not ``used``, and ``more``, as a JSON object."""
    rest = {k: v for k, v in row.items() if k not in used} | dict(more or {})
    return msgspec.json.encode(rest, enc_hook=repr).decode() if rest else "{}"


def opened(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row with what its column ``meta`` holds in place of that, where it is a JSON object as text, as our
    own files have it."""
    text = row.get("meta")
    if not (isinstance(text, str) and text.startswith("{")):
        return row
    try:
        found: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        return row
    return found | {k: v for k, v in row.items() if k != "meta"}


def kind(value: Any) -> str:
    """What a value is, in words."""
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
    }
    return "missing" if value is None else names.get(type(value), f"of type {type(value).__name__}")


def short(value: Any) -> str:
    """A value for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
