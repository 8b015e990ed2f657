"""``gristmill methods``, and another engine and other data for ``gristmill run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gristmill.core.errors import RunError

if TYPE_CHECKING:
    from gristmill.pipelines.rundir.results import Run

SCRIPTED = "scripted"
EngineOption = Annotated[
    str | None,
    typer.Option(
        metavar="scripted|embedded|FILE",
        help="Instead of the recipe's engines: the answers in a method's header, the embedded model, or the "
        "engine in a YAML file.",
    ),
]
DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data", metavar="FILE", help="Instead of the recipe's data; SOURCE=FILE for one of several."
    ),
]


def methods(
    family: Annotated[str | None, typer.Option(help="Only those of this family.")] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the methods of the literature that come as recipes, with what each makes and needs."""
    from gristmill.pipelines.methods import entries, table

    found = entries(family)
    if not json:
        typer.echo(table(found))
        return
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode([e.plain() for e in found]), indent=1).decode())


def chosen(recipe: Path, overrides: list[str], engine: str | None, data: list[str] | None) -> list[str]:
    """The overrides with those for another engine and other data before them. Raises ``RecipeError``, also
    for data that the method cannot use."""
    if engine is None and not data:
        return overrides
    from gristmill.pipelines.methods.choosing import check_needs, choose
    from gristmill.pipelines.recipe import load

    overrides = [*choose(recipe, engine, data), *overrides]
    if data:
        check_needs(recipe, load(recipe, overrides).sources)
    return overrides


def check_expected(recipe: Path, run: Run) -> None:
    """Say that the rows are what the method's header says of them; ``RunError`` where they are not."""
    from gristmill.pipelines.methods import entry, unmet

    if (found := entry(recipe)) is None:
        return
    if lines := unmet(found.method, run):
        raise RunError(
            f"{found.name}: the rows are not what its header expects. {' '.join(lines)}",
            remedy="Was the recipe changed? Change its 'expect' with it.",
        )
    typer.echo(f"The rows are what the header of {found.name} expects.")
