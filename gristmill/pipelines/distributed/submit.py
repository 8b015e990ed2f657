"""``run --executor``: a recipe on many machines, on one of the executors; the same bytes as on one.

The row stages become tasks over contiguous blocks of rows, each with its own completion log; between them
single tasks merge, in input order, what these made, and run the table stages. ``docs/distributed.md`` has
it at length; ``distributed_job`` the phases and their files, ``distributed_work`` what each does.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

from gristmill.core.errors import RecipeError, RunStopped
from gristmill.core.version import __version__
from gristmill.engines.log.store import CompletionLog
from gristmill.pipelines.distributed.executors import Executor, Planned, open_options
from gristmill.pipelines.distributed.job import JOB, SHARDS, Job, done, hold_soon, phases, read_job
from gristmill.pipelines.distributed.step import TaskStep
from gristmill.pipelines.recipe import recipe as recipes
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.rundir.directory import changed_keys
from gristmill.pipelines.rundir.results import Run, open_run
from gristmill.pipelines.rundir.summary import Summary, table
from gristmill.pipelines.running import runner
from gristmill.pipelines.running.checks.answers import check_answers
from gristmill.pipelines.running.checks.claim import Confirm, claim, pacing
from gristmill.pipelines.running.checks.paying import check_log
from gristmill.pipelines.running.finish import cautions
from gristmill.pipelines.running.sessions import Engines
from gristmill.pipelines.sources.source import Source

_log = logging.getLogger(__name__)
_LEAVING = 5.0
"""Seconds in which a task of the same run that was just ended must be gone."""


def distribute(
    recipe: Recipe | str | Path,
    *,
    executor: str,
    tasks: int,
    workers: int | None = None,
    options: Sequence[str] = (),
    overrides: Sequence[str] = (),
    resume: bool = False,
    fresh: bool = False,
    pay_again: bool = False,
    limit: int | None = None,
    runs: str | Path = "runs",
    log: str | Path | None = None,
    quiet: bool = False,
    replace: bool = False,
    confirm: Confirm | None = None,
) -> Run | None:
    """Run a recipe in ``tasks`` tasks on the executor ``local``, ``slurm`` or ``ray``, at most ``workers`` of
    them at a time, and return what came of it; ``None`` for Slurm, to which it is only submitted.

    ``options`` are ``KEY=VALUE`` for the executor (see ``executors``); all else is as for ``runner.run``. The
    run's directory, the log and the recipe's files must be seen by all machines under the same paths. A run
    that was stopped goes on: what is unfinished runs, over its completion logs. A complete one is run again.

    Raises ``RunError`` and ``RunStopped`` as ``runner.run`` does; ``RecipeError`` for options that do not
    fit, ``MissingExtraError`` without an executor's library, ``KeyboardInterrupt`` when a signal ended it.
    This function is longer than most for its options.
    """
    recipe = runner.loaded(recipe, overrides, limit)
    for key, given, knows in (("until", recipe.until, "made"), ("budget", recipe.budget, "spent")):
        if given is not None:
            raise RecipeError(
                f"{key!r} ends a run on one machine; tasks cannot know what the others have {knows}.",
                remedy="Leave it out, and limit the rows with --limit N.",
            )
    chosen = open_options(executor, options)
    with hold_soon(Path(runs) / recipe.name, _LEAVING) as rundir:
        ledger = claim(
            rundir, recipe, resume=resume, fresh=fresh, replace=replace, confirm=confirm, say=_log.warning
        )
        check_answers(recipe)
        path = runner.log_path(log)
        with CompletionLog(path) as opened:
            if not (pay_again or resume or fresh):
                check_log(rundir, opened, lambda: Engines(recipe, opened).models, confirm)
            read_after = rundir.fresh_since(opened, start=fresh)
        ledger.summary = lambda: Summary(recipe.name, recipe.seed, "", [], total=ledger.spent)
        ledger.begin()
        for text in cautions(recipe):
            _log.warning(text)
        rundir.note(f"{executor}: {recipe.name}, seed {recipe.seed}, in {tasks} tasks")
        job = _job(recipe, chosen, rundir.path, path, tasks, workers, read_after)
    chain = [
        Planned(
            TaskStep(str(job.path), phase.index, phase.label, str(job.folder(phase))),
            phase.tasks,
            phase.rows,
            job.folder(phase) / "executor",
        )
        for phase in phases(recipe.graph, tasks)
    ]
    say = (lambda text: None) if quiet else partial(print, file=sys.stderr, flush=True)
    if not chosen.run(recipe.name, chain, workers, say):
        if not quiet:
            print(f"submitted; when all is done: gristmill show {rundir.path}", flush=True)
        return None
    finish = phases(recipe.graph, tasks)[-1]
    if not done(job.folder(finish)):
        raise RunStopped(f"{finish.label} did not come to its end.", remedy="Give the same command again.")
    shutil.rmtree(job.shards)
    run = open_run(rundir.path)
    if not quiet:
        print(table(run.summary), flush=True)
    return run


def _job(
    recipe: Recipe,
    executor: Executor,
    rundir: Path,
    log: Path,
    tasks: int,
    workers: int | None,
    read_after: int | None,
) -> Job:
    """The job in the run's directory, continued where it is of the same recipe, else begun anew."""
    data = recipes.to_dict(recipe)
    if recipe.verifier.workers is None:
        data["verifier"]["workers"] = executor.verifier_workers(workers, tasks)
    job = Job(
        recipe=data,
        cwd=str(Path.cwd()),
        rundir=str(rundir.absolute()),
        log=str(log.absolute()),
        tasks=tasks,
        read_after=read_after,
        stamp="\n".join(_stamp(source) for source in recipe.sources.values()),
        generation=secrets.token_hex(4),
        started=time.time(),
        gristmill=__version__,
    )
    former = read_job(rundir / SHARDS / JOB)
    if former is not None:
        # These make other parts of the same rows; the tasks must not mix.
        ignored = pacing(recipe) - {"limit", "part_rows"}
        complete = done(former.folder(phases(recipe.graph, former.tasks)[-1]))
        if not complete and job.same_as(former) and not changed_keys(former.recipe, data, ignored):
            job = msgspec.structs.replace(job, generation=former.generation, started=former.started)
        else:
            former = None
    if former is None:
        shutil.rmtree(rundir / SHARDS, ignore_errors=True)
    job.write()
    return job


def _stamp(source: Source) -> str:
    """The sizes and times of the source's files."""
    if source.path is None:
        return ""
    path = Path(source.path)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return "\n".join(f"{p} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in files if p.exists())
