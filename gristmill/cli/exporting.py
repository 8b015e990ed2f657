"""``gristmill export`` and ``gristmill formats``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gristmill.cli.options import NONE, RUNS, PartialOption, RunArg, RunsOption, run_path


def export(
    run: RunArg,
    format_: Annotated[str, typer.Option("--format", help="The format, such as trl-sft.")],
    from_: Annotated[str | None, typer.Option("--from", help="Default: the last stage that fits.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file, .jsonl, .parquet or .dataset. Default: FORMAT.STAGE.jsonl in the run's exports."
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="An option of the format: untrained=keep."),
    ] = None,
    with_config: Annotated[
        bool, typer.Option("--with-config", help="Write the trainer's settings beside the data.")
    ] = False,
    partial: PartialOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Write a stage's rows in a trainer's format, and record that in the run's summary."""
    from gristmill.pipelines.exports.by_hand import export_run
    from gristmill.pipelines.recipe.plain import set_value
    from gristmill.pipelines.rundir.summary import printable

    options: dict[str, Any] = {"with_config": True} if with_config else {}
    for text in option or []:
        set_value(options, text)
    done = export_run(run_path(run, runs), format_, stage=from_, out=out, options=options, partial=partial)
    for reason, count in sorted(done.notes.items()):
        typer.echo(f"{count:,} {printable(reason)}", err=True)
    if done.mark:
        typer.echo(done.mark, err=True)
    typer.echo(f"{done.rows:,} rows: {done.path}")
    if not done.rows:
        raise typer.Exit(NONE)


def formats(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One format; default: all.")] = None,
) -> None:
    """Show the formats of exports, each with an example row and its trainer's settings."""
    from gristmill.pipelines.show.formats import formats_text

    typer.echo(formats_text(name))
