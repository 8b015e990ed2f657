"""A run, read back: its summary, and the rows that each stage kept and dropped."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.errors import RunError
from gristmill.core.registry import suggest
from gristmill.pipelines.rundir.directory import PARTIAL, SUMMARY, stage_folders
from gristmill.pipelines.rundir.ledger import AT_WORK, states_of
from gristmill.pipelines.rundir.parts import REJECTED_FILE, part_files
from gristmill.pipelines.rundir.summary import Summary, Unfinished, decode, partial_mark, table

if TYPE_CHECKING:
    import polars as pl


class Run(Struct, frozen=True):
    """A run in the directory ``path``."""

    path: Path
    summary: Summary

    @property
    def mark(self) -> str:
        """What to write beside all that is made of an unfinished run; empty for one that came to its end."""
        return partial_mark(self.summary)

    @property
    def stages(self) -> list[str]:
        """The stages that have rows, in order."""
        return [f.name[3:] for f in self.folders if part_files(f)]

    def folder(self, stage: str | None = None) -> Path:
        """A stage's folder; ``None`` is the last stage's."""
        folders = {f.name[3:]: f for f in self.folders}
        stage = self.stages[-1] if stage is None and self.stages else stage or ""
        if stage not in folders:
            remedy = suggest(stage, folders) if folders else "It stopped before it had made rows of any."
            raise RunError(f"{self.path} has no stage {stage!r}.", remedy=remedy)
        return folders[stage]

    def rows(self, stage: str | None = None) -> pl.LazyFrame:
        """What a stage kept, as a lazy Polars frame. Raises ``RunError`` for a source, whose
        rows are not kept here."""
        import polars as pl

        return pl.scan_parquet(self._parts(stage))

    def rejected(self, stage: str | None = None) -> pl.LazyFrame:
        """What a stage dropped: id, reason, detail, and the row of the source where that is known."""
        import polars as pl

        return pl.scan_parquet(self.folder(stage) / REJECTED_FILE)

    def dataset(self, stage: str | None = None) -> Any:
        """What a stage kept, as a ``datasets.Dataset``."""
        import datasets
        import pyarrow.parquet as pq

        return datasets.Dataset(pq.read_table(self._parts(stage)))

    def _parts(self, stage: str | None) -> list[Path]:
        folder = self.folder(stage)
        if not (found := part_files(folder)):
            raise RunError(
                f"{self.path}:{folder.name[3:]} holds no rows. Those of a source stay in its own file.",
                remedy=f"Name a stage that has rows: {', '.join(self.stages) or 'there is none'}.",
            )
        return found

    def _repr_html_(self) -> str:
        """What a notebook shows: the closing table, as text that can do no harm."""
        return f"<p>{escape(str(self.path))}</p><pre>{escape(table(self.summary))}</pre>"

    @property
    def folders(self) -> list[Path]:
        """The folders of its sources and stages, in order."""
        return stage_folders(self.path)


def open_run(path: Path, *, partial: bool = False) -> Run:
    """The run at ``path``. ``RunError`` where there is none, or one that has not yet come to its end.

    ``partial``: that too. What is there of it has the ``mark``; ``summary.unfinished`` says what that is.
    """
    try:
        return Run(path, _summary(path / SUMMARY))
    except FileNotFoundError:
        pass
    folders = stage_folders(path)
    if partial and (folders or (path / PARTIAL).exists()):
        try:
            found = _summary(path / PARTIAL)
        except FileNotFoundError:
            found = Summary(path.name, 0, "", [], unfinished=Unfinished(AT_WORK))
        states = states_of(path, found)
        unfinished = replace(found.unfinished or Unfinished(AT_WORK), stages=states)
        return Run(path, replace(found, unfinished=unfinished))
    known = sorted(p.parent.name for p in path.parent.glob(f"*/{SUMMARY}"))
    if folders:
        remedy = "Give the same 'gristmill run' command until it ends; 'gristmill show --partial' shows it."
    elif path.is_dir():
        remedy = "Give the same 'gristmill run' command until it ends."
    else:
        remedy = suggest(path.name, known) if known else "Make one with: gristmill run RECIPE"
    raise RunError(f"{path} holds no complete run.", remedy=remedy)


def _summary(path: Path) -> Summary:
    try:
        return decode(path.read_bytes())
    except FileNotFoundError:
        raise
    except (msgspec.DecodeError, OSError) as error:
        raise RunError(f"{path} cannot be read: {error}.", remedy="Run its recipe again.") from error
