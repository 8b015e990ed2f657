"""``gristmill explain``: what the JSON Schema of recipes says of a part or a key, as plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.registry import suggest
from gristmill.pipelines.recipe.schema import json_schema

_WIDTH = 100


class _Entry(Struct, frozen=True):
    """A part or key: its path in a recipe, its schema, and whether it must be given."""

    path: str
    schema: dict[str, Any]
    required: bool = False


def explained(what: str) -> str:
    """What the schema says of ``what``: the name of a stage, engine or format; a key; or one within another,
    as ``until.rows`` or ``sample.samples``. A key that several parts have is told of each.

    Raises ``RecipeError`` for what the schema does not have.
    """
    schema = json_schema()
    wanted = what.strip(".").split(".")
    entries = list(_entries(schema, schema))
    found = [e for e in entries if _ends(e.path.split("."), wanted)]
    if not found:
        known = {e.path.rpartition(".")[2] for e in entries}
        raise RecipeError(
            f"{what!r} is neither a part nor a key of a recipe.", remedy=suggest(wanted[-1], known)
        )
    exact = [e for e in found if e.path.count(".") == min(f.path.count(".") for f in found)]
    whole = exact if len(exact) == 1 or len(wanted) > 1 else found
    alike: dict[str, list[str]] = {}
    for entry in whole:
        alike.setdefault("\n".join(_told(entry, schema)), []).append(entry.path)
    return "\n\n".join(f"{', '.join(paths)}: {said}" for said, paths in alike.items())


def _ends(path: list[str], wanted: list[str]) -> bool:
    """Whether ``path`` ends with the words wanted, other words allowed in between."""
    left = iter(path)
    return path[-1] == wanted[-1] and all(word in left for word in wanted)


def _entries(node: dict[str, Any], root: dict[str, Any], at: str = "") -> Iterator[_Entry]:
    """Every part and key below a schema, by path; parts by their registered names."""
    node = _resolved(node, root)
    for part in (node, *node.get("oneOf", ())):
        below = at
        if "title" in part and part is not node:
            below = f"{at}.{part['title']}".lstrip(".")
            yield _Entry(below, part)
        required = part.get("required", ())
        for key, held in part.get("properties", {}).items():
            path = f"{below}.{key}".lstrip(".")
            if "const" in held:
                continue
            yield _Entry(path, held, key in required)
            if "$ref" in held and held["$ref"].startswith("#/properties/"):
                continue
            for inner in (held, held.get("items", {}), *held.get("anyOf", ())):
                if isinstance(inner, dict) and inner is not root:
                    yield from _entries(inner, root, path)
            for kind, one in _kinds(held, root):
                yield _Entry(f"{path}.{kind}", one)


def _kinds(mapping: dict[str, Any], root: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of a mapping whose values are of several kinds, each with its name."""
    values = mapping.get("additionalProperties")
    for one in values.get("anyOf", ()) if isinstance(values, dict) else ():
        for name in _resolved(one, root).get("properties", {}).get("kind", {}).get("enum", ()):
            yield str(name), one


def _resolved(node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    ref = node.get("$ref", "")
    if not ref.startswith("#/$defs/"):
        return node
    found: dict[str, Any] = root["$defs"][ref.rpartition("/")[2]]
    return found


def _told(entry: _Entry, root: dict[str, Any]) -> Iterator[str]:
    schema = _resolved(entry.schema, root)
    yield _type(entry.schema, root) + _given(entry)
    said = entry.schema.get("description") or schema.get("description") or ""
    yield from textwrap.wrap(" ".join(said.split()), _WIDTH, initial_indent="  ", subsequent_indent="  ")
    if kinds := [name for name, _ in _kinds(schema, root)]:
        yield from textwrap.wrap(
            f"Kinds: {', '.join(kinds)}.", _WIDTH, initial_indent="  ", subsequent_indent="  "
        )
    held_by = [schema, *(_resolved(s, root) for s in schema.get("anyOf", ()))]
    required = [key for s in held_by for key in s.get("required", ())]
    for key, held in [pair for s in held_by for pair in s.get("properties", {}).items()]:
        if "const" in held:
            continue
        inner = _Entry(key, held, key in required)
        yield f"  {key}: {_type(held, root)}{_given(inner)}"
        words = " ".join(str(held.get("description", "")).split())
        yield from textwrap.wrap(words, _WIDTH, initial_indent="      ", subsequent_indent="      ")


def _given(entry: _Entry) -> str:
    """Whether a key must be given, or what it is otherwise."""
    if entry.required:
        return " (required)"
    if "default" not in entry.schema:
        return ""
    text = str(entry.schema["default"])
    text = {"None": "null", "True": "true", "False": "false", "": "empty"}.get(text, text)
    return f" = {text if len(text) <= 60 else text[:57] + '...'}"


_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "at least {} long",
    "minItems": "at least {} items",
}


def _type(schema: dict[str, Any], root: dict[str, Any]) -> str:
    """The type in plain words."""
    if "enum" in schema:
        return " | ".join("null" if value is None else str(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(s, root) for s in schema["anyOf"]))
    if "$ref" in schema:
        held = _resolved(schema, root)
        return "one of the parts" if held is schema else _type(held, root)
    kind = schema.get("type", "anything")
    word = {
        "integer": "whole number",
        "string": "text",
        "boolean": "true or false",
        "object": "mapping",
        "array": "list",
    }.get(str(kind), str(kind))
    if word == "list" and isinstance(schema.get("items"), dict) and "oneOf" not in schema["items"]:
        word = f"list of {_type(schema['items'], root)}"
    return ", ".join([word, *(text.format(schema[k]) for k, text in _BOUNDS.items() if k in schema)])
