"""``gristmill new``: files to begin with."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from gristmill.cli.shipped import copy

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Write files to begin with."""


@app.command()
def recipe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A recipe that comes with Gristmill.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The directory to write it to.")] = Path(),
) -> None:
    """Copy a recipe that comes with Gristmill, and the data that it reads, to edit them."""
    written = copy(name, out)
    for path in written:
        typer.echo(path)
    typer.echo(f"Run it with: {shlex.join(['gristmill', 'run', str(written[0])])}")
