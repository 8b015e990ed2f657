"""``run``: a recipe, a run directory, the completion log and engines put to work in one event loop."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct

from gristmill.core.errors import GristmillError, RunError, RunStopped
from gristmill.core.version import __version__
from gristmill.engines.log.store import CompletionLog
from gristmill.engines.options import EngineOptions
from gristmill.engines.served import Servers
from gristmill.pipelines.recipe import recipe as recipes
from gristmill.pipelines.recipe.entries import Until
from gristmill.pipelines.recipe.plain import document
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.rundir.directory import RECIPE, SUMMARY, RunDir, changed_keys, hold
from gristmill.pipelines.rundir.results import Run
from gristmill.pipelines.rundir.summary import table
from gristmill.pipelines.running import progress
from gristmill.pipelines.running.finish import Exported, export_all, summary_of
from gristmill.pipelines.running.gate import Stopper, on_interrupt
from gristmill.pipelines.running.loop import in_own_loop
from gristmill.pipelines.running.messages import noted
from gristmill.pipelines.running.rows import kept_sources, read_sources, tried
from gristmill.pipelines.running.sessions import Engines, Verifiers
from gristmill.pipelines.running.targets import first_try, next_try
from gristmill.pipelines.running.walk import Walk
from gristmill.pipelines.running.work import PROBE, Tools, Work

LOG_PATH = ".gristmill/completions.sqlite"
"""The completion log, relative to the working directory, where neither option nor environment names one."""
_IN_FLIGHT = 1.5
"""Rows in flight for each request that may be: the others verify, write or wait for their next turn."""
_WARM_AFTER = 0.2
"""Seconds after the start at which Polars is imported: all connections are open by then."""
_PACING = frozenset({"limit", "rows_in_flight", "part_rows", "verifier.workers"})


class Interrupted(RunStopped):
    """The user (or the system, by SIGTERM) stopped the run."""


class RunOptions(Struct, frozen=True, kw_only=True):
    """How a recipe is run.

    A directory of the same recipe is continued: the completion log answers what was paid for. ``resume``
    continues with a changed recipe too; ``fresh`` reads no completion that is older than now. ``runs`` is the
    directory of the run directories, ``log`` the completion log. Unless ``quiet``, progress goes to standard
    error and the closing table to standard output. After Ctrl-C ``again`` is the remedy that is told; after a
    second one ``at_once`` is called (default: everything is cancelled).
    """

    resume: bool = False
    fresh: bool = False
    runs: str | Path = "runs"
    log: str | Path | None = None
    quiet: bool = False
    again: str = "Call run again with the same recipe."
    at_once: Callable[[], None] | None = None


def log_path(given: str | Path | None) -> Path:
    """Where the completion log is: as given, else ``$GRISTMILL_LOG``, else in the working directory."""
    return Path(given or os.environ.get("GRISTMILL_LOG") or LOG_PATH)


def run(
    recipe: Recipe | str | Path,
    *,
    overrides: Sequence[str] = (),
    limit: int | None = None,
    resume: bool = False,
    fresh: bool = False,
    runs: str | Path = "runs",
    log: str | Path | None = None,
    quiet: bool = False,
    again: str = "Call run again with the same recipe.",
    at_once: Callable[[], None] | None = None,
) -> Run:
    """Run a recipe (or the YAML file of one) to its end in ``runs/NAME`` and return what came of it.

    ``overrides`` are ``key=value`` with YAML values, ``limit`` takes only the first rows of each source; the
    others are those of ``RunOptions``.

    Raises ``RunError`` for a directory that is in use, belongs to another recipe or cannot be written,
    ``RunStopped`` for a run that ended itself, and its subclass ``Interrupted`` after Ctrl-C.
    """
    recipe = loaded(recipe, overrides, limit)
    options = RunOptions(
        resume=resume, fresh=fresh, runs=runs, log=log, quiet=quiet, again=again, at_once=at_once
    )
    with hold(Path(runs) / recipe.name) as rundir:
        claim(rundir, recipe, options)
        return _Run(recipe, rundir, options).run()


def loaded(recipe: Recipe | str | Path, overrides: Sequence[str], limit: int | None) -> Recipe:
    """The recipe, read if it is a file's name, with the limit."""
    if not isinstance(recipe, Recipe):
        recipe = recipes.load(recipe, overrides)
    return recipe if limit is None else msgspec.structs.replace(recipe, limit=limit)


def claim(rundir: RunDir, recipe: Recipe, options: RunOptions) -> None:
    """Write the recipe into its directory; refuse a directory that belongs to another one."""
    import yaml

    resolved = recipes.to_dict(recipe)
    made_by = rundir.path / RECIPE
    former = document(made_by) if made_by.exists() else None
    if former is not None and not (options.resume or options.fresh):
        with suppress(GristmillError):  # one that cannot be read any more is compared as it is
            former = recipes.to_dict(recipes.from_dict(former))
        changed = changed_keys(former, resolved, pacing(recipe))
        if changed:
            raise RunError(
                f"{rundir.path} belongs to another recipe; changed: {', '.join(changed)}.",
                remedy="Continue with the changed recipe over the completion log with --resume, pay for "
                "everything anew with --fresh, or give this run another name with --set name=NAME.",
            )
    text = yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True)
    rundir.write(RECIPE, (_versions() + text).encode("utf-8", "surrogatepass"))


def pacing(recipe: Recipe) -> frozenset[str]:
    """Keys that change how fast or how far a recipe runs, and not what a row becomes."""
    engines = [("engine", recipe.engine), *((f"engines.{e.name}", e.options) for e in recipe.engines)]
    common = EngineOptions.__struct_fields__
    found = {f"{at}.{name}" for at, options in engines for name in (*common, *options.pacing)}
    until = {"until", *(f"until.{name}" for name in Until.__struct_fields__)}
    return _PACING | found | until | {f"verifiers.{name}.workers" for name in recipe.verifiers}


def _versions() -> str:
    """What made the run, as a comment, so that ``recipe.yaml`` can be run as it is."""
    from importlib.metadata import version

    parts = [f"{name} {version(name)}" for name in ("msgspec", "polars")]
    return f"# gristmill {__version__}, python {sys.version.split()[0]}, {', '.join(parts)}\n"


def work_of(
    recipe: Recipe,
    rundir: RunDir,
    engines: Engines,
    tools: Tools,
    *,
    probe: int = PROBE,
    until: float | None = None,
    grace: float | None = None,
) -> tuple[Work, Walk[None]]:
    """The recipe's graph, ready to work in ``rundir`` on these engines, and the walk that does it."""
    work = Work(
        recipe.graph,
        rundir,
        tools,
        seed=recipe.seed,
        part_rows=recipe.part_rows,
        kept=kept_sources(recipe),
        settle=engines.close_gates,
        probe=probe,
        until=until,
        grace=grace,
    )
    workers = recipe.rows_in_flight or max(4, round(_IN_FLIGHT * engines.concurrency))
    return work, Walk(recipe.graph, work, workers=workers)


class _Run:
    """One run, from the open directory to the closing table."""

    def __init__(self, recipe: Recipe, rundir: RunDir, options: RunOptions) -> None:
        self.recipe = recipe
        self.rundir = rundir
        self.options = options
        self.read_after = rundir.fresh_since(start=options.fresh)
        self.started = time.perf_counter()
        self.engines: Engines | None = None
        self.work: Work | None = None
        self.total: int | None = recipe.limit
        self.exported = Exported({}, {})
        self.ended = ""
        self._stop: Callable[[], object] = bool  # until there is something to stop

    def run(self) -> Run:
        """Everything; the table is printed however it ends."""
        log = log_path(self.options.log)
        self.rundir.note(f"started: {self.recipe.name}, seed {self.recipe.seed}, log {log}")
        try:
            with noted(self.rundir.note), CompletionLog(log) as opened, Verifiers(self.recipe) as verifiers:
                in_own_loop(self._execute(opened, verifiers), lambda: self._stop())
            self.exported = export_all(self.recipe, self.rundir)
        except GristmillError as error:
            with suppress(RunError):  # the disk may be full, and that is the error
                self.rundir.note(f"stopped: {error}")
            self._close(complete=False)
            raise
        return self._close(complete=True)

    async def _execute(self, log: CompletionLog, verifiers: Verifiers) -> None:
        known = Servers.beside(log.path)
        self.engines = engines = Engines(self.recipe, log, read_after=self.read_after, servers=known)
        stopper = Stopper(engines.gates, self._say, self.options.at_once)
        self._stop = partial(asyncio.get_running_loop().call_soon_threadsafe, stopper.interrupt)
        mode: progress.Mode | None = "quiet" if self.options.quiet else None
        helpers = [asyncio.create_task(_warm())]
        if self.total is None and (mode or progress.default_mode(sys.stderr)) != "quiet":
            helpers.append(asyncio.create_task(self._count()))
        try:
            with on_interrupt(stopper.interrupt):
                async with engines, progress.shown(self._progress, mode):
                    await self._walk(engines.tools(verifiers))
        except asyncio.CancelledError:
            if not stopper.stopping:
                raise
            message = "stopped before the end; every completion that was paid for is in the log."
            raise Interrupted(message, remedy=self.options.again) from None
        finally:
            for helper in helpers:
                helper.cancel()

    async def _walk(self, tools: Tools) -> None:
        """The walk; towards a number of rows in several rounds, each over more of the source than the last.

        A round begins anew, over the log: the last one is the run with that limit.
        """
        until, graph = self.recipe.until or Until(), self.recipe.graph
        over = None if until.minutes is None else time.monotonic() + 60 * until.minutes
        grace = None if until.grace_minutes is None else 60 * until.grace_minutes
        goal, source = tried(self.recipe) or (None, 0)
        wanted, most = until.rows or 0, until.at_most or sys.maxsize
        limit = min(first_try(wanted), most)
        while True:
            self.work, walk = work_of(self.recipe, self.rundir, self._opened, tools, until=over, grace=grace)
            self.work.sources = read_sources(self.recipe, {} if goal is None else {source: limit})
            await walk.run()
            if self.work.out_of_time:
                self.ended = f"Ended after {until.minutes:g} minutes, with the rest of the rows not tried."
            if self.work.out_of_time or goal is None:
                return
            taken, passed = self.work.counts[source].rows_out, self.work.counts[goal].rows_out
            if passed >= wanted or taken < limit or taken >= most:
                why = "" if passed >= wanted else f": {graph.nodes[source].name} has no more"
                why = f": at most {most:,} rows may be tried" if passed < wanted and taken >= most else why
                self.ended = f"Ended with {passed:,} rows of {until.stage}, of {wanted:,} wanted{why}."
                return
            limit = min(next_try(taken, passed, wanted), most)

    @property
    def _opened(self) -> Engines:
        assert self.engines is not None
        return self.engines

    async def _count(self) -> None:
        path = next(iter(self.recipe.sources.values())).path
        if path is not None:
            self.total = await asyncio.to_thread(progress.count_rows, Path(path))

    def _progress(self) -> progress.Progress:
        engines, at = self._opened, self.work
        if at is None:
            return progress.Progress(in_flight=engines.in_flight)
        total = self.total if at.total is None else at.total
        return progress.Progress(at.at, at.done, total, engines.spent.tokens_out, engines.in_flight)

    def _say(self, text: str) -> None:
        if not self.options.quiet:
            print(text, file=sys.stderr, flush=True)

    def _close(self, *, complete: bool) -> Run:
        """The summary and the table, of what was done until here."""
        work = self.work
        summary = summary_of(
            self.recipe,
            self.engines,
            work.counts if work else [],
            self.exported,
            complete=complete,
            seconds=time.perf_counter() - self.started,
            ended=self.ended,
        )
        if complete and work:
            self.rundir.drop_stages_except(work.folders)
            self.rundir.write(SUMMARY, summary.encode())
        if work:
            text = table(summary)
            with suppress(RunError):  # a full disk is being reported already
                self.rundir.note(f"{'complete' if complete else 'so far'}:\n{text}")
            if not self.options.quiet:
                print(text, flush=True)
        return Run(self.rundir.path, summary)


async def _warm() -> None:
    """Import Polars while the first requests are on their way: the first part is not yet due."""
    await asyncio.sleep(_WARM_AFTER)
    await asyncio.to_thread(importlib.import_module, "polars")
