"""The commands of ``gristmill log``; loaded when one of them is asked for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from gristmill.cli.options import LogOption
from gristmill.core.errors import RecipeError
from gristmill.engines.log import tools as log_tools
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
    log: LogOption = None,
) -> None:
    """Delete old completions, or those of a model."""
    age = None if older_than is None else _seconds(older_than)
    gone = log_tools.prune(log_path(log), older_than=age, model=model)
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
    typer.echo(f"{log_tools.export(log_path(log), out):,} completions: {out}")


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
