"""What can be said of a part from its code: its options with their types, ranges and descriptions, its paper.

The description of an option is the string literal below its field, as ``Meta(description=...)`` would be far
from where one reads it. Python drops such literals, so they are read from the source.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec
from msgspec import NODEFAULT, Struct
from msgspec import inspect as types

_PAPER = re.compile(r"arXiv[: ]\s*(\d{4}\.\d{4,5})")
_RANGES = {
    "ge": "at least {}",
    "gt": "above {}",
    "le": "at most {}",
    "lt": "below {}",
    "multiple_of": "a multiple of {}",
    "min_length": "at least {} long",
    "max_length": "at most {} long",
    "pattern": "matching {}",
}
_WORDS: dict[type, str] = {
    types.AnyType: "anything",
    types.NoneType: "null",
    types.BoolType: "true or false",
    types.IntType: "whole number",
    types.FloatType: "number",
    types.StrType: "text",
}


class Option(Struct, frozen=True):
    """One option of a part, as text for a reader. ``default`` is "" for one that must be given."""

    name: str
    type: str
    default: str
    description: str


def options(part: Any) -> list[Option]:
    """The options of a part in order; none for a plain function."""
    if not (isinstance(part, type) and issubclass(part, Struct)):
        return []
    info = types.type_info(part)
    assert isinstance(info, types.StructType)
    said = descriptions(part)
    return [
        Option(field.encode_name, _shown(field.type), _default(field), said.get(field.name, ""))
        for field in info.fields
    ]


@cache
def descriptions(part: type[Struct]) -> dict[str, str]:
    """The descriptions of a Struct's fields by their names, its bases' fields included.

    A field that has none is left out, and so are all of a class whose source cannot be read.
    """
    found: dict[str, str] = {}
    for base in reversed(part.__mro__):
        body = _classes(base.__module__).get(base.__qualname__, [])
        for field, below in pairwise(body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                found[field.target.id] = " ".join(below.value.value.split())
    return {name: text for name, text in found.items() if name in part.__struct_fields__}


@cache
def _classes(module: str) -> dict[str, list[ast.stmt]]:
    """The bodies of a module's classes by their qualified names; empty where there is no source."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError, SyntaxError):  # built in, of a notebook, or changed since
        return {}
    found: dict[str, list[ast.stmt]] = {}

    def visit(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                found[name + child.name] = child.body
                visit(child, f"{name}{child.name}.")

    visit(tree, "")
    return found


def summary(part: Any) -> str:
    """The first sentence of a part's docstring; "" where it has none of its own."""
    text = part.__doc__ if "__doc__" in vars(part) else None
    first = inspect.cleandoc(text or "").partition("\n\n")[0]
    return re.split(r"(?<=\.)\s", " ".join(first.split()), maxsplit=1)[0]


def papers(part: Any) -> list[str]:
    """The arXiv ids that a part's docstring names, or else its module's, each once in order."""
    own = _PAPER.findall(part.__doc__ or "")
    return list(dict.fromkeys(own or _PAPER.findall(sys.modules[part.__module__].__doc__ or "")))


def _default(field: Any) -> str:
    if field.required:
        return ""
    value = field.default_factory() if field.default is NODEFAULT else field.default
    try:
        text = msgspec.json.encode(value, order="deterministic").decode()
    except TypeError:  # a function, say
        text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shown(info: Any) -> str:
    """A type in plain words: "whole number, at least 1"."""
    if isinstance(info, types.Metadata):
        said = (info.extra_json_schema or {}).get("description")
        return f"{_shown(info.type)} ({said})" if said else _shown(info.type)
    if isinstance(info, types.UnionType):
        return " or ".join(_shown(t) for t in info.types)
    if isinstance(info, types.LiteralType):
        return " | ".join(map(str, info.values))
    if isinstance(info, types.EnumType):
        return " | ".join(str(member.value) for member in info.cls)
    if isinstance(info, types.DictType):
        return f"mapping of {_shown(info.key_type)} to {_shown(info.value_type)}"
    if isinstance(info, types.StructType):
        return info.cls.__name__
    if isinstance(info, types.TupleType):
        return f"list of {', '.join(_shown(t) for t in info.item_types)}"
    item = getattr(info, "item_type", None)
    word = f"list of {_shown(item)}" if item is not None else _WORDS.get(type(info), "value")
    limits = [text.format(getattr(info, key)) for key, text in _RANGES.items() if _limit(info, key)]
    return ", ".join([word, *limits])


def _limit(info: Any, key: str) -> bool:
    return getattr(info, key, None) is not None
