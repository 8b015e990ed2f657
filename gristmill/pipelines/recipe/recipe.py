"""Recipes: YAML to a checked ``Recipe`` whose engine, stages and exports are ready to be used.

Unknown keys are refused everywhere, with their place and the nearest valid key; so are wrong types and
values out of range. Only the plug-ins that a recipe names are imported. Places count from 0, as in
``stages[1].attempts``; the same places, ``stages.1.attempts``, can be overridden with ``--set``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.exports import SUFFIXES, Export
from gristmill.core.registry import Group, find, locate, names, suggest
from gristmill.core.schema import gives
from gristmill.core.stages import Stage
from gristmill.pipelines.recipe.graph import SOURCE, Pipeline
from gristmill.pipelines.recipe.plain import builtins, convert, document, set_value
from gristmill.pipelines.sources.source import Source
from gristmill.verifiers.loading import load as load_verifier
from gristmill.verifiers.pool.pool import Pool

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
"""What the names of recipes, stages and exported files match: safe as the name of a file."""

# In Python '$' also matches before a last line break.
Name = Annotated[str, Meta(pattern=rf"^{NAME}$(?!\n)")]
Count = Annotated[int, Meta(ge=1)]
EngineName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$(?!\n)")]
"""No dots: in ``--set engines.NAME.tries=3`` they divide."""
K = TypeVar("K", bound=Struct)


class VerifierOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which verifier decides and with which ``options``, in how many worker processes (``None``: chosen by
    the machine) of how many MiB, and the seconds after which one decision is given up."""

    kind: str = "math"
    workers: Count | None = None
    deadline: Annotated[float, Meta(gt=0)] = 2.0
    memory_mb: Count = 1024
    options: dict[str, Any] = {}

    def open(self) -> Pool:
        """The worker processes; they start at the first verdict."""
        return Pool(
            self.kind,
            workers=self.workers,
            deadline=self.deadline,
            memory_mb=self.memory_mb,
            options=self.options,
        )


class EngineEntry(Struct, frozen=True):
    """A further engine: the name it has in the recipe, and the options Struct registered as ``kind``."""

    name: str
    kind: str
    options: Any

    def same_as(self, other: EngineEntry) -> bool:
        """Whether both describe one engine, whatever their names."""
        return (self.kind, self.options) == (other.kind, other.options)


class StageEntry(Struct, frozen=True):
    """A stage: the name it is registered under (``kind``), the name it has here, what it reads, and the
    name of the engine that is its own (``None``: the recipe's ``engine``)."""

    kind: str
    name: str
    reads_from: str
    stage: Stage
    engine: str | None = None


class ExportEntry(Struct, frozen=True):
    """An export: its registered name, the stage whose records it reads, and the file's name."""

    format: str
    reads_from: str
    path: str
    export: Export


class Recipe(Struct, frozen=True, kw_only=True):
    """A recipe that can be run. ``engine`` is the options Struct registered as ``engine_kind``; ``engines``
    are the further ones."""

    name: str
    seed: int
    source: Source
    engine_kind: str
    engine: Any
    verifier: VerifierOptions
    stages: tuple[StageEntry, ...]
    pipeline: Pipeline
    exports: tuple[ExportEntry, ...]
    limit: int | None
    rows_in_flight: int | None
    part_rows: int
    engines: tuple[EngineEntry, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """See the function ``to_dict``."""
        return to_dict(self)


class Plain(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a recipe, with engines, stages and exports as they are written.

    ``engine`` is the stages' own; ``engines`` are further ones, by the names that stages call them.
    """

    name: Name
    source: Source
    engine: dict[str, Any]
    stages: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    seed: int = 0
    verifier: VerifierOptions = VerifierOptions()
    exports: list[dict[str, Any]] = []
    limit: Count | None = None
    rows_in_flight: Count | None = None
    part_rows: Count = 10_000
    engines: dict[EngineName, dict[str, Any]] = {}


class StageKeys(Struct, frozen=True, kw_only=True):
    """The keys of a stage beside its own options. ``from_`` names the stage (or "source") it reads,
    ``engine`` the one of the recipe's ``engines`` that is its own in place of ``engine``."""

    stage: str
    as_: Name | None = msgspec.field(default=None, name="as")
    from_: str | None = msgspec.field(default=None, name="from")
    engine: str | None = None


class ExportKeys(Struct, frozen=True, kw_only=True):
    """The keys of an export beside its own options. ``path`` is a file name in the run's exports folder."""

    format: str
    from_: str | None = msgspec.field(default=None, name="from")
    path: Name | None = None


class EngineKeys(Struct, frozen=True, kw_only=True):
    """The key of an engine beside its own options."""

    kind: str


def load(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, with ``a.b=value`` overrides applied (values are YAML).

    A relative ``source.path`` is looked for beside the recipe first, then in the working directory.
    Raises ``RecipeError``.
    """
    path = Path(path)
    data = document(path)
    for override in overrides:
        set_value(data, override)
    source = data.get("source")
    if isinstance(source, dict) and isinstance(source.get("path"), str):
        beside = path.parent / source["path"]
        if beside.exists():
            source["path"] = str(beside)
    return from_dict(data)


def from_dict(data: Mapping[str, Any]) -> Recipe:
    """The recipe that a mapping (as YAML gives it) describes. Raises ``RecipeError``."""
    plain = convert(dict(data), Plain, "")
    if plain.verifier.kind not in names("verifiers"):
        remedy = suggest(plain.verifier.kind, names("verifiers"))
        raise RecipeError(f"verifier.kind: {plain.verifier.kind!r} is no verifier.", remedy=remedy)
    if plain.verifier.options:
        check_verifier(plain.verifier)
    keys, engine = named(plain.engine, EngineKeys, "kind", "engines", "engine")
    engines = _engines(plain.engines)
    found = [named(e, StageKeys, "stage", "stages", f"stages[{i}]") for i, e in enumerate(plain.stages)]
    pipeline = Pipeline(
        [(own.as_ or own.stage, stage, own.from_) for own, stage in found],
        {own.as_ or own.stage: own.engine for own, _ in found if own.engine is not None},
    )
    pipeline.check_names([e.name for e in engines])
    parents = [SOURCE if n.parent is None else pipeline.nodes[n.parent].name for n in pipeline.nodes]
    stages = [
        StageEntry(own.stage, node.name, parent, node.stage, node.engine)
        for (own, _), node, parent in zip(found, pipeline.nodes, parents, strict=True)
    ]
    return Recipe(
        name=plain.name,
        seed=plain.seed,
        source=plain.source,
        engine_kind=keys.kind,
        engine=engine,
        verifier=plain.verifier,
        stages=tuple(stages),
        pipeline=pipeline,
        exports=_exports(plain.exports, pipeline),
        limit=plain.limit,
        rows_in_flight=plain.rows_in_flight,
        part_rows=plain.part_rows,
        engines=engines,
    )


def _engines(given: Mapping[str, dict[str, Any]]) -> tuple[EngineEntry, ...]:
    made = []
    for name, data in given.items():
        keys, options = named(data, EngineKeys, "kind", "engines", f"engines.{name}")
        made.append(EngineEntry(name, keys.kind, options))
    return tuple(made)


def check_verifier(verifier: VerifierOptions) -> None:
    """Refuse a verifier that there is not, and options that it does not take. ``RecipeError``."""
    try:
        load_verifier(locate("verifiers", verifier.kind), verifier.options)
    except (RecipeError, ImportError, AttributeError) as e:
        remedy = e.remedy if isinstance(e, RecipeError) else "Install or mend the package it is from."
        raise RecipeError(f"verifier.options: {getattr(e, 'message', e)}", remedy=remedy) from e


def named(data: dict[str, Any], keys: type[K], key: str, group: Group, place: str) -> tuple[K, Any]:
    """An entry's own keys, and the plug-in that ``key`` names, made from all its other keys."""
    own_keys = keys.__struct_encode_fields__
    if key not in data:
        has = ", ".join(map(repr, data)) or "nothing"
        raise RecipeError(
            f"{place}: the key {key!r} is missing (it has {has}).", remedy=f"Add '{key}: NAME'."
        )
    own = convert({k: v for k, v in data.items() if k in own_keys}, keys, place)
    kind = _plugin(group, getattr(own, key), f"{place}.{key}")
    try:
        options = {k: v for k, v in data.items() if k not in own_keys}
        return own, convert(options, kind, place, own_keys)
    except RecipeError as e:
        if e.message.startswith(place):
            raise
        raise RecipeError(f"{place}: {e.message}", remedy=e.remedy) from e


def _plugin(group: Group, name: str, place: str) -> type[Struct]:
    try:
        found = find(group, name)
    except RecipeError as e:
        raise RecipeError(f"{place}: {e.message}", remedy=e.remedy) from e
    except (ImportError, AttributeError) as e:
        raise RecipeError(
            f"{place}: {name!r} cannot be imported ({e}).", remedy="Install or mend the package it is from."
        ) from e
    if not (isinstance(found, type) and issubclass(found, Struct)):
        raise RecipeError(
            f"{place}: {name!r} is registered as {found!r}, which is no msgspec.Struct.",
            remedy="Mend the package it is from.",
        )
    return found


def make_export(format: str, options: Mapping[str, Any] | None = None) -> Export:
    """The export registered as ``format`` with these options. Raises ``RecipeError``."""
    _, export = named({"format": format, **(options or {})}, ExportKeys, "format", "exports", "export")
    made: Export = export
    return made


def _exports(entries: Sequence[dict[str, Any]], pipeline: Pipeline) -> tuple[ExportEntry, ...]:
    made: list[ExportEntry] = []
    writes = {n.name: n.writes for n in pipeline.nodes}
    for i, entry in enumerate(entries):
        place = f"exports[{i}]"
        own, export = named(entry, ExportKeys, "format", "exports", place)
        able = [name for name, kind in writes.items() if gives(kind, export.reads)]
        wanted = export.reads.__name__
        if own.from_ is not None and own.from_ not in writes:
            raise RecipeError(
                f"{place}.from: {own.from_!r} names no stage.", remedy=suggest(own.from_, writes)
            )
        if own.from_ is not None and own.from_ not in able:
            raise RecipeError(
                f"{place}: {own.format} reads {wanted} records, but stage {own.from_!r} writes "
                f"{writes[own.from_].__name__}.",
                remedy=f"Use 'from: {able[-1]}'." if able else f"Add a stage that writes {wanted} records.",
            )
        if not able:
            raise RecipeError(
                f"{place}: {own.format} reads {wanted} records, and no stage writes them.",
                remedy=f"Add a stage that writes {wanted} records.",
            )
        path = own.path or f"{own.format}{export.suffix}"
        if not path.endswith(SUFFIXES):
            raise RecipeError(
                f"{place}.path: {path!r} is no known kind of file.", remedy=f"Known: {', '.join(SUFFIXES)}."
            )
        if path.lower() in {e.path.lower() for e in made}:
            raise RecipeError(f"{place}: two exports write {path!r}.", remedy="Give one another 'path'.")
        made.append(ExportEntry(own.format, own.from_ or able[-1], path, export))
    return tuple(made)


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data with every default shown; ``from_dict`` of it is the same recipe.

    Further engines, and a stage's choice of one, are shown where there are any.
    """
    plain = {f: builtins(getattr(recipe, f)) for f in Plain.__struct_fields__ if hasattr(recipe, f)}
    plain["engine"] = {"kind": recipe.engine_kind, **builtins(recipe.engine)}
    plain["engines"] = {e.name: {"kind": e.kind, **builtins(e.options)} for e in recipe.engines}
    if not recipe.engines:
        del plain["engines"]  # a run made before there were any is of the same recipe
    plain["stages"] = [
        {"stage": s.kind, "as": s.name, "from": s.reads_from}
        | ({} if s.engine is None else {"engine": s.engine})
        | builtins(s.stage)
        for s in recipe.stages
    ]
    plain["exports"] = [
        {"format": e.format, "from": e.reads_from, "path": e.path, **builtins(e.export)}
        for e in recipe.exports
    ]
    return plain


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
                found[group][name] = _plugin(group, name, group)
            except GristmillError as e:
                found[group][name] = str(e)
    kinds = {k for entries in found.values() for k in entries.values() if isinstance(k, type)}
    wanted = [Plain, *(keys for _, keys in places.values()), *sorted(kinds, key=repr)]
    refs, parts = msgspec.json.schema_components(wanted, ref_template="#/$defs/{name}")
    schemas = {kind: parts[ref["$ref"].rpartition("/")[2]] for kind, ref in zip(wanted, refs, strict=True)}
    for part in parts.values():
        if "properties" in part:
            part["additionalProperties"] = False
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
        "$defs": {name: part for name, part in parts.items() if f'"#/$defs/{name}"' in text},
    }


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
