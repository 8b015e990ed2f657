"""A finished run, read back: its summary, and the rows that each stage kept and dropped."""

from __future__ import annotations

from collections import Counter
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from gristmill.core import registry
from gristmill.core.errors import RecipeError, RunError
from gristmill.core.registry import suggest
from gristmill.pipelines.rundir.directory import EXPORTS, SUMMARY
from gristmill.pipelines.rundir.parts import REJECTED_FILE, part_files
from gristmill.pipelines.rundir.summary import Summary, decode, table

if TYPE_CHECKING:
    import polars as pl


class Run(Struct, frozen=True):
    """A complete run in the directory ``path``."""

    path: Path
    summary: Summary

    @property
    def stages(self) -> list[str]:
        """The stages that have rows, in order."""
        return [f.name[3:] for f in self._folders() if part_files(f)]

    def folder(self, stage: str | None = None) -> Path:
        """A stage's folder; ``None`` is the last stage's."""
        folders = {f.name[3:]: f for f in self._folders()}
        stage = self.stages[-1] if stage is None and self.stages else stage or ""
        if stage not in folders:
            raise RunError(f"{self.path} has no stage {stage!r}.", remedy=suggest(stage, folders))
        return folders[stage]

    def rows(self, stage: str | None = None) -> pl.LazyFrame:
        """What a stage kept, as a lazy Polars frame."""
        import polars as pl

        return pl.scan_parquet(part_files(self.folder(stage)))

    def rejected(self, stage: str | None = None) -> pl.LazyFrame:
        """What a stage dropped: id, reason, detail, and the row of the source where that is known."""
        import polars as pl

        return pl.scan_parquet(self.folder(stage) / REJECTED_FILE)

    def dataset(self, stage: str | None = None) -> Any:
        """What a stage kept, as a ``datasets.Dataset``."""
        import datasets
        import pyarrow.parquet as pq

        return datasets.Dataset(pq.read_table(part_files(self.folder(stage))))

    def _repr_html_(self) -> str:
        """What a notebook shows: the closing table, as text that can do no harm."""
        return f"<p>{escape(str(self.path))}</p><pre>{escape(table(self.summary))}</pre>"

    def _folders(self) -> list[Path]:
        return sorted(f for f in self.path.glob("[0-9][0-9]-*") if f.is_dir())


def export_run(
    path: Path, export: str, *, stage: str | None = None, out: Path | None = None
) -> tuple[Path, int, Counter[str]]:
    """Write a stage's rows in a registered format, with its default options.

    ``stage`` is by default the last that writes what the format reads, ``out`` a file named after the
    format in the run's exports. Returns the file, its rows, and the records dropped, by reason. Raises
    ``RecipeError`` for an unknown format or a stage that does not fit.
    """
    from gristmill.pipelines.exports import base as exports

    run = open_run(path)
    chosen = registry.find("exports", export)()
    wanted = chosen.reads.__struct_fields__
    fitting = [name for name in run.stages if set(wanted) <= set(run.rows(name).collect_schema().names())]
    if stage is None and not fitting:
        raise RecipeError(
            f"{export} reads {chosen.reads.__name__} records, and no stage of {path} has them.",
            remedy=f"Its stages are: {', '.join(run.stages)}.",
        )
    out = out or path / EXPORTS / f"{export}{chosen.suffix}"
    notes: Counter[str] = Counter()
    parts = part_files(run.folder(stage or fitting[-1]))
    return out, exports.write(chosen, parts, out, notes), notes


def open_run(path: Path) -> Run:
    """The run at ``path``. ``RunError`` where there is none, or one that has not yet come to its end."""
    try:
        return Run(path, decode((path / SUMMARY).read_bytes()))
    except FileNotFoundError:
        known = sorted(p.parent.name for p in path.parent.glob(f"*/{SUMMARY}"))
        if path.is_dir():
            remedy = "Give the same 'gristmill run' command until it ends."
        else:
            remedy = suggest(path.name, known) if known else "Make one with: gristmill run RECIPE"
        raise RunError(f"{path} holds no complete run.", remedy=remedy) from None
    except (msgspec.DecodeError, OSError) as error:
        raise RunError(
            f"{path / SUMMARY} cannot be read: {error}.", remedy="Run its recipe again."
        ) from error
