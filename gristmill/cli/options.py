"""Arguments and options that several commands share, and the exit status of one that was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gristmill.cli.shipped import find

INTERRUPTED = 130

RecipeArg = Annotated[
    Path,
    typer.Argument(
        metavar="RECIPE", parser=find, help="A YAML file, or the name of a recipe that comes with Gristmill."
    ),
]
RunArg = Annotated[str, typer.Argument(metavar="RUN", help="The name of a run, or its directory.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe, such as engine.tries=3."),
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Take only the first N problems.")]
RunsOption = Annotated[Path, typer.Option(help="The directory that holds the run directories.")]
LogOption = Annotated[
    Path | None,
    typer.Option(help="The completion log. Default: $GRISTMILL_LOG, else .gristmill/completions.sqlite."),
]
RUNS = Path("runs")


def run_path(run: str, runs: Path) -> Path:
    """A run given by its directory or by its name."""
    path = Path(run)
    return path if path.is_dir() else runs / run


def printed(text: str) -> str:
    """Text of unknown origin as one line that can do a terminal no harm."""
    from gristmill.pipelines.rundir.summary import printable

    return printable(text)
