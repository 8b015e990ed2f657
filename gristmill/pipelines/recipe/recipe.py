"""Recipes: YAML to a checked ``Recipe`` whose engine, stages and exports are ready to be used, and back.

Unknown keys are refused everywhere, with their place and the nearest valid key; so are wrong types and
values out of range. Only the plug-ins that a recipe names are imported. Places count from 0, as in
``stages[1].attempts``; the same places, ``stages.1.attempts``, can be overridden with ``--set``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from gristmill.core.contracts import check_made, check_part
from gristmill.core.errors import RecipeError
from gristmill.core.exports import SUFFIXES, Export
from gristmill.core.money import Budget, Price, price_of
from gristmill.core.registry import Group, find, suggest
from gristmill.core.schema import gives, needed
from gristmill.core.secrets import refuse_secrets
from gristmill.core.stages import Refer
from gristmill.engines.options import NONE
from gristmill.pipelines.recipe.entries import (
    Card,
    EngineEntry,
    EngineKeys,
    ExportEntry,
    ExportKeys,
    Plain,
    StageKeys,
    Until,
    VerifierOptions,
)
from gristmill.pipelines.recipe.graph import SOURCE, Graph, GraphNode, Placed
from gristmill.pipelines.recipe.places import check_places
from gristmill.pipelines.recipe.plain import builtins, convert, document, set_value
from gristmill.pipelines.sources.source import Source

K = TypeVar("K", bound=Struct)
_KEYS: dict[Group, tuple[str, ...]] = {
    "engines": EngineKeys.__struct_encode_fields__,
    "stages": StageKeys.__struct_encode_fields__,
    "exports": ExportKeys.__struct_encode_fields__,
}


class Recipe(Struct, frozen=True, kw_only=True):
    """A recipe that can be run. ``engine`` is the options Struct registered as ``engine_kind``; ``engines``
    and ``verifiers`` are the further ones."""

    name: str
    seed: int
    sources: Mapping[str, Source]
    engine_kind: str
    engine: Any
    verifier: VerifierOptions
    graph: Graph
    exports: tuple[ExportEntry, ...]
    limit: int | None
    rows_in_flight: int | None
    part_rows: int
    engines: tuple[EngineEntry, ...] = ()
    verifiers: Mapping[str, VerifierOptions] = {}
    until: Until | None = None
    prices: Mapping[str, Price] = {}
    budget: Budget | None = None
    card: Card | None = None

    def __post_init__(self) -> None:
        """Refuse a budget in dollars where one of the engines has no price. Raises ``RecipeError``."""
        if self.budget is None or self.budget.usd is None:
            return
        main = EngineEntry("engine", self.engine_kind, self.engine)
        for entry in (main, *self.engines):
            if entry.kind != NONE and price_of(self.prices, entry.options) is None:
                model = getattr(entry.options, "model", "")
                raise RecipeError(
                    f"budget.usd: there is no price for the model {model!r} ({entry.kind}).",
                    remedy=f"Add it: prices: {{{model}: {{input: DOLLARS, output: DOLLARS}}}}, for a million "
                    "tokens each; 0 for a model that costs nothing.",
                )

    @property
    def refer(self) -> dict[str, Refer]:
        """How the verifiers that want a row's problem get it with its answer; the main one is ``""``."""
        given = {"": self.verifier, **self.verifiers}
        return {name: refer for name, options in given.items() if (refer := options.refer()) is not None}

    @property
    def stages(self) -> list[GraphNode]:
        """The stages, in order."""
        return [node for node in self.graph.nodes if node.stage is not None]

    @staticmethod
    def load(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
        """See the function ``load``."""
        return load(path, overrides)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Recipe:
        """See the function ``from_dict``."""
        return from_dict(data)

    def to_dict(self) -> dict[str, Any]:
        """See the function ``to_dict``."""
        return to_dict(self)


_DATA_FILES = (".jsonl", ".json", ".parquet", ".csv", ".yaml")
"""How the name of a file in an option of a stage ends; no other text is taken for one."""


def load(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, with ``a.b=value`` overrides applied (values are YAML).

    A relative ``path`` of a source, of the file of prices, or of a data file in a stage's options is looked
    for beside the recipe first, then in the working directory.
    Raises ``RecipeError``.
    """
    path = Path(path)
    data = document(path)
    for override in overrides:
        set_value(data, override)
    look_beside(data, path.parent)
    return from_dict(data)


def look_beside(data: dict[str, Any], folder: Path) -> None:
    """Put ``folder`` before the relative paths of a recipe's sources and prices that are there, and before
    the names of data files in the options of its stages."""
    several = data.get("sources")
    for source in (data.get("source"), *(several.values() if isinstance(several, dict) else ())):
        if isinstance(source, dict) and isinstance(source.get("path"), str):
            beside = folder / source["path"]
            if beside.exists():
                source["path"] = str(beside)
    if isinstance(prices := data.get("prices"), str) and (folder / prices).exists():
        data["prices"] = str(folder / prices)
    if "stages" in data:
        data["stages"] = _beside(data["stages"], folder)


def _beside(value: Any, folder: Path) -> Any:
    if isinstance(value, dict):
        return {key: _beside(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_beside(item, folder) for item in value]
    named = isinstance(value, str) and len(value) < 256 and value.endswith(_DATA_FILES)
    return str(folder / value) if named and (folder / value).is_file() else value


def from_dict(data: Mapping[str, Any]) -> Recipe:
    """The recipe that a mapping (as YAML gives it) describes. ``RecipeError``, also for a secret in it."""
    refuse_secrets(data)
    plain = convert(dict(data), Plain, "")
    if plain.source is None and not plain.sources:
        raise RecipeError(
            "the recipe: the key 'source' is missing.",
            remedy="Give one, source: {path: ...}, or several by names, sources: {NAME: {path: ...}}.",
        )
    if plain.source is not None and plain.sources:
        raise RecipeError(
            "the recipe has both 'source' and 'sources'.", remedy="Put all of them under 'sources'."
        )
    sources = {SOURCE: plain.source} if plain.source is not None else plain.sources
    plain.verifier.check("verifier")
    for name, verifier in plain.verifiers.items():
        verifier.check(f"verifiers.{name}")
    keys, engine = named(plain.engine, EngineKeys, "kind", "engines", "engine")
    engines = _engines(plain.engines)
    found = [named(e, StageKeys, "stage", "stages", f"stages[{i}]") for i, e in enumerate(plain.stages)]
    graph = Graph(
        {name: source.record for name, source in sources.items()},
        [
            Placed(own.stage, own.as_ or own.stage, stage, _names(own.from_, sources, i), own.engine)
            for i, (own, stage) in enumerate(found)
        ],
    )
    graph.check_names([e.name for e in engines], plain.verifiers)
    check_places(graph, sources)
    if plain.until is not None and plain.until.stage is not None:
        graph.find(plain.until.stage)
    return Recipe(
        name=plain.name,
        seed=plain.seed,
        sources=sources,
        engine_kind=keys.kind,
        engine=engine,
        verifier=plain.verifier,
        verifiers=plain.verifiers,
        graph=graph,
        exports=exports_of(plain.exports, graph),
        limit=plain.limit,
        until=plain.until,
        rows_in_flight=plain.rows_in_flight,
        part_rows=plain.part_rows,
        engines=engines,
        prices=_prices(plain.prices),
        budget=plain.budget,
        card=plain.card,
    )


def _prices(given: Mapping[str, Price] | str) -> Mapping[str, Price]:
    """The prices themselves, or those in the file that is named. Raises ``RecipeError``."""
    if not isinstance(given, str):
        return given
    held = convert({"prices": document(Path(given))}, _PriceFile, given)
    return held.prices


class _PriceFile(Struct, forbid_unknown_fields=True):
    prices: dict[str, Price]


def _names(given: str | list[str] | None, sources: Mapping[str, Any], position: int) -> Sequence[str]:
    """What a stage reads, by name; nothing for the node before it."""
    if given is None:
        return () if position else (next(iter(sources)),)
    return (given,) if isinstance(given, str) else given


def _engines(given: Mapping[str, dict[str, Any]]) -> tuple[EngineEntry, ...]:
    made = []
    for name, data in given.items():
        keys, options = named(data, EngineKeys, "kind", "engines", f"engines.{name}")
        made.append(EngineEntry(name, keys.kind, options))
    return tuple(made)


def named(data: dict[str, Any], keys: type[K], key: str, group: Group, place: str) -> tuple[K, Any]:
    """An entry's own keys, and the plug-in that ``key`` names, made from all its other keys."""
    own_keys = keys.__struct_encode_fields__
    if key not in data:
        has = ", ".join(map(repr, data)) or "nothing"
        raise RecipeError(
            f"{place}: the key {key!r} is missing (it has {has}).", remedy=f"Add '{key}: NAME'."
        )
    own = convert({k: v for k, v in data.items() if k in own_keys}, keys, place)
    kind = plugin(group, getattr(own, key), f"{place}.{key}")
    try:
        options = {k: v for k, v in data.items() if k not in own_keys}
        made = convert(options, kind, place, own_keys)
        if group != "engines":  # an engine is checked when it is opened
            check_made(group, getattr(own, key), made)
        return own, made
    except RecipeError as e:
        if e.message.startswith(place):
            raise
        raise RecipeError(f"{place}: {e.message}", remedy=e.remedy) from e


def plugin(group: Group, name: str, place: str) -> type[Struct]:
    """The Struct of options registered under a name. ``RecipeError`` with the ``place`` for anything else."""
    try:
        found = find(group, name)
    except RecipeError as e:
        raise RecipeError(f"{place}: {e.message}", remedy=e.remedy) from e
    except (ImportError, AttributeError) as e:
        raise RecipeError(
            f"{place}: {name!r} cannot be imported ({e}).",
            remedy="Install or repair the package it is from.",
        ) from e
    try:
        check_part(group, name, found, reserved=_KEYS[group])
    except RecipeError as e:
        raise RecipeError(f"{place}: {e.message}", remedy=e.remedy) from e
    kind: type[Struct] = found
    return kind


def make_export(format: str, options: Mapping[str, Any] | None = None) -> Export:
    """The export registered as ``format`` with these options. Raises ``RecipeError``."""
    _, export = named({"format": format, **(options or {})}, ExportKeys, "format", "exports", "export")
    made: Export = export
    return made


def exports_of(entries: Sequence[dict[str, Any]], graph: Graph) -> tuple[ExportEntry, ...]:
    """The exports of a recipe, each with the node that it reads. Raises ``RecipeError``."""
    made: list[ExportEntry] = []
    writes = {n.name: n.writes for n in graph.nodes}
    for i, entry in enumerate(entries):
        place = f"exports[{i}]"
        own, export = named(entry, ExportKeys, "format", "exports", place)
        able = [name for name, kind in writes.items() if gives(kind, export.reads, needed(export.reads))]
        wanted = export.reads.__name__
        if own.from_ is not None and own.from_ not in writes:
            raise RecipeError(
                f"{place}.from: {own.from_!r} names no stage.", remedy=suggest(own.from_, writes)
            )
        if own.from_ is not None and own.from_ not in able:
            raise RecipeError(
                f"{place}: {own.format} reads {wanted} records, but {own.from_!r} writes "
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
                f"{place}.path: {path!r} is not a known kind of file.",
                remedy=f"Known: {', '.join(SUFFIXES)}.",
            )
        if path.lower() in {e.path.lower() for e in made}:
            raise RecipeError(f"{place}: two exports write {path!r}.", remedy="Give one another 'path'.")
        reads_from = own.from_ or able[-1]
        if export.columns or export.with_config:
            _check_extras(export, writes[reads_from], path, place)
        made.append(ExportEntry(own.format, reads_from, path, export))
    return tuple(made)


def _check_extras(export: Export, kind: type[Struct], path: str, place: str) -> None:
    """Refuse columns that the records do not have, and settings that there are not."""
    from gristmill.pipelines.exports.columns import check_columns
    from gristmill.pipelines.exports.configs import config_of

    try:
        check_columns(export, kind)
        if export.with_config:
            config_of(export, Path(path))
    except RecipeError as e:
        raise RecipeError(f"{place}.{e.message}", remedy=e.remedy) from e


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data with every default shown; ``from_dict`` of it is the same recipe.

    Keys that came later than the first recipes are shown where they say something.
    """
    plain = {f: builtins(getattr(recipe, f)) for f in Plain.__struct_fields__ if hasattr(recipe, f)}
    plain["engine"] = {"kind": recipe.engine_kind, **builtins(recipe.engine)}
    plain["engines"] = {e.name: {"kind": e.kind, **builtins(e.options)} for e in recipe.engines}
    if list(recipe.sources) == [SOURCE]:
        plain["source"] = plain.pop("sources")[SOURCE]
    nodes = recipe.graph.nodes
    plain["stages"] = []
    for node in recipe.stages:
        reads = [nodes[i].name for i in node.inputs]
        entry = {"stage": node.kind, "as": node.name, "from": reads[0] if len(reads) == 1 else reads}
        entry |= {} if node.engine is None else {"engine": node.engine}
        plain["stages"].append(entry | builtins(node.stage))
    plain["exports"] = [
        {"format": e.format, "from": e.reads_from, "path": e.path, **builtins(e.export)}
        for e in recipe.exports
    ]
    for verifier in (plain["verifier"], *plain["verifiers"].values()):
        verifier.pop("verifier", None)  # an object given in Python; 'kind' says where it is from
    for key in ("engines", "verifiers", "until", "prices", "budget", "card"):
        if not plain[key]:
            del plain[key]
    return {key: plain[key] for key in _ORDER if key in plain}


_ORDER = (
    "name", "source", "sources", "engine", "stages", "seed", "verifier", "exports", "limit",
    "rows_in_flight", "part_rows", "engines", "verifiers", "until", "prices", "budget", "card",
)  # fmt: skip
