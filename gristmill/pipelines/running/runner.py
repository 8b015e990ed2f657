"""``run``: a recipe, a run directory, the completion log and engines put to work in one event loop."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.errors import GristmillError, RunError, RunStopped
from gristmill.engines.log.store import CompletionLog
from gristmill.engines.served import Servers
from gristmill.pipelines.exports.by_hand import hand_exports
from gristmill.pipelines.recipe import recipe as recipes
from gristmill.pipelines.recipe.entries import Until
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.rundir.directory import RunDir, hold
from gristmill.pipelines.rundir.ledger import Ledger
from gristmill.pipelines.rundir.results import Run
from gristmill.pipelines.rundir.summary import Summary, Unfinished, table
from gristmill.pipelines.running import progress
from gristmill.pipelines.running.checks.answers import check_answers
from gristmill.pipelines.running.checks.claim import Confirm, claim
from gristmill.pipelines.running.checks.limits import threads_limited
from gristmill.pipelines.running.checks.paying import check_log
from gristmill.pipelines.running.finish import Exported, cautions, export_all, summary_of
from gristmill.pipelines.running.gate import Stopper, on_interrupt
from gristmill.pipelines.running.loop import in_own_loop
from gristmill.pipelines.running.messages import noted
from gristmill.pipelines.running.purse import SPENT, Purse
from gristmill.pipelines.running.rows import kept_sources, read_sources, tried
from gristmill.pipelines.running.sessions import Engines, Verifiers
from gristmill.pipelines.running.targets import first_try, next_try
from gristmill.pipelines.running.walk import Walk
from gristmill.pipelines.running.work import PROBE, Tools, Work

_log = logging.getLogger(__name__)

LOG_PATH = ".gristmill/completions.sqlite"
"""The completion log, relative to the working directory, where neither option nor environment names one."""
_IN_FLIGHT = 1.5
"""Rows in flight for each request that may be: the others verify, write or wait for their next turn."""
_WARM_AFTER = 0.2
"""Seconds after the start at which Polars is imported: all connections are open by then."""


class Interrupted(RunStopped):
    """The user (or the system, by SIGTERM) stopped the run."""


class RunOptions(Struct, frozen=True, kw_only=True):
    """How a recipe is run.

    A directory of the same recipe is continued: the completion log answers what was paid for. ``resume``
    continues with a changed recipe too; ``fresh`` reads no completion that is in the log already. ``runs``
    is the directory of the run directories, ``log`` the completion log. Unless ``quiet``, progress goes to
    standard error and the closing table to standard output; with ``json`` both go to standard output, as JSON
    lines. ``watch`` is called every ten seconds and at the end with the fields of
    ``gristmill.pipelines.running.progress.Report``, as a dict. After Ctrl-C ``again`` is the remedy that is
    told; after a second one ``at_once`` is called (default: everything is cancelled). A complete run is
    replaced by a smaller one, under a limit, with ``replace`` or where ``confirm`` says yes to the question.

    A complete run of which the log has nothing is run again only with ``pay_again``, ``resume`` or
    ``fresh``, or if ``confirm`` says so when it is given the question.
    """

    resume: bool = False
    fresh: bool = False
    pay_again: bool = False
    runs: str | Path = "runs"
    log: str | Path | None = None
    quiet: bool = False
    json: bool = False
    watch: progress.Watch | None = None
    again: str = "Call run again with the same recipe."
    at_once: Callable[[], None] | None = None
    replace: bool = False
    confirm: Confirm | None = None


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
    pay_again: bool = False,
    runs: str | Path = "runs",
    log: str | Path | None = None,
    quiet: bool = False,
    json: bool = False,
    watch: progress.Watch | None = None,
    again: str = "Call run again with the same recipe.",
    at_once: Callable[[], None] | None = None,
    replace: bool = False,
    confirm: Confirm | None = None,
) -> Run:
    """Run a recipe (or the YAML file of one) to its end in ``runs/NAME`` and return what came of it.

    ``overrides`` are ``key=value`` with YAML values, ``limit`` takes only the first rows of each source; the
    others are those of ``RunOptions``.

    Raises ``RunError`` for a directory that is in use, belongs to another recipe or cannot be written,
    ``RunStopped`` for a run that ended itself, and its subclass ``Interrupted`` after Ctrl-C. This function
    is longer than most for its options.
    """
    recipe = loaded(recipe, overrides, limit)
    options = RunOptions(
        resume=resume,
        fresh=fresh,
        pay_again=pay_again,
        runs=runs,
        log=log,
        quiet=quiet,
        json=json,
        watch=watch,
        again=again,
        at_once=at_once,
        replace=replace,
        confirm=confirm,
    )
    with hold(Path(runs) / recipe.name) as rundir:
        return _Run(recipe, rundir, options).run()


def loaded(recipe: Recipe | str | Path, overrides: Sequence[str], limit: int | None) -> Recipe:
    """The recipe, read if it is a file's name, with the limit."""
    if not isinstance(recipe, Recipe):
        recipe = recipes.load(recipe, overrides)
    return recipe if limit is None else replace(recipe, limit=limit)


def work_of(
    recipe: Recipe,
    rundir: RunDir,
    engines: Engines,
    tools: Tools,
    *,
    probe: int = PROBE,
    until: float | None = None,
    grace: float | None = None,
    ledger: Ledger | None = None,
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
        ledger=ledger,
    )
    workers = recipe.rows_in_flight or max(4, round(_IN_FLIGHT * engines.concurrency))
    return work, Walk(recipe.graph, work, workers=workers)


class _Run:
    """One run, from the open directory to the closing table."""

    def __init__(self, recipe: Recipe, rundir: RunDir, options: RunOptions) -> None:
        self.recipe = recipe
        self.rundir = rundir
        self.options = options
        with noted(rundir.note):
            self.ledger = claim(
                rundir,
                recipe,
                resume=options.resume,
                fresh=options.fresh,
                replace=options.replace,
                confirm=options.confirm,
                say=_log.warning,
            )
        self.ledger.summary = self._summary
        self.started = time.perf_counter()
        self.engines: Engines | None = None
        self.work: Work | None = None
        self.totals: dict[str, int] = {}  # rows of each source, as far as they are counted
        self.tried: dict[str, int] = {}  # those of a source that this round tries
        self.exported = Exported({}, {})
        self.ended = ""
        self.short = False
        self._stop: Callable[[], object] | None = None  # until there is something to stop
        self._interrupted = False

    def run(self) -> Run:
        """Everything; the table is printed however it ends."""
        log = log_path(self.options.log)
        self.rundir.note(f"started: {self.recipe.name}, seed {self.recipe.seed}, log {log}")
        try:
            check_answers(self.recipe)
            with threads_limited(), noted(self.rundir.note), CompletionLog(log) as opened:
                self.ledger.begin()
                for text in cautions(self.recipe):
                    _log.warning(text)
                with Verifiers(self.recipe) as verifiers:
                    in_own_loop(self._execute(opened, verifiers), self._interrupt)
            self.exported = export_all(self.recipe, self.rundir)
        except GristmillError as error:
            with suppress(RunError):  # the disk may be full, and that is the error
                self.rundir.note(f"stopped: {error}")
            self._stopped(error.message)
            raise
        return self._complete()

    def _interrupt(self) -> None:
        """Ctrl-C beside a notebook's loop; one that comes before there is something to stop is kept."""
        self._interrupted = True
        if self._stop is not None:
            self._stop()

    async def _execute(self, log: CompletionLog, verifiers: Verifiers) -> None:
        read_after = self.rundir.fresh_since(log, start=self.options.fresh)
        spending = self.rundir.path / SPENT if self.recipe.prices or self.recipe.budget else None
        purse = Purse(self.recipe.budget, spending, fresh=self.options.fresh)
        self.engines = engines = Engines(
            self.recipe, log, read_after=read_after, purse=purse, servers=Servers.beside(log.path)
        )
        if not (self.options.pay_again or self.options.resume or self.options.fresh):
            check_log(self.rundir, log, lambda: engines.models, self.options.confirm)
        stopper = Stopper(engines.gates, self._say, self.options.at_once)
        purse.stop = stopper.stop
        self._stop = partial(asyncio.get_running_loop().call_soon_threadsafe, stopper.interrupt)
        if self._interrupted:
            self._stop()
        mode: progress.Mode | None = "json" if self.options.json else None
        mode = "quiet" if self.options.quiet else mode
        helpers = [asyncio.create_task(_warm())]
        if mode != "quiet" or self.options.watch is not None:
            helpers.append(asyncio.create_task(self._count()))
        try:
            with on_interrupt(stopper.interrupt):
                async with engines, progress.shown(self._progress, mode, watch=self.options.watch):
                    await self._walk(engines.tools(verifiers))
        except asyncio.CancelledError:
            if not stopper.stopping:
                raise
            if stopper.reason is not None:
                raise stopper.reason from None
            message = "stopped before the end; every completion that was paid for is in the log."
            raise Interrupted(message, remedy=self.options.again) from None
        finally:
            for helper in helpers:
                helper.cancel()
            purse.write()

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
            self.ledger.anew()
            self.work, walk = work_of(
                self.recipe, self.rundir, self._opened, tools, until=over, grace=grace, ledger=self.ledger
            )
            self.tried = {} if goal is None else {graph.nodes[source].name: limit}
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
                self.short = passed < wanted
                return
            limit = min(next_try(taken, passed, wanted), most)

    @property
    def _opened(self) -> Engines:
        assert self.engines is not None
        return self.engines

    async def _count(self) -> None:
        for name, source in self.recipe.sources.items():
            if source.path is not None:
                rows = await asyncio.to_thread(progress.count_rows, Path(source.path))
                if rows is not None:
                    self.totals[name] = min(rows, self.recipe.limit or rows)

    def _total(self, source: str) -> int | None:
        """How many rows of a source this round takes, as far as that is known."""
        known = [n[source] for n in (self.totals, self.tried) if source in n]
        return min(known) if known else None

    def _progress(self) -> progress.Progress:
        engines, at = self._opened, self.work
        spent = engines.spent
        return progress.Progress(
            stage="starting" if at is None else at.at,
            rows=0 if at is None else at.done,
            rows_total=None if at is None else self._total(at.source) if at.source else at.total,
            tokens=spent.tokens_out,
            in_flight=engines.in_flight,
            usd=None if engines.usd is None else engines.purse.spent.usd,
            completions=engines.completions,
            from_log=spent.from_log,
            rejected=sum(sum(c.rejected.values()) for c in at.counts) if at else 0,
        )

    def _say(self, text: str) -> None:
        if not self.options.quiet:
            print(text, file=sys.stderr, flush=True)

    def _summary(self, *, complete: bool = False) -> Summary:
        """What was done until here."""
        return summary_of(
            self.recipe,
            self.engines,
            self.work.counts if self.work else [],
            self.exported,
            self.ledger,
            complete=complete,
            seconds=time.perf_counter() - self.started,
            ended=self.ended,
            short=self.short,
        )

    def _complete(self) -> Run:
        """Put the summary in place, and print the table."""
        assert self.work is not None
        summary = self._summary(complete=True)
        self.rundir.drop_stages_except(self.work.folders)
        self.ledger.complete(summary)
        self._print(summary, "ended" if self.ended else "complete")
        return Run(self.rundir.path, summary)

    def _stopped(self, why: str) -> None:
        """Keep what there is, marked as such, unless an earlier run is still all there; print the table."""
        before = " The complete run that was there before is untouched." if self.ledger.keeps_former else ""
        unfinished = Unfinished(f"{why}{before}")
        with suppress(RunError):  # a full disk is being reported already
            if self.work and not self.ledger.keeps_former:
                self.work.cut()
            unfinished = self.ledger.stopped(why) or unfinished
        summary = replace(self._summary(), unfinished=unfinished)
        if self.work:
            self._print(summary, "so far")

    def _print(self, summary: Summary, what: str) -> None:
        text = "\n".join([table(summary), *hand_exports(Run(self.rundir.path, summary))])
        with suppress(RunError):
            self.rundir.note(f"{what}:\n{text}")
        if self.options.json:
            ended = {"event": "ended", "complete": summary.unfinished is None, "summary": summary}
            print(msgspec.json.encode(ended).decode(), flush=True)
        elif not self.options.quiet:
            print(text, flush=True)


async def _warm() -> None:
    """Import Polars while the first requests are on their way: the first part is not yet due."""
    await asyncio.sleep(_WARM_AFTER)
    await asyncio.to_thread(importlib.import_module, "polars")
