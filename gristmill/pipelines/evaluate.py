"""``gristmill eval``: measure an engine with the prompts and the problems of a recipe, or what a run made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from gristmill.core.errors import GristmillError
from gristmill.core.records import Exploration
from gristmill.core.schema import from_frame
from gristmill.pipelines import evaluate_refusal, runner
from gristmill.pipelines import recipe as recipes
from gristmill.pipelines.cli import (
    INTERRUPTED,
    RUNS,
    LimitOption,
    LogOption,
    RecipeArg,
    RunsOption,
    SetOption,
)
from gristmill.pipelines.recipe import Recipe
from gristmill.synth.self_correction import Explore, Metrics, Trial, measure
from gristmill.synth.self_correction.trial import triple

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

_TRIAL = "self_correction_trial"
_MEANING = {
    "problems": "problems measured",
    "turn1": "first answer right",
    "final": "last answer right",
    "delta": "final - turn1 = i_to_c - c_to_i",
    "i_to_c": "wrong answers made right",
    "c_to_i": "right answers made wrong",
    "p_c_to_i": "final wrong, given first right and judged wrong",
    "rm_right": "right first answers judged correct",
    "rm_wrong": "wrong first answers judged wrong",
    "no_verdict": "self-evaluations without a readable verdict",
}


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
    try:
        metrics = evaluate_self_correction(
            recipe, overrides=overrides or [], limit=limit, runs=runs, log=log, sampled=sampled
        )
    except runner.Interrupted as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(INTERRUPTED) from error
    typer.echo("\n" + table(metrics))


@app.command("step-values")
def step_values(
    what: Annotated[
        str, typer.Argument(metavar="RUN|FILE", help="A run, by name or directory; or a file of locations.")
    ],
    threshold: Annotated[float, typer.Option(help="A value above this is a good label.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and of the subsets that vote.")] = 0,
    runs: RunsOption = RUNS,
) -> None:
    """How well values of steps tell right from wrong, and choose: AUC, labels by position, best of N.

    A file (JSONL, CSV or Parquet; rows with steps, label and prediction or values) gives ProcessBench's F1.
    """
    from gristmill.pipelines import evaluate_locations, evaluate_steps

    path = Path(what)
    if path.is_file():
        typer.echo(evaluate_locations.table(evaluate_locations.evaluate_file(path, threshold=threshold)))
    else:
        run = path if path.is_dir() else runs / what
        typer.echo(evaluate_steps.table(evaluate_steps.evaluate_run(run, threshold=threshold, seed=seed)))


app.command("refusal")(evaluate_refusal.refusal)


def evaluate_self_correction(
    recipe: Recipe | str | Path,
    *,
    overrides: Sequence[str] = (),
    limit: int | None = None,
    runs: str | Path = RUNS,
    log: str | Path | None = None,
    sampled: bool = False,
) -> Metrics:
    """Run one trial per problem in ``runs/NAME-eval`` and measure them.

    Style, prompts and marker are those of the recipe's ``explore_self_correction`` stage, or the default
    ones where it has none. Problems that were rejected (no answer, a failed request) are not counted.
    """
    if not isinstance(recipe, Recipe):
        recipe = recipes.load(recipe, overrides)
    found = runner.run(trial_of(recipe, sampled=sampled), limit=limit, runs=runs, log=log, resume=True)
    if not found.stages:
        raise GristmillError(
            f"no problem of {recipe.name} could be tried.",
            remedy=f"See why with: gristmill show {found.path} --rejected --stage {_TRIAL}",
        )
    trials = from_frame(found.rows(_TRIAL).collect(), Exploration)
    return measure(triple(t) for t in trials)


def trial_of(recipe: Recipe, *, sampled: bool) -> Recipe:
    """The recipe with one trial per problem in place of its stages."""
    explore = next((e.stage for e in recipe.stages if isinstance(e.stage, Explore)), Explore())
    trial = Trial(
        style=explore.style,
        prompts=explore.prompts,
        marker=explore.marker,
        temperature=None if sampled else 0.0,
    )
    described = recipes.to_dict(recipe)
    described["name"] = f"{recipe.name}-eval"
    described["stages"] = [{"stage": _TRIAL, **msgspec.to_builtins(trial)}]
    described["exports"] = []
    described.pop("engines", None)  # the trial asks the main one alone
    return recipes.from_dict(described)


def table(metrics: Metrics) -> str:
    """The metrics, a line each; a share that nothing falls under is shown as a dash."""
    lines = []
    for name, meaning in _MEANING.items():
        value = getattr(metrics, name)
        shown = "-" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"
        lines.append(f"{name:<12}{shown:>8}  {meaning}")
    return "\n".join(lines)
