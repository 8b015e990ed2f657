"""``gristmill eval``: measure an engine with a recipe's prompts and problems, or what a run made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gristmill.cli.options import (
    INTERRUPTED,
    RUNS,
    LimitOption,
    LogOption,
    PartialOption,
    RecipeArg,
    RunsOption,
    SetOption,
)
from gristmill.pipelines.rundir.directory import run_path
from gristmill.pipelines.running.runner import Interrupted

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Measure what an engine can do."""


@app.command("self-correction")
def self_correction(
    recipe: RecipeArg,
    overrides: SetOption = None,
    limit: LimitOption = None,
    runs: RunsOption = RUNS,
    log: LogOption = None,
    sampled: bool = typer.Option(
        False, "--sampled", help="Sample at the prompts' temperatures, not greedily."
    ),
) -> None:
    """One attempt, self-evaluation and correction per problem, and the metrics of arXiv 2502.19613.

    Prompts, problems and engine are the recipe's; --set engine... measures another engine.
    """
    from gristmill.pipelines.evaluate import self_correction as measuring

    try:
        metrics = measuring.evaluate_self_correction(
            recipe, overrides=overrides or [], limit=limit, runs=runs, log=log, sampled=sampled
        )
    except Interrupted as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(INTERRUPTED) from error
    typer.echo("\n" + measuring.table(metrics))


@app.command("step-values")
def step_values(
    what: Annotated[
        str, typer.Argument(metavar="RUN|FILE", help="A run, by name or directory; or a file of locations.")
    ],
    threshold: Annotated[float, typer.Option(help="A value above this is a good label.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and of the subsets that vote.")] = 0,
    partial: PartialOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """How well values of steps tell right from wrong, and choose: AUC, labels by position, best of N.

    A file (JSONL, CSV or Parquet; rows with steps, label and prediction or values) gives ProcessBench's F1.
    """
    from gristmill.pipelines.evaluate import processbench
    from gristmill.pipelines.evaluate import step_values as valued
    from gristmill.pipelines.rundir.results import open_run

    path = Path(what)
    if path.is_file():
        typer.echo(processbench.table(processbench.evaluate_file(path, threshold=threshold)))
    else:
        run = open_run(run_path(what, runs), partial=partial)
        if run.mark:
            typer.echo(f"{run.mark}\n")
        typer.echo(valued.table(valued.evaluate_run(run, threshold=threshold, seed=seed)))


@app.command()
def refusal(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE|RUN...", help="Recipes to ask, or runs that hold responses. First: before."
        ),
    ],
    engine: Annotated[
        list[str] | None,
        typer.Option(help="Of a recipe that asks none itself, an engine by name; 'engine' is the main one."),
    ] = None,
    method: Annotated[str, typer.Option(help="How these are asked: sure, refusal or plain.")] = "sure",
    known: Annotated[
        str | None,
        typer.Option(
            metavar="RUN[:STAGE]", help="A run with a split by certainty: what was known, and parts."
        ),
    ] = None,
    by: Annotated[str, typer.Option(help="Group by part, or by this column of the problems.")] = "part",
    rule: Annotated[str, typer.Option(help="What declines: any, sure, text or none.")] = "any",
    score: Annotated[str, typer.Option(help="combined, confidence, sure or stated.")] = "combined",
    bins: Annotated[int, typer.Option(min=1, help="Bins of equal mass, for ECE and the diagram.")] = 10,
    draws: Annotated[int, typer.Option(min=1, help="Draws of the bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write report (HTML), diagrams (PNG) and JSON there.")
    ] = None,
    overrides: SetOption = None,
    limit: LimitOption = None,
    partial: PartialOption = False,
    runs: RunsOption = RUNS,
    log: LogOption = None,
) -> None:
    """What models answer and what they decline, before against after, with intervals.

    Accuracy on what is answered, refusal rate, over-refusal, AP, AUROC, Brier, ECE, AURC; arXiv 2311.09677.
    This function is longer than most for its options, which are what a user reads.
    """
    from gristmill.pipelines.evaluate import refusal as measuring
    from gristmill.pipelines.evaluate import refusal_report
    from gristmill.pipelines.recipe.plain import convert

    given = {"by": by, "rule": rule, "score": score, "bins": bins, "draws": draws, "seed": seed}
    settings = convert(given, measuring.MeasureSettings, "options")
    if out is not None:
        refusal_report.check()
    try:
        systems = measuring.gather(
            what,
            runs=runs,
            overrides=overrides or (),
            known=known,
            partial=partial,
            engines=engine or (),
            method=method,
            limit=limit,
            log=log,
        )
    except Interrupted as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(INTERRUPTED) from error
    report = measuring.evaluate(systems, settings)
    typer.echo("\n" + measuring.table(report))
    for path in refusal_report.write(report, out) if out is not None else ():
        typer.echo(str(path))


@app.command("best-of-n")
def best_of_n(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, by name or directory.")],
    stage: Annotated[str | None, typer.Option(help="A stage with samples. Default: the last.")] = None,
    by: Annotated[list[str] | None, typer.Option(help="A score, by name. Default: all.")] = None,
    seed: Annotated[int, typer.Option(help="Of the subsets that vote.")] = 0,
    partial: PartialOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Choose one of 1, 2, 4, ... samples by scores, beside votes, weighted votes and the best possible."""
    from gristmill.pipelines.evaluate import best_of_n as choosing
    from gristmill.pipelines.rundir.results import open_run

    found = open_run(run_path(run, runs), partial=partial)
    if found.mark:
        typer.echo(f"{found.mark}\n")
    typer.echo(choosing.table(choosing.evaluate_best_of_n(found, stage=stage, by=by or (), seed=seed)))


@app.command()
def rewards(
    what: Annotated[
        str, typer.Argument(metavar="RUN[:STAGE]|FILE", help="Pairs with scores of both of their sides.")
    ],
    by: Annotated[
        str | None, typer.Option(help="Group by 'kind' or a key of the pairs' meta: subset, language, ...")
    ] = None,
    scorer: Annotated[list[str] | None, typer.Option(help="A scorer, by name. Default: all.")] = None,
    partial: PartialOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """How often a scorer puts the chosen side first: over pairs, by group, one above many, and with ties."""
    from gristmill.pipelines.evaluate import rewards as measuring
    from gristmill.pipelines.report.reading import PairsRead

    pairs = PairsRead(what, runs=runs, partial=partial)
    typer.echo(measuring.table(measuring.evaluate_rewards(pairs, scorers=scorer or (), by=by)))
    for reason, count in pairs.rejected.most_common():
        typer.echo(f"{count:,} rows rejected: {reason}", err=True)


@app.command()
def compare(
    systems: Annotated[
        list[str], typer.Argument(metavar="[NAME=]RUN[,RUN]...", help="The first is what others are held to.")
    ],
    value: Annotated[str, typer.Option(help="An expression of each row.")] = "verdict == 'correct'",
    by: Annotated[str | None, typer.Option(help="Group by an expression, such as meta.subset.")] = None,
    stage: Annotated[str | None, typer.Option(help="The stage. Default: the last.")] = None,
    draws: Annotated[int, typer.Option(min=100, help="Draws of the bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    runs: RunsOption = RUNS,
) -> None:
    """Before and after: a measure of several systems, of one run or several seeds each, on the same problems.

    By group it shows what a training gained and what it cost elsewhere.
    """
    from gristmill.pipelines.evaluate import compare as comparing

    found = comparing.compare_systems(
        comparing.read_systems(systems, runs), value=value, by=by, stage=stage, draws=draws, seed=seed
    )
    typer.echo(comparing.table(found))
