"""``gristmill preview``: the first rows of a recipe through all of its stages, shown stage by stage.

They are paid for like any others, and are in the completion log for the run. Nothing else is kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gristmill.core.errors import GristmillError
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.rundir.directory import RunDir
from gristmill.pipelines.rundir.parts import REJECTED_FILE, part_files
from gristmill.pipelines.running.runner import loaded, log_path, run
from gristmill.pipelines.show.terminal import plain_text, render

if TYPE_CHECKING:
    from rich.console import Console


def preview(
    recipe: Recipe | str | Path,
    console: Console,
    *,
    overrides: Sequence[str] = (),
    rows: int = 5,
    log: str | Path | None = None,
) -> None:
    """Print the first ``rows`` rows of every stage, made of as many rows of each source.

    Where a stage ends the run, those before it are shown, and its error is raised.
    """
    recipe = loaded(recipe, overrides, rows)
    recipe = msgspec.structs.replace(recipe, exports=(), until=None)
    failed: GristmillError | None = None
    with tempfile.TemporaryDirectory(prefix="gristmill-preview-") as folder:
        try:
            run(recipe, runs=folder, log=log_path(log), quiet=True)
        except GristmillError as error:
            failed = error
        rundir = RunDir(Path(folder) / recipe.name)
        for index, node in enumerate(recipe.graph.nodes):
            _show(rundir.stage(index, node.name).path, node.name, rows, console)
    if failed is not None:
        raise failed


def _show(folder: Path, name: str, rows: int, console: Console) -> None:
    """The first rows that a node kept, and why it rejected others."""
    import polars as pl

    rejected = pl.read_parquet(folder / REJECTED_FILE) if (folder / REJECTED_FILE).exists() else None
    kept = pl.scan_parquet(part_files(folder)).collect() if part_files(folder) else None
    if rejected is None or (kept is None and rejected.is_empty()):
        return  # it was not reached, or is a source whose rows are not written
    counts = f"{0 if kept is None else kept.height:,} rows, {rejected.height:,} rejected"
    console.print(plain_text(f"\n━━ {name}: {counts}", "bold"))
    for row in () if kept is None else kept.head(rows).iter_rows(named=True):
        console.print()
        console.print(render(row), soft_wrap=True)
    for row_id, reason, detail in rejected.head(rows).select("id", "reason", "detail").rows():
        console.print(plain_text(f"rejected {row_id}: {reason}{f' ({detail})' if detail else ''}", "dim"))
