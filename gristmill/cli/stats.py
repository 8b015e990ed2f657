"""``gristmill stats``."""

from __future__ import annotations

from typing import Annotated

import typer

from gristmill.cli.options import RUNS, PartialOption, RunsOption


def stats(
    what: Annotated[
        str,
        typer.Argument(metavar="FILE|RUN[:STAGE]", help="JSONL, CSV or Parquet, or a run: before and after."),
    ],
    json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    partial: PartialOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Say what a corpus is like: counts, lengths, verdicts, pass rates, duplicates, languages."""
    from gristmill.pipelines.report.corpus import as_json, report, table

    found = report(what, runs=runs, partial=partial)
    typer.echo(as_json(found) if json else table(found))
