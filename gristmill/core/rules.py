"""The rules that values break, in words: which values are allowed, and never a regular expression."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

_WHERE = re.compile(r"(?s)(?P<rule>.*) - at `(?:key` in `)?\$(?P<path>.*)`")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_MISSING = re.compile(r"Object missing required field `(.*)`")
Steps = Sequence[tuple[str, str]]
"""The way to a value: of each step either a field's name, or a place in a list."""


def told(error: Exception, kind: Any) -> str:
    """What msgspec says of a value that is no ``kind``: the place, if it has one, and the rule in words."""
    rule, path = divided(str(error))
    where = f"{path.lstrip('.')}: " if path else ""
    return f"{where}{in_words(rule, _info(kind), path)}"


@cache
def _info(kind: Any) -> Any:
    from msgspec import inspect

    return inspect.type_info(kind)


def divided(message: str) -> tuple[str, str]:
    """The rule and the place in a message of msgspec's; the place is empty for the value itself."""
    found = _WHERE.fullmatch(message)
    return (found["rule"], found["path"]) if found else (message, "")


def steps(path: str) -> list[tuple[str, str]]:
    """The steps of a place."""
    return _STEP.findall(path)


def in_words(rule: str, info: Any, path: str) -> str:
    """A rule of msgspec's about the value at ``path`` in what ``info`` describes: the values that are
    allowed, and in place of a regular expression the description beside it."""
    from msgspec import inspect

    found = list(_types(info, steps(path)))
    if rule.startswith("Invalid enum value"):
        values = [v for t in found if isinstance(t, inspect.LiteralType) for v in t.values]
        values += [e.value for t in found if isinstance(t, inspect.EnumType) for e in t.cls]
        return f"it must be one of {', '.join(map(repr, values))}" if values else "it is not an allowed value"
    if "matching regex" in rule:
        described = [t.extra_json_schema or {} for t in found if isinstance(t, inspect.Metadata)]
        form = next((d["description"] for d in described if "description" in d), None)
        return f"it must be {form}" if form else "it does not have the form that it must have"
    if missing := _MISSING.fullmatch(rule):
        return f"the key {missing[1]!r} is missing"
    return f"{rule[0].lower()}{rule[1:]}"


def _types(info: Any, way: Steps) -> Iterator[Any]:
    """The types that may stand at the end of a way into a type; those with a description as such."""
    from msgspec import inspect

    if isinstance(info, inspect.Metadata) and way:
        yield from _types(info.type, way)
    elif isinstance(info, inspect.UnionType):
        for option in info.types:
            yield from _types(option, way)
    elif not way:
        yield info
    elif isinstance(info, inspect.StructType):
        yield from (t for f in info.fields if f.encode_name == way[0][0] for t in _types(f.type, way[1:]))
    elif isinstance(info, inspect.DictType):
        yield from _types(info.value_type, way[1:])
    elif isinstance(info, (inspect.ListType, inspect.VarTupleType)):
        yield from _types(info.item_type, way[1:])
