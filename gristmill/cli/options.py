"""Arguments and options that several commands share, and what their exit statuses mean."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from gristmill.cli.shipped import find
from gristmill.core.errors import GristmillError, RecipeError, RunStopped

FAILED, UNUSABLE, SOME, NONE, STOPPED, INTERRUPTED = 1, 2, 3, 4, 5, 130
"""Exit statuses beside 0: an error; a recipe or a command that cannot be run as it is; a run that made some
of its rows, or none; a run that stopped itself and can be continued, or was interrupted and can be."""

RecipeArg = Annotated[
    Path,
    typer.Argument(
        metavar="RECIPE", parser=find, help="A YAML file, or the name of a recipe that comes with Gristmill."
    ),
]
PartialOption = Annotated[
    bool, typer.Option("--partial", help="Take a run that has not come to its end, as far as it got.")
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
PayAgainOption = Annotated[
    bool,
    typer.Option("--pay-again", help="Pay anew for a complete run of which the completion log has nothing."),
]
RUNS = Path("runs")


def compared(what: list[str]) -> list[str]:
    """One or two runs or files. ``RecipeError`` for more."""
    if len(what) > 2:
        raise RecipeError(
            f"{len(what)} runs or files are given, and two at most can be compared.",
            remedy="Name one or two.",
        )
    return what


def status_of(error: GristmillError) -> int:
    """The exit status of a command that ended with this error."""
    if isinstance(error, RecipeError):
        return UNUSABLE
    return STOPPED if isinstance(error, RunStopped) else FAILED


def asking() -> Callable[[str], bool] | None:
    """A function that asks the user a question; ``None`` where nobody sits at a terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    return lambda question: typer.confirm(question, err=True)


def printed(text: str) -> str:
    """Text of unknown origin as one line that can do a terminal no harm."""
    from gristmill.pipelines.rundir.summary import printable

    return printable(text)
