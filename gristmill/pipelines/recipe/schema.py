"""The JSON Schema of recipes, for editors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct, inspect

from gristmill.core.errors import GristmillError
from gristmill.core.options_doc import descriptions
from gristmill.core.registry import Group, names
from gristmill.pipelines.recipe.entries import EngineKeys, ExportKeys, Plain, StageKeys
from gristmill.pipelines.recipe.recipe import plugin


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of recipes, with every registered engine, stage and export.

    A plug-in that cannot be imported here is allowed with any options, and says why in its description.
    """
    places: dict[Group, tuple[str, type[Struct]]] = {
        "engines": ("kind", EngineKeys),
        "stages": ("stage", StageKeys),
        "exports": ("format", ExportKeys),
    }
    found: dict[Group, dict[str, type[Struct] | str]] = {g: {} for g in places}
    for group in places:
        for name in names(group):
            try:
                found[group][name] = plugin(group, name, group)
            except GristmillError as e:
                found[group][name] = str(e)
    kinds = {k for entries in found.values() for k in entries.values() if isinstance(k, type)}
    wanted: list[type[Struct]] = [Plain, *(keys for _, keys in places.values()), *sorted(kinds, key=repr)]
    refs, parts = msgspec.json.schema_components(wanted, ref_template="#/$defs/{name}")
    schemas = {kind: parts[ref["$ref"].rpartition("/")[2]] for kind, ref in zip(wanted, refs, strict=True)}
    for kind in _reachable(wanted):
        part = parts[kind.__name__]
        part["additionalProperties"] = False
        for key, field in zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True):
            if (said := descriptions(kind).get(field)) is not None:
                part["properties"][key]["description"] = said
    for group, (key, keys) in places.items():
        options = [
            _alternative(key, name, schemas[keys], schemas[kind] if isinstance(kind, type) else kind)
            for name, kind in found[group].items()
        ]
        schemas[Plain]["properties"]["engine" if group == "engines" else group].update(
            {"oneOf": options} if group == "engines" else {"items": {"oneOf": options}}
        )
    schemas[Plain]["properties"]["engines"]["additionalProperties"] = {"$ref": "#/properties/engine"}
    schemas[Plain]["properties"]["verifier"]["description"] = f"kinds: {', '.join(names('verifiers'))}"
    root = schemas[Plain]
    text = msgspec.json.encode([root, *parts.values()]).decode()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **root,
        "title": "Gristmill recipe",
        "oneOf": [{"required": ["source"]}, {"required": ["sources"]}],
        "$defs": {name: part for name, part in parts.items() if f'"#/$defs/{name}"' in text},
    }


def _reachable(kinds: Iterable[type[Struct]]) -> Iterator[type[Struct]]:
    """The Structs that these hold at any depth, themselves included, each once."""
    seen: set[type[Struct]] = set()

    def visit(info: Any) -> Iterator[type[Struct]]:
        if isinstance(info, inspect.StructType):
            if info.cls in seen:
                return
            seen.add(info.cls)
            yield info.cls
        inner = [getattr(info, name, None) for name in ("type", "item_type", "key_type", "value_type")]
        inner += getattr(info, "types", ())
        inner += [field.type for field in getattr(info, "fields", ())]
        for one in inner:
            if isinstance(one, inspect.Type):
                yield from visit(one)

    for kind in kinds:
        yield from visit(inspect.type_info(kind))


def _alternative(key: str, name: str, keys: dict[str, Any], options: dict[str, Any] | str) -> dict[str, Any]:
    """The schema of an entry that names one plug-in: the entry's own keys and the plug-in's options."""
    properties = {**keys["properties"], key: {"const": name}}
    if isinstance(options, str):
        return {"description": options, "type": "object", "properties": properties, "required": [key]}
    return {
        **options,
        "title": name,
        "properties": {**properties, **options["properties"]},
        "required": [key, *options.get("required", ())],
        "additionalProperties": False,
    }
