"""What leaves a run: ``gristmill export``, ``formats`` and ``push``, and ``trace``, which leads back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gristmill.cli.options import NONE, RUNS, LogOption, PartialOption, RunArg, RunsOption, printed
from gristmill.core.errors import RecipeError
from gristmill.pipelines.rundir.directory import run_path


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


def push(
    what: Annotated[
        str, typer.Argument(metavar="RUN|FILE", help="A run, or a file of rows: JSONL, CSV or Parquet.")
    ],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="OWNER/NAME, or NAME among your own.")],
    append: Annotated[
        bool, typer.Option("--append", help="Add shards to what pushes have put there.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what pushes have put there.")
    ] = False,
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository that everybody sees.")
    ] = False,
    stage: Annotated[
        list[str] | None, typer.Option(help="The rows of this stage. Default: the exports, else the last.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split by this column.")] = None,
    card: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML in place of the recipe's 'card'.")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="The tag. Default: made of the files.")] = None,
    shard_mb: Annotated[int, typer.Option(min=1, help="MB of rows in a shard.")] = 256,
    allow_keys: Annotated[
        bool, typer.Option("--allow-keys", help="Let through what is only written like a key.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would go up, and ask the Hub nothing.")
    ] = False,
    show_card: Annotated[bool, typer.Option("--show-card", help="Print the card.")] = False,
    partial: PartialOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Put a run's rows on the Hub as a private data set, by one commit that readers see whole or not at all.

    The token is the one of 'hf auth login' or of HF_TOKEN. Stopped, it is given again and continues.
    This function is longer than most for its options.
    """
    from gristmill.pipelines.publishing import push as publish
    from gristmill.pipelines.recipe.plain import document
    from gristmill.pipelines.rundir.results import open_run

    if append and overwrite:
        raise RecipeError("--append and --overwrite exclude each other.", remedy="Give one of them.")
    path = Path(what)
    given: Any = path if path.is_file() else open_run(run_path(what, runs), partial=partial)
    done = publish(
        given,
        repo,
        mode="append" if append else "overwrite" if overwrite else "new",
        private=not public,
        stages=stage or [],
        split=split,
        card_keys=document(card) if card else None,
        tag=tag,
        allow_keys=allow_keys,
        shard_bytes=shard_mb * 1_000_000,
        dry_run=dry_run,
        say=lambda line: typer.echo(printed(line), err=True),
    )
    if show_card:
        typer.echo(done.card)
    for file, size in done.files.items():
        typer.echo(f"{size:>14,}  {printed(file)}")
    for file in done.removed:
        typer.echo(f"{'removed':>14}  {printed(file)}")
    total = sum(n for splits in done.rows.values() for n in splits.values())
    if dry_run:
        typer.echo(f"{total:,} rows would go to {done.repo}; nothing was sent.")
        return
    state = "was there already" if done.present else "is on main"
    typer.echo(f"{total:,} rows: {done.repo} {state}, commit {done.commit[:12]}, tag {printed(done.tag)}")


def trace(
    run: RunArg,
    row: Annotated[str, typer.Argument(metavar="ID", help="The id of a row, as in an export or on the Hub.")],
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    log: LogOption = None,
    partial: PartialOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Show what is behind a row: its problem, every request and completion, the verdicts."""
    from gristmill.pipelines.publishing import trace as behind
    from gristmill.pipelines.publishing.tracing import as_json, text
    from gristmill.pipelines.rundir.results import open_run

    found = behind(open_run(run_path(run, runs), partial=partial), row, log=log)
    typer.echo(as_json(found) if json else text(found))
