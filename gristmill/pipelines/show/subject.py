"""What a report is about: a run in any state, or a file of rows, as tables of rows kept and rejected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from gristmill.core.errors import InputError
from gristmill.core.options_doc import summary
from gristmill.core.registry import find, names
from gristmill.pipelines.recipe.plain import document
from gristmill.pipelines.report.corpus import scan
from gristmill.pipelines.rundir.directory import EXPORTS, RECIPE, half_made, run_path
from gristmill.pipelines.rundir.parts import REJECTED_FILE, part_files
from gristmill.pipelines.rundir.results import Run, open_run
from gristmill.pipelines.rundir.summary import Summary

if TYPE_CHECKING:
    import polars as pl

_WHOLE = b"PAR1"
"""What a Parquet file ends with once all of it is written."""


class StageRows(Struct, frozen=True):
    """Rows of one stage or file: those that it kept, or those that it rejected with the reason. ``state``
    says what is to be known of them, such as that more are being written; empty for rows that are whole."""

    stage: str
    kind: Literal["kept", "rejected"]
    frame: pl.LazyFrame
    state: str = ""


class StageEntry(Struct, frozen=True):
    """A stage of a recipe: which tables it reads, and what stages of its kind do."""

    reads: tuple[str, ...]
    does: str


class Subject(Struct, frozen=True):
    """A run or file. ``summary`` and ``recipe`` are a run's; ``mark`` is of one that has not come to its end.
    ``files`` are a run's exports, and those of a file the file itself. ``stages`` are a run's by name."""

    name: str
    tables: tuple[StageRows, ...]
    mark: str = ""
    summary: Summary | None = None
    recipe: str = ""
    files: tuple[str, ...] = ()
    stages: Mapping[str, StageEntry] = {}

    def kept(self) -> list[StageRows]:
        """The tables of kept rows, in the order of the stages."""
        return [table for table in self.tables if table.kind == "kept"]


def open_subject(what: str, runs: Path = Path("runs")) -> Subject:
    """The run or the file that ``what`` names; a run may be at work, stopped or complete.

    Raises ``InputError`` for a file that cannot be read, and ``RunError`` where there is no such run.
    """
    path = Path(what)
    if path.is_file():
        return Subject(path.name, (StageRows(path.name, "kept", scan(path)),), files=(path.name,))
    place = run_path(what, runs)
    if path.suffix and not place.exists():
        raise InputError("there is no such file.", path=what, remedy="Name a file, or a run.")
    run = open_run(place, partial=True)
    recipe = run.path / RECIPE
    text = recipe.read_text(encoding="utf-8", errors="replace") if recipe.is_file() else ""
    stages = dict(_stages(recipe)) if text else {}
    exports = run.path / EXPORTS
    files = tuple(sorted(p.name for p in exports.iterdir())) if exports.is_dir() else ()
    return Subject(run.path.name, tuple(_tables(run)), run.mark, run.summary, text, files, stages)


def _stages(recipe: Path) -> Iterator[tuple[str, StageEntry]]:
    """The stages of a resolved recipe; of one whose plug-in is gone it is not known what it does."""
    known = names("stages")
    for entry in document(recipe).get("stages") or ():
        reads = entry.get("from") or ()
        does = summary(find("stages", entry["stage"])).replace("``", "") if entry["stage"] in known else ""
        yield (
            entry.get("as") or entry["stage"],
            StageEntry((reads,) if isinstance(reads, str) else tuple(reads), does),
        )


def _tables(run: Run) -> list[StageRows]:
    """A run's tables, those that are being written included."""
    import polars as pl

    states = run.summary.unfinished.stages if run.summary.unfinished else {}
    found: dict[str, list[StageRows]] = {}
    for folder in run.folders:
        name = folder.name[3:]
        state = states.get(name)
        told = ""
        if state is not None and not state.whole:
            told = "the rows until it stopped"
        if state is not None and state.former:
            told = "rows of an earlier run"
        tables = found.setdefault(folder.name, [])
        if parts := part_files(folder):
            tables.append(StageRows(name, "kept", pl.scan_parquet(parts), told))
        if (dropped := folder / REJECTED_FILE).exists():
            tables.append(StageRows(name, "rejected", pl.scan_parquet(dropped), told))
    for folder in half_made(run.path):
        name = folder.name.removeprefix(".").removesuffix(".new")
        whole = [part for part in part_files(folder) if _is_whole(part)]
        if whole and name not in found:
            table = StageRows(name[3:], "kept", pl.scan_parquet(whole), "more rows are being written")
            found[name] = [table]
    return [table for name in sorted(found) for table in found[name]]


def _is_whole(part: Path) -> bool:
    with part.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - len(_WHOLE)))
        return size > 2 * len(_WHOLE) and file.read() == _WHOLE
