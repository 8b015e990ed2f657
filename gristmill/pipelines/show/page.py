"""The page of a run's trees and valued solutions: one HTML file that asks no network for anything."""

from __future__ import annotations

from pathlib import Path

from gristmill.core.errors import RunError
from gristmill.core.registry import suggest
from gristmill.pipelines.rundir.directory import disk_errors, write_file
from gristmill.pipelines.rundir.results import Run
from gristmill.pipelines.show.document import document
from gristmill.pipelines.show.drawing import Drawing, drawable, drawing


def html(drawings: list[Drawing], mark: str = "") -> str:
    """The page, with its data inside. ``mark`` is of an unfinished run."""
    return document(
        "trees.html",
        drawings,
        styles=("tree.css", "trees.css"),
        scripts=("base.js", "tree.js", "trees.js"),
        title="Gristmill: steps and trees",
        mark=mark,
    )


def write(run: Run, out: Path, *, stage: str | None = None, n: int = 100) -> int:
    """Write the page of the first ``n`` rows of a stage, by default the last that can be drawn.

    Returns how many it shows. Raises ``RunError`` where no stage holds trees or steps.
    """
    able = [name for name in run.stages if drawable(run.rows(name).collect_schema().names())]
    name = stage or (able[-1] if able else None)
    if name is None or name not in able:
        if stage is not None and stage not in run.stages:
            raise RunError(f"{run.path} has no stage {stage!r}.", remedy=suggest(stage, run.stages))
        what = "no stage holds" if stage is None else f"the stage {stage!r} does not hold"
        raise RunError(
            f"{run.path}: {what} steps or trees, which alone can be drawn.",
            remedy=f"Stages that can be drawn: {', '.join(able) or 'none'}.",
        )
    rows = run.rows(name).head(n).collect().iter_rows(named=True)
    made = [d for d in map(drawing, rows) if d is not None]
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, html(made, run.mark).encode())
    return len(made)
