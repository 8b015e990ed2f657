"""The commands of ``gristmill log``; loaded when one of them is asked for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from gristmill.cli.options import LogOption
from gristmill.core.errors import RecipeError
from gristmill.engines.log import repair as repairing
from gristmill.engines.log import tools as log_tools
from gristmill.engines.log import transfer
from gristmill.pipelines.rundir.summary import align, printable
from gristmill.pipelines.running.runner import log_path

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("stats")
def log_stats(log: LogOption = None) -> None:
    """Say what the log holds, by model."""
    found = log_tools.stats(log_path(log))
    rows = [("model", "requests", "completions", "tokens in", "tokens out")]
    for m in found.models:
        counts = (m.requests, m.completions, m.prompt_tokens, m.completion_tokens)
        requests, completions, tokens_in, tokens_out = (f"{c:,}" for c in counts)
        rows.append((printable(m.model), requests, completions, tokens_in, tokens_out))
    typer.echo("\n".join([f"{found.path}: {found.bytes / 1e6:,.1f} MB", "", *align(rows)]))


@app.command("prune")
def log_prune(
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Such as 12h, 30d or 4w; s, m, h, d and w are known.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only completions of this model.")] = None,
    finish: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Only completions that ended for this reason, such as length."),
    ] = None,
    log: LogOption = None,
) -> None:
    """Delete old completions, those of a model, or those that ended for a reason."""
    age = None if older_than is None else _seconds(older_than)
    gone = log_tools.prune(log_path(log), older_than=age, model=model, finish=finish)
    typer.echo(
        f"deleted {gone.completions:,} completions and {gone.requests:,} requests; "
        f"{gone.freed / 1e6:,.1f} MB are free again"
    )


@app.command("export")
def log_export(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The JSONL file to write.")],
    log: LogOption = None,
) -> None:
    """Write every completion as a JSON line."""
    done = transfer.export(log_path(log), out)
    left_out = f", {done.damaged:,} damaged ones left out" if done.damaged else ""
    typer.echo(f"{done.completions:,} completions{left_out}: {out}")


@app.command("import")
def log_import(
    lines: Annotated[Path, typer.Argument(metavar="FILE", help="A JSONL file as 'log export' writes it.")],
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The model they count as, instead of the one that they name."),
    ] = None,
    log: LogOption = None,
) -> None:
    """Put the completions of a JSONL file into the log; what it has already stays."""
    done = transfer.load(log_path(log), lines, model=model)
    typer.echo(f"{done.added:,} completions added, {done.present:,} were there: {log_path(log)}")
    if done.refused:
        typer.echo(f"{done.refused:,} lines refused:")
        for number, why in done.reasons:
            typer.echo(f"  {lines}, line {number}: {printable(why)}")
        raise typer.Exit(1)


@app.command("check")
def log_check(log: LogOption = None) -> None:
    """Compare every completion with its checksum; exit status 1 if anything is damaged."""
    path = log_path(log)
    found = repairing.check(path)
    typer.echo(f"{path}: {found.completions:,} completions are sound")
    if found.unsealed:
        typer.echo(f"{found.unsealed:,} of them are older than checksums; 'gristmill log repair' adds them")
    for damage in found.shown:
        typer.echo(f"damaged: sample {damage.sample} under key {damage.key}")
    for count, what in (
        (found.damaged, "completions are damaged: each is asked for again when a run wants it"),
        (found.unreadable, "rows cannot be read"),
        (found.requests, "texts of requests are damaged; their answers are used"),
    ):
        if count:
            typer.echo(f"{count:,} {what}")
    for line in found.structure:
        typer.echo(f"SQLite: {printable(line)}")
    if not found.sound:
        typer.echo(f"Keep what is sound with: gristmill log repair --log {path}")
        raise typer.Exit(1)


@app.command("repair")
def log_repair(log: LogOption = None) -> None:
    """Replace a damaged log by one of everything that is sound; the damaged one is kept beside it."""
    path = log_path(log)
    done = repairing.repair(path)
    if not done.copy:
        typer.echo(f"{path}: nothing is damaged among {done.kept:,} completions")
        return
    typer.echo(f"{path}: {done.kept:,} completions kept, {done.lost:,} lost; as it was: {done.copy}")


@app.command("merge")
def log_merge(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The log to add to; made where there is none.")],
    logs: Annotated[list[Path], typer.Argument(metavar="IN...", help="The logs to take from.")],
) -> None:
    """Put the completions of other logs into one; of two answers to one sample the first named stays."""
    merged = log_tools.merge(out, logs)
    typer.echo(
        f"{merged.added:,} completions added, {merged.present:,} were there "
        f"({merged.different:,} of them with another text): {out}"
    )


def _seconds(age: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", age)
    if match is None:
        raise RecipeError(
            f"{age!r} is not an age.", remedy="Write a number and one of s, m, h, d and w: 30d."
        )
    return float(match[1]) * _UNITS[match[2]]
