"""``gristmill methods``, and another engine and other data for ``gristmill run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.core.errors import RecipeError, RunError
from gristmill.pipelines.recipe.method import SCRIPTED

if TYPE_CHECKING:
    from gristmill.pipelines.methods.merging import Merge
    from gristmill.pipelines.rundir.results import Run

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


def merged(recipe: Path, overrides: list[str], engine: str | None, runs: Path) -> bool:
    """Merge the models of a method that merges, into ``RUNS/NAME``; whether the recipe is one.

    With the scripted engine they are tiny, and the tables beside are held against the header. Raises
    ``RecipeError``.
    """
    from gristmill.pipelines.recipe.plain import document

    if not recipe.is_file() or document(recipe).get("merge") is None:
        return False
    from gristmill.pipelines.methods import entry, merging

    plan, found = merging.merge_of(recipe, overrides), entry(recipe)
    assert plan is not None
    out = runs / (recipe.stem if engine is None else f"{recipe.stem}-{engine}")
    if out.exists():
        raise RecipeError(f"{out} is there already.", remedy="Remove it, or give another --runs.")
    if engine is None:
        _merge(plan, out)
        return True
    if engine != SCRIPTED or found is None:
        raise RecipeError(f"{recipe.stem} merges models and asks none.", remedy="Leave out --engine.")
    merging.merge_tiny(plan, found.method, out)
    typer.echo(f"Tiny models, their shares and the merged model: {out}")
    if not overrides:
        check_expected(recipe, out)
    return True


def _merge(plan: Merge, out: Path) -> None:
    """Call the command that ``plan`` names. Raises ``RecipeError`` for an option that it does not know, and
    for one that is missing."""
    import inspect

    from gristmill.cli.models import merge
    from gristmill.core.registry import suggest
    from gristmill.pipelines.methods.merging import required

    command = getattr(merge, plan.command)
    options = inspect.signature(command).parameters
    for name in plan.options:
        if name not in options:
            raise RecipeError(
                f"merge.set: 'gristmill merge {plan.command}' has no option {name!r}.",
                remedy=suggest(name, options),
            )
    models = required(plan)
    two = dict(zip(("aligned", "base"), models, strict=True)) if plan.command == "adaptive" else None
    given: dict[str, Any] = {**(two or {"models": models}), **plan.options, "out": out}
    for name, option in options.items():
        if option.default is option.empty and name not in given:
            raise RecipeError(
                f"'gristmill merge {plan.command}' needs {name!r}.",
                remedy=f"Give it: --set merge.set.{name}=...",
            )
    command(**given)


def check_expected(recipe: Path, run: Run | Path) -> None:
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
