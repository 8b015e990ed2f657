"""The commands that tell before anything is paid for: ``plan`` and ``explain``."""

from __future__ import annotations

from typing import Annotated

import typer

from gristmill.cli.options import (
    RUNS,
    LimitOption,
    LogOption,
    RecipeArg,
    RunsOption,
    SetOption,
    printed,
)
from gristmill.pipelines.rundir.directory import run_path


def plan(
    recipe: RecipeArg,
    overrides: SetOption = None,
    limit: LimitOption = None,
    log: LogOption = None,
    rows: Annotated[
        float | None, typer.Option(min=1, help="Predict the cost of this many rows (1e6), from a pilot.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="With --rows: GPUs that will work.")] = 1,
    pilot: Annotated[
        str | None, typer.Option(metavar="RUN", help="A complete run of the recipe. Default: its own.")
    ] = None,
    pilot_rows: Annotated[
        int | None, typer.Option(min=1, help="Instead: the first N rows, which are in the log.")
    ] = None,
    pilot_gpus: Annotated[int, typer.Option(min=1, help="GPUs that the pilot ran on.")] = 1,
    tokens_per_second: Annotated[
        float | None, typer.Option(min=1e-9, help="Completion tokens of one GPU. Default: the pilot's.")
    ] = None,
    dollars_per_gpu_hour: Annotated[float | None, typer.Option(min=0)] = None,
    prompts: Annotated[
        int, typer.Option(min=0, metavar="N", help="Show the first N prompts of each stage instead.")
    ] = 0,
    runs: RunsOption = RUNS,
) -> None:
    """Say how many completions and tokens a recipe will need, and what is in the log already.

    With --rows: what that many rows will take, predicted from what a pilot was seen to take.
    """
    if rows is None:
        from gristmill.pipelines.planning import bounds, text

        found = bounds.plan(recipe, overrides=overrides or [], limit=limit, log=log, prompts=prompts)
        typer.echo(text.rendered(found) if prompts else text.table(found))
        return
    from gristmill.pipelines.planning import forecast
    from gristmill.pipelines.running.runner import log_path

    predicted = forecast.predict(
        recipe,
        rows,
        overrides=overrides or [],
        gpus=gpus,
        pilot=None if pilot is None else run_path(pilot, runs),
        pilot_rows=pilot_rows,
        pilot_gpus=pilot_gpus,
        tokens_per_second=tokens_per_second,
        dollars_per_gpu_hour=dollars_per_gpu_hour,
        runs=runs,
        log=log_path(log),
    )
    typer.echo(forecast.table(predicted))


def explain(
    what: Annotated[
        str,
        typer.Argument(
            metavar="STAGE|FORMAT|KEY", help="sample, trl-dpo, until, engine.tries, sample.samples"
        ),
    ],
) -> None:
    """Print what the schema says of a stage, an engine, an export format, or a key of a recipe."""
    from gristmill.pipelines.recipe.explain import explained

    for line in explained(what).splitlines():
        typer.echo(printed(line))
