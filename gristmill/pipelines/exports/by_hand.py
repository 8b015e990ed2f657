"""``gristmill export``: a stage's rows in a trainer's format, beside the files that the recipe makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from gristmill.core.errors import RecipeError, RunError
from gristmill.core.exports import Export
from gristmill.core.schema import needed
from gristmill.pipelines.exports.writing import write
from gristmill.pipelines.recipe.plain import document
from gristmill.pipelines.recipe.recipe import make_export
from gristmill.pipelines.rundir.directory import EXPORTS, PARTIAL, RECIPE, SUMMARY, hold
from gristmill.pipelines.rundir.parts import fingerprint, part_files
from gristmill.pipelines.rundir.results import Run, open_run
from gristmill.pipelines.rundir.summary import HandExport


class HandFile(NamedTuple):
    """A file that was written: its rows, and the records dropped, by reason, with the export's remarks."""

    path: Path
    rows: int
    notes: Counter[str]
    mark: str
    """What marks it as made of an unfinished run; empty for a complete one."""


def export_run(
    path: Path,
    format: str,
    *,
    stage: str | None = None,
    out: Path | None = None,
    options: Mapping[str, Any] | None = None,
    partial: bool = False,
) -> HandFile:
    """Write a stage's rows of the run at ``path`` in a registered format, and record that in its summary.

    ``stage`` is by default the last that writes what the format reads; ``out`` is ``FORMAT.STAGE`` with the
    format's suffix in the run's exports, with ``.partial`` before the suffix for an unfinished run, which is
    taken only if ``partial``. ``options`` are the format's. Raises ``RecipeError`` for an unknown format or
    option and for a stage that does not fit, ``RunError`` for a run that is at work, and for a file that the
    recipe itself made, which is never replaced.
    """
    chosen = make_export(format, options)
    open_run(path, partial=partial)  # before the lock of what may be no run is made
    with hold(path) as rundir:
        run = open_run(path, partial=partial)
        stage = stage or fitting(run, format, chosen)
        name = f"{format}.{stage}{'.partial' if run.mark else ''}{chosen.suffix}"
        out = out or path / EXPORTS / name
        _refuse_own(run, out)
        parts = part_files(run.folder(stage))
        notes: Counter[str] = Counter()
        rows = write(chosen, parts, out, notes)
        made = HandExport(
            format, stage, rows, dict(options or {}), fingerprint(run.folder(stage)), bool(run.mark)
        )
        exported = run.summary.exported | {_name(run, out): made}
        rundir.write(
            PARTIAL if run.mark else SUMMARY,
            replace(run.summary, exported=dict(sorted(exported.items()))).encode(),
        )
    return HandFile(out, rows, notes, run.mark)


def hand_exports(run: Run) -> list[str]:
    """A line for each file that was exported by hand and is still there, and whether it is older than its
    stage's rows."""
    lines = []
    for name, made in run.summary.exported.items():
        if not (run.path / EXPORTS / name).exists():
            continue
        same = made.stage in run.stages and made.made_of == fingerprint(run.folder(made.stage))
        old = "" if same else f"; older than the rows of {made.stage}: export it again"
        part = "; of an unfinished run" if made.partial else ""
        lines.append(f"exported by hand: {name}, {made.rows:,} rows{part}{old}")
    return lines


def fitting(run: Run, format: str, chosen: Export) -> str:
    """The last stage that has what the format reads."""
    wanted = set(needed(chosen.reads))
    fitting = [name for name in run.stages if wanted <= set(run.rows(name).collect_schema().names())]
    if not fitting:
        raise RecipeError(
            f"{format} reads {chosen.reads.__name__} records, and no stage of {run.path} has them.",
            remedy=f"Its stages are: {', '.join(run.stages)}.",
        )
    return fitting[-1]


def _refuse_own(run: Run, out: Path) -> None:
    """Never replace what the recipe made."""
    own = {run.path / EXPORTS / name for name in (*run.summary.exports, *_named(run.path / RECIPE))}
    if out.resolve() in {path.resolve() for path in own}:
        raise RunError(
            f"{out} is a file that the recipe makes.",
            remedy="Give this one another name with --out FILE, or change the recipe's 'exports' and run it.",
        )


def _named(recipe: Path) -> list[str]:
    """The files of a recipe's exports."""
    with suppress(RecipeError):  # one that was lost in a power failure has made no export
        return [str(e["path"]) for e in document(recipe).get("exports") or () if "path" in e]
    return []


def _name(run: Run, out: Path) -> str:
    """The file's name in the run's exports, or its whole path where it is elsewhere."""
    exports = (run.path / EXPORTS).resolve()
    whole = out.resolve()
    return whole.relative_to(exports).as_posix() if whole.is_relative_to(exports) else str(whole)
