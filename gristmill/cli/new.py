"""``gristmill new``: files to begin with."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from gristmill.cli.shipped import LOOPS, copy
from gristmill.cli.skeleton import SKELETONS, write_plugin
from gristmill.core.errors import RecipeError
from gristmill.core.registry import suggest

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


@app.command()
def loop(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A loop that comes with Gristmill.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The directory to write it to.")] = Path(),
) -> None:
    """Copy a loop that comes with Gristmill, and the data that it reads, to edit them."""
    written = copy(name, out, LOOPS)
    for path in written:
        typer.echo(path)
    typer.echo(f"Start it with: {shlex.join(['gristmill', 'loop', str(written[0])])} --model DIR")


@app.command()
def plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call the package and its part.")],
    kind: Annotated[str, typer.Option(help=f"The kind of part: {', '.join(SKELETONS)}.")] = "stage",
    out: Annotated[Path, typer.Option(metavar="DIR", help="The directory to write it to.")] = Path(),
) -> None:
    """Write a package with a stage, filter, verifier, engine or export of your own, and a test of it."""
    if kind not in SKELETONS:
        raise RecipeError(f"{kind!r} is not a kind of plug-in.", remedy=suggest(kind, SKELETONS))
    written = write_plugin(name, kind, out)
    for path in written:
        typer.echo(path)
    root = shlex.quote(str(out / name))
    typer.echo(f"Install it with: pip install -e {root}")
    typer.echo(f"Test it with: pytest {root}")
    typer.echo(f"See it with: gristmill list {SKELETONS[kind].group} {name}")
