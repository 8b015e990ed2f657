"""``gristmill report``: what a run or its rows are like before they are trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gristmill.cli.options import RUNS, PartialOption, RunsOption, compared
from gristmill.cli.reports.votes import votes
from gristmill.core.errors import RecipeError

DEFAULT = "page"
"""The command that is meant where the first word is the name of none."""

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Say what a run or its rows are like: 'gristmill report RUN' writes a page."""


@app.command()
def page(
    what: Annotated[
        list[str],
        typer.Argument(metavar="RUN|FILE [OTHER]", help="A run in any state, or a file; two are compared."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Default: NAME-report.html.")
    ] = None,
    rows: Annotated[
        int, typer.Option(min=1, help="Rows that the page holds, at most; more are sampled.")
    ] = 2000,
    runs: RunsOption = RUNS,
) -> None:
    """Write one HTML file with the run's funnel, distributions, cost and rows. It needs no network."""
    from gristmill.pipelines.show.report import write

    typer.echo(f"written: {write(compared(what), out=out, runs=runs, rows=rows)}")


app.command()(votes)


@app.command()
def pairs(
    what: Annotated[
        str, typer.Argument(metavar="FILE|RUN[:STAGE]", help="A file of pairs, or a run that made some.")
    ],
    by: Annotated[
        str | None, typer.Option(help="Count by this key of meta. Default: source, dataset or subset.")
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="Of a file: preference, ultrafeedback, helpsteer, comparison, ranking. Default: told by it."
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="FIELD=COLUMN", help="Of a file: where a field stands."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    partial: PartialOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Margins, lengths, biases, agreement of scorers, repeated prompts and contradictions of pairs."""
    from gristmill.pipelines.report import text
    from gristmill.pipelines.report.pairs import as_json, report
    from gristmill.pipelines.report.reading import PairsRead

    options: dict[str, Any] = {} if layout is None else {"layout": layout}
    for one in column or []:
        field, equals, name = one.partition("=")
        if not equals:
            raise RecipeError(f"--column {one!r} has no '='.", remedy="Write --column FIELD=COLUMN.")
        options.setdefault("columns", {})[field] = name
    reading = PairsRead(what, runs=runs, partial=partial, options=options)
    found = report(reading, name=reading.name, by=by)
    typer.echo(as_json(found) if json else text.table(found))
