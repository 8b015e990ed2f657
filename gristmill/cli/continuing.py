"""How a run that was stopped is continued: the command to give, and leaving at once."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import NoReturn

from gristmill.cli.options import INTERRUPTED, RUNS
from gristmill.cli.shipped import shown
from gristmill.core.errors import RecipeError


def continued(
    recipe: Path,
    overrides: list[str],
    limit: int | None,
    runs: Path,
    log: Path | None,
    *,
    resume: bool = False,
    engine: str | None = None,
    data: list[str] | None = None,
) -> str:
    """The command that continues a run: the same one, but never ``--fresh``."""
    words = ["gristmill", "run", shown(recipe)]
    words += [] if engine is None else ["--engine", engine]
    words += [word for file in data or () for word in ("--data", file)]
    words += [word for override in overrides for word in ("--set", override)]
    words += ["--resume"] if resume else []
    words += [] if limit is None else ["--limit", str(limit)]
    words += [] if runs == RUNS else ["--runs", str(runs)]
    words += [] if log is None else ["--log", str(log)]
    return shlex.join(words)


def distributed(executor: str | None, tasks: int | None, workers: int | None, options: list[str]) -> str:
    """The part of a command that says where it runs. ``RecipeError`` where that makes no sense."""
    if executor is None and (tasks or workers or options):
        raise RecipeError(
            "--tasks, --workers and --option go with --executor.", remedy="Add --executor local."
        )
    if executor is not None and tasks is None:
        raise RecipeError("--executor needs --tasks.", remedy="Say into how many tasks: --tasks 64")
    words = [] if executor is None else ["--executor", executor, "--tasks", str(tasks)]
    words += [] if workers is None else ["--workers", str(workers)]
    words += [word for option in options for word in ("--option", option)]
    return f" {shlex.join(words)}" if words else ""


def leave_at_once(again: str) -> NoReturn:
    """End this process now, as a kill would: what the log has committed is what there is."""
    print(f"\nstopped at once. Continue with: {again}", file=sys.stderr, flush=True)
    os._exit(INTERRUPTED)
