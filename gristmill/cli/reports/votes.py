"""``gristmill report votes``: how far the votes of samples can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from gristmill.cli.options import RUNS, PartialOption, RunsOption
from gristmill.core.errors import RecipeError

if TYPE_CHECKING:
    from gristmill.synth.agreement.answers import Answers


def votes(
    what: Annotated[str, typer.Argument(metavar="RUN|FILE", help="A run, or a file of samples.")],
    stage: Annotated[
        str | None, typer.Option(help="Of a run, a stage with samples. Default: the last that has any.")
    ] = None,
    answers: Annotated[str, typer.Option(help="Where answers are read: math, short or verdict.")] = "math",
    weight: Annotated[
        str | None, typer.Option(help="An expression by which votes are weighted too, such as scores.reward.")
    ] = None,
    verification: Annotated[
        str | None,
        typer.Option(
            metavar="SCORE", help="Scores in [0, 1] that verify samples: SCORE, or SCORE_0 and so on."
        ),
    ] = None,
    ratio: Annotated[float, typer.Option(min=0, help="What a verification costs of a solution.")] = 1.0,
    bins: Annotated[int, typer.Option(min=1, help="Bins of equal mass, for ECE and the table.")] = 10,
    draws: Annotated[int, typer.Option(min=1, help="Draws of samples for each budget.")] = 20,
    seed: Annotated[int, typer.Option(help="Of these draws.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    partial: PartialOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Accuracy by rule and by winning share, and what votes and verifications reach at equal cost."""
    from gristmill.pipelines.report.votes import as_json, report, table

    if answers not in ("math", "short", "verdict"):
        raise RecipeError(
            f"--answers {answers!r} is not a way to read answers.", remedy="Use math, short or verdict."
        )
    found = report(
        what,
        stage=stage,
        runs=runs,
        partial=partial,
        answers=cast("Answers", answers),
        weight=weight,
        verification=verification,
        ratio=ratio,
        count=bins,
        draws=draws,
        seed=seed,
    )
    typer.echo(as_json(found) if json else table(found))
