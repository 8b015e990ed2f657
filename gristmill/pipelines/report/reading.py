"""The pairs of a file, or of a stage of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from gristmill.core.errors import InputError, RecipeError
from gristmill.core.records import Pair
from gristmill.core.rules import told
from gristmill.core.stages import Rejection
from gristmill.pipelines.rundir import parts
from gristmill.pipelines.rundir.directory import run_and_stage
from gristmill.pipelines.rundir.results import Run, open_run
from gristmill.pipelines.sources import source
from gristmill.pipelines.sources.options import Source


class PairsRead:
    """An iterator of pairs; ``rejected`` counts by reason the rows of a file that gave none, and
    ``rejected_examples`` has what is said of the first such row."""

    def __init__(
        self,
        what: str,
        *,
        runs: Path = Path("runs"),
        partial: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """``what`` is a file or folder, or a run as NAME or NAME:STAGE. ``options`` are those of a source
        (``layout``, ``columns``, ...). Raises ``InputError``, ``RunError`` or ``RecipeError`` where there is
        nothing to read."""
        self.rejected: Counter[str] = Counter()
        self.rejected_examples: dict[str, str] = {}
        self.name = what
        place, stage = run_and_stage(what, runs)
        if Path(what).is_file() or not _is_run(place):
            if not Path(what).exists() and Path(what).suffix == "":
                open_run(place, partial=partial)  # which says that there is none
            self._rows: Iterator[Any] = source.read(_source(what, options or {}))
            return
        if options:
            raise RecipeError(
                f"{what} is a run, and {', '.join(options)} is for files.",
                remedy="Leave it out: a run's columns have their names.",
            )
        found = open_run(place, partial=partial)
        self.name = f"{found.path.name}:{stage or _last(found)}"
        self._rows = _read(found, stage or _last(found))

    def __iter__(self) -> Iterator[Pair]:
        for row in self._rows:
            if isinstance(row, Rejection):
                self.rejected[row.reason] += 1
                self.rejected_examples.setdefault(row.reason, row.detail)
            else:
                yield row


def _is_run(place: Path) -> bool:
    return place.is_dir() and any((place / name).exists() for name in ("summary.json", "partial.json"))


def _source(path: str, options: Mapping[str, Any]) -> Source:
    try:
        return msgspec.convert({"path": path, "reads": "pairs", **options}, Source)
    except msgspec.ValidationError as error:
        raise RecipeError(
            f"{path}: {told(error, Source)}.", remedy="See 'gristmill schema' for a source's options."
        ) from error


def _holds_pairs(run: Run, stage: str) -> bool:
    import polars as pl

    found = pl.read_parquet_schema(parts.part_files(run.folder(stage))[0])
    return all(field.name in found for field in msgspec.structs.fields(Pair) if field.required)


def _last(run: Run) -> str:
    """The last stage that holds pairs."""
    for stage in reversed(run.stages):
        if _holds_pairs(run, stage):
            return stage
    raise RecipeError(
        f"{run.path} has no stage that holds pairs (its stages: {', '.join(run.stages) or 'none'}).",
        remedy="Make some with the stage 'pairs', or name another run.",
    )


def _read(run: Run, stage: str) -> Iterator[Any]:
    folder = run.folder(stage)
    if not parts.part_files(folder) or not _holds_pairs(run, stage):
        raise InputError(
            "the stage holds no pairs.", path=f"{run.path}:{stage}", remedy=f"Try {_last(run)!r}."
        )
    return parts.read(folder, Pair)
