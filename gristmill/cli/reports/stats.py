"""``gristmill stats``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gristmill.cli.options import RUNS, PartialOption, RunsOption


def stats(
    what: Annotated[
        str,
        typer.Argument(metavar="FILE|RUN[:STAGE]", help="JSONL, CSV or Parquet, or a run: before and after."),
    ],
    json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the report as a page with plots.")
    ] = None,
    partial: PartialOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Say what a corpus is like: counts, lengths, verdicts, pass rates, duplicates, languages."""
    from gristmill.pipelines.report.corpus import as_json, report, table

    found = report(what, runs=runs, partial=partial)
    if html is not None:
        from gristmill.pipelines.report.corpus_page import write

        write(found, html, what)
        typer.echo(f"Wrote {html}.", err=True)
    typer.echo(as_json(found) if json else table(found))
