"""Pipelines composed in Python: sources, stages, engines and exports as objects, without YAML.

What is built is a ``Recipe``, and runs as one. Classes of a script or notebook will do as stages, filters and
verifiers; the ``recipe.yaml`` of such a run says where they are from, but cannot be run again by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Struct

from gristmill.core.contracts import check_made, check_part, place_of
from gristmill.core.errors import RecipeError
from gristmill.core.exports import Export
from gristmill.core.money import Budget, Price
from gristmill.core.registry import Group, name_of
from gristmill.core.schema import to_frame
from gristmill.core.stages import Stage
from gristmill.core.verdicts import Verifier
from gristmill.engines.options import NONE, EngineOptions
from gristmill.pipelines.planning.bounds import Plan, plan
from gristmill.pipelines.recipe.entries import (
    EngineEntry,
    EngineKeys,
    ExportEntry,
    GivenVerifier,
    Until,
    VerifierOptions,
)
from gristmill.pipelines.recipe.graph import SOURCE, Graph, Placed
from gristmill.pipelines.recipe.plain import builtins
from gristmill.pipelines.recipe.recipe import Recipe, exports_of, named
from gristmill.pipelines.rundir.directory import write_file
from gristmill.pipelines.rundir.parts import encode
from gristmill.pipelines.rundir.results import Run
from gristmill.pipelines.running import runner
from gristmill.pipelines.sources.options import Source

if TYPE_CHECKING:
    import polars as pl

GivenSource = Any
"""A ``Source``, a file's name, or rows in memory: dicts, records, a Polars frame, a ``datasets.Dataset``."""
GivenEngine = EngineOptions | str | Mapping[str, Any]
"""An engine's options, the name of a kind, or a mapping with ``kind`` and options."""
_INPUTS = "inputs"


class Named(NamedTuple):
    """A stage with what a recipe would say beside its options: ``name``, what it ``reads`` (names of sources
    and earlier stages; by default the one before it), and the name of its ``engine``."""

    stage: Stage
    name: str | None = None
    reads: Sequence[str] = ()
    engine: str | None = None


class Pipeline:
    """Sources, stages, engines and exports, to be run.

    ``stages`` are stages in order, each reading the one before it; one that reads another, several, or has a
    name of its own is ``Named``. ``source`` is one source or a mapping of names to several. ``exports`` are
    formats by name, ``Export`` objects, or the entries of a recipe.
    """

    def __init__(
        self,
        source: GivenSource | Mapping[str, GivenSource],
        stages: Iterable[Stage | Named],
        *,
        engine: GivenEngine = NONE,
        engines: Mapping[str, GivenEngine] | None = None,
        verifier: str | Verifier | VerifierOptions = "math",
        verifiers: Mapping[str, str | Verifier | VerifierOptions] | None = None,
        exports: Sequence[str | Export | Mapping[str, Any]] = (),
        seed: int = 0,
        limit: int | None = None,
        until: Until | None = None,
        prices: Mapping[str, Price] | None = None,
        budget: Budget | None = None,
    ) -> None:
        """Checks all parts and how they fit; raises ``RecipeError``. Nothing is read or sent yet."""
        several = isinstance(source, Mapping)
        self._given: dict[str, Any] = dict(source) if several else {SOURCE: source}
        self._rows = {n: _rows(s) for n, s in self._given.items() if not isinstance(s, Source | str | Path)}
        sources = {name: _source(given, name) for name, given in self._given.items()}
        records: dict[str, type[Struct]] = {name: s.record for name, s in sources.items()}
        graph = Graph(records, [_placed(i, stage, list(sources)) for i, stage in enumerate(stages)])
        main = _engine("engine", engine)
        further = tuple(_engine(name, given) for name, given in (engines or {}).items())
        graph.check_names([e.name for e in further], verifiers or {})
        self._recipe = Recipe(
            name="pipeline",
            seed=seed,
            sources=sources,
            engine_kind=main.kind,
            engine=main.options,
            engines=further,
            verifier=_verifier(verifier),
            verifiers={name: _verifier(given) for name, given in (verifiers or {}).items()},
            graph=graph,
            exports=_exports(exports, graph),
            limit=limit,
            until=until,
            rows_in_flight=None,
            part_rows=10_000,
            prices=prices or {},
            budget=budget,
        )

    def run(self, path: str | Path, **options: Any) -> Run:
        """Run it in the directory ``path``, and return what came of it.

        ``options`` are those of ``gristmill.run``: ``resume``, ``fresh``, ``limit``, ``log``, ``quiet``.
        """
        path = Path(path)
        return runner.run(self.recipe(path), runs=path.parent, **options)

    def plan(self, path: str | Path = "runs/pipeline", **options: Any) -> Plan:
        """What it will need; ``options`` are those of ``gristmill.plan``: ``limit`` and ``log``."""
        return plan(self.recipe(Path(path)), **options)

    def recipe(self, path: str | Path) -> Recipe:
        """The recipe that runs in the directory ``path``; rows given in memory are written there."""
        path = Path(path)
        sources = dict(self._recipe.sources)
        for name, frame in self._rows.items():
            file = path / _INPUTS / f"{name}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_file(file, encode(frame))
            sources[name] = msgspec.structs.replace(sources[name], path=str(file))
        return msgspec.structs.replace(self._recipe, name=path.name, sources=sources)


def _rows(given: Any) -> pl.DataFrame:
    """Rows in memory as a frame."""
    import polars as pl

    if isinstance(given, pl.LazyFrame):
        return given.collect()
    if isinstance(given, pl.DataFrame):
        return given
    if hasattr(given, "to_polars"):  # a data set of the library datasets
        made = given.to_polars()
        return made if isinstance(made, pl.DataFrame) else pl.concat(made)
    rows = list(given)
    if rows and isinstance(rows[0], Struct):
        return to_frame(rows, type(rows[0]))
    return pl.DataFrame(rows, infer_schema_length=None)


def _source(given: Any, name: str) -> Source:
    if isinstance(given, Source):
        return given
    if isinstance(given, str | Path):
        return Source(path=str(given))
    first = next(iter(given), None) if isinstance(given, list | tuple) else None
    reads = name_of("records", type(first)) if isinstance(first, Struct) else None
    return Source(path=f"{name}.parquet", reads=reads)


def _kind(group: Group, cls: type) -> str:
    """The registered name of a part's class; for one that is not registered its place, once it is checked."""
    known = name_of(group, cls)
    if known is None:
        check_part(group, cls.__name__, cls)
    return known or place_of(cls)


def _placed(position: int, given: Stage | Named, sources: list[str]) -> Placed:
    stage, name, reads, engine = given if isinstance(given, Named) else Named(given)
    kind = _kind("stages", type(stage))
    check_made("stages", kind, stage)
    name = name or (kind if ":" not in kind else type(stage).__name__)
    return Placed(kind, name, stage, reads or ([] if position else sources[:1]), engine)


def _engine(name: str, given: GivenEngine) -> EngineEntry:
    if isinstance(given, EngineOptions):
        return EngineEntry(name, _kind("engines", type(given)), given)
    data = {"kind": given} if isinstance(given, str) else dict(given)
    keys, options = named(data, EngineKeys, "kind", "engines", name)
    return EngineEntry(name, keys.kind, options)


def _verifier(given: str | Verifier | VerifierOptions) -> VerifierOptions:
    if isinstance(given, VerifierOptions):
        given.check("verifier")
        return given
    if isinstance(given, str):
        return _verifier(VerifierOptions(kind=given))
    kind = name_of("verifiers", type(given))
    if kind is not None:
        return VerifierOptions(kind=kind, options=builtins(given))
    check_part("verifiers", place_of(given), given if hasattr(given, "__qualname__") else type(given))
    return GivenVerifier(kind=place_of(given), verifier=given)


def _exports(given: Sequence[str | Export | Mapping[str, Any]], graph: Graph) -> tuple[ExportEntry, ...]:
    entries: list[dict[str, Any]] = []
    for export in given:
        if isinstance(export, str):
            entries.append({"format": export})
        elif isinstance(export, Export):
            kind = name_of("exports", type(export))
            if kind is None:
                raise RecipeError(
                    f"the export {place_of(export)} is not registered.",
                    remedy="Name it in its package's entry points, or write the rows of the run yourself.",
                )
            entries.append({"format": kind, **builtins(export)})
        else:
            entries.append(dict(export))
    return exports_of(entries, graph)
