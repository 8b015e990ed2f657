"""``run``: a recipe, a run directory, the completion log and engines put to work in one event loop."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from gristmill import __version__
from gristmill.core.errors import GristmillError, RunError, RunStopped
from gristmill.core.records import Problem
from gristmill.core.stages import Rejection
from gristmill.engines.log.store import CompletionLog
from gristmill.engines.options import EngineOptions
from gristmill.pipelines.recipe import recipe as recipes
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.rundir.directory import EXPORTS, RECIPE, SUMMARY, RunDir, changed_keys, hold
from gristmill.pipelines.rundir.parts import part_files
from gristmill.pipelines.rundir.results import Run
from gristmill.pipelines.rundir.summary import Spent, StageCounts, Summary, table
from gristmill.pipelines.running import progress
from gristmill.pipelines.running.gate import Stopper, on_interrupt
from gristmill.pipelines.running.messages import noted
from gristmill.pipelines.running.segments import PROBE, Segments, Verify
from gristmill.pipelines.running.sessions import Engines
from gristmill.pipelines.sources import source as sources

LOG_PATH = ".gristmill/completions.sqlite"
"""The completion log, relative to the working directory, where neither option nor environment names one."""
_IN_FLIGHT = 1.5
"""Rows in flight for each request that may be: the others verify, write or wait for their next turn."""
_WARM_AFTER = 0.2
"""Seconds after the start at which Polars is imported: all connections are open by then."""
_PACING = frozenset({"limit", "rows_in_flight", "part_rows", "verifier.workers"})


class Interrupted(RunStopped):
    """The user (or the system, by SIGTERM) stopped the run."""


def log_path(given: str | Path | None) -> Path:
    """Where the completion log is: as given, else ``$GRISTMILL_LOG``, else in the working directory."""
    return Path(given or os.environ.get("GRISTMILL_LOG") or LOG_PATH)


def run(
    recipe: Recipe | str | Path,
    *,
    overrides: Sequence[str] = (),
    resume: bool = False,
    fresh: bool = False,
    limit: int | None = None,
    runs: str | Path = "runs",
    log: str | Path | None = None,
    quiet: bool = False,
    again: str = "Call run again with the same recipe.",
    at_once: Callable[[], None] | None = None,
) -> Run:
    """Run a recipe (or the YAML file of one) to its end in ``runs/NAME`` and return what came of it.

    A directory of the same recipe is gone on with: the completion log answers what was paid for.
    ``resume`` goes on with a changed recipe too; ``fresh`` reads no completion that is older than now.
    ``overrides`` are ``key=value`` with YAML values. Unless ``quiet``, progress goes to standard error
    and the closing table to standard output.

    Raises ``RunError`` for a directory that is in use, belongs to another recipe or cannot be written,
    ``RunStopped`` for a run that ended itself, and its subclass ``Interrupted`` after Ctrl-C, with
    ``again`` as the remedy; after a second one ``at_once`` is called (default: everything is cancelled).
    """
    if not isinstance(recipe, Recipe):
        recipe = recipes.load(recipe, overrides)
    if limit is not None:
        recipe = msgspec.structs.replace(recipe, limit=limit)
    with hold(Path(runs) / recipe.name) as rundir:
        claim(rundir, recipe, resume=resume, fresh=fresh)
        work = _Work(recipe, rundir, rundir.fresh_since(start=fresh), quiet, again, at_once)
        return work.run(log_path(log))


def claim(rundir: RunDir, recipe: Recipe, *, resume: bool, fresh: bool) -> None:
    """Write the recipe into its directory; refuse a directory that belongs to another one."""
    import yaml

    resolved = recipes.to_dict(recipe)
    former = rundir.recipe()
    if former is not None and not (resume or fresh):
        changed = changed_keys(former, resolved, pacing(recipe))
        if changed:
            raise RunError(
                f"{rundir.path} belongs to another recipe; changed: {', '.join(changed)}.",
                remedy="Go on with the changed recipe over the completion log with --resume, pay for "
                "everything anew with --fresh, or give this run another name with --set name=NAME.",
            )
    text = yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True)
    rundir.write(RECIPE, (_versions() + text).encode("utf-8", "surrogatepass"))


def pacing(recipe: Recipe) -> frozenset[str]:
    """Keys that change how fast or how far a recipe runs, and not what a row becomes."""
    engines = [("engine", recipe.engine), *((f"engines.{e.name}", e.options) for e in recipe.engines)]
    common = EngineOptions.__struct_fields__
    return _PACING | {f"{at}.{name}" for at, options in engines for name in (*common, *options.pacing)}


def _versions() -> str:
    """What made the run, as a comment, so that ``recipe.yaml`` can be run as it is."""
    from importlib.metadata import version

    parts = [f"{name} {version(name)}" for name in ("msgspec", "polars")]
    return f"# gristmill {__version__}, python {sys.version.split()[0]}, {', '.join(parts)}\n"


def segments_of(
    recipe: Recipe, rundir: RunDir, engines: Engines, verify: Verify, *, probe: int = PROBE
) -> Segments:
    """The recipe's pipeline, ready to work in ``rundir`` on these engines."""
    return Segments(
        recipe.pipeline,
        rundir,
        engines.main,
        verify,
        seed=recipe.seed,
        rows_in_flight=recipe.rows_in_flight or max(4, round(_IN_FLIGHT * engines.concurrency)),
        part_rows=recipe.part_rows,
        settle=engines.close_gates,
        engines=engines.named,
        probe=probe,
    )


Exported = tuple[dict[str, int], dict[str, dict[str, int]]]
"""By export's file: the rows, and what the format could not hold."""


def export_all(recipe: Recipe, rundir: RunDir) -> Exported:
    """Write every export of the recipe from the stages' parts in ``rundir``."""
    from gristmill.pipelines.exports import base as exports

    rows: dict[str, int] = {}
    dropped: dict[str, dict[str, int]] = {}
    names = [n.name for n in recipe.pipeline.nodes]
    for entry in recipe.exports:
        parts = part_files(rundir.stage(names.index(entry.reads_from) + 1, entry.reads_from).path)
        notes: Counter[str] = Counter()
        out = rundir.path / EXPORTS / entry.path
        rows[entry.path] = exports.write(entry.export, parts, out, notes)
        if notes:
            dropped[entry.path] = dict(notes)
    return rows, dropped


def summary_of(
    recipe: Recipe,
    engines: Engines | None,
    stages: list[StageCounts],
    exported: Exported,
    *,
    complete: bool,
    seconds: float,
) -> Summary:
    """The summary of what was done until here; of a complete run also with the source's fingerprint."""
    return Summary(
        name=recipe.name,
        seed=recipe.seed,
        model=engines.main.model if engines else "",
        models={name: s.model for name, s in engines.named.items()} if engines else {},
        stages=stages,
        exports=exported[0],
        notes=exported[1],
        source=sources.fingerprint(recipe.source) if complete else "",
        spent=engines.spent if engines else Spent(),
        timing={"seconds": round(seconds, 3)},
    )


class _Work:
    """One run, from the open directory to the closing table."""

    def __init__(
        self,
        recipe: Recipe,
        rundir: RunDir,
        read_after: float | None,
        quiet: bool,
        again: str,
        at_once: Callable[[], None] | None,
    ) -> None:
        self.recipe = recipe
        self.rundir = rundir
        self.read_after = read_after
        self.quiet = quiet
        self.again = again
        self.at_once = at_once
        self.started = time.perf_counter()
        self.engines: Engines | None = None
        self.segments: Segments | None = None
        self.rows_total: int | None = recipe.limit
        self.exports: dict[str, int] = {}
        self.notes: dict[str, dict[str, int]] = {}
        self._stop: Callable[[], object] = bool  # until there is something to stop

    def run(self, log: Path) -> Run:
        """Everything; the table is printed however it ends."""
        self.rundir.note(f"started: {self.recipe.name}, seed {self.recipe.seed}, log {log}")
        problems = limited(sources.read(self.recipe.source), self.recipe.limit)
        try:
            with (
                noted(self.rundir.note),
                CompletionLog(log) as opened,
                self.recipe.verifier.open() as pool,
            ):
                in_own_loop(self._execute(problems, opened, pool.averify), lambda: self._stop())
            self.exports, self.notes = export_all(self.recipe, self.rundir)
        except GristmillError as error:
            with suppress(RunError):  # the disk may be full, and that is the error
                self.rundir.note(f"stopped: {error}")
            self._close(complete=False)
            raise
        return self._close(complete=True)

    async def _execute(
        self, problems: Iterator[Problem | Rejection], log: CompletionLog, verify: Verify
    ) -> None:
        recipe = self.recipe
        self.engines = engines = Engines(recipe, log, read_after=self.read_after)
        self.segments = segments_of(recipe, self.rundir, engines, verify)
        stopper = Stopper(engines.gates, self._say, self.at_once)
        self._stop = partial(asyncio.get_running_loop().call_soon_threadsafe, stopper.interrupt)
        mode: progress.Mode | None = "quiet" if self.quiet else None
        helpers = [asyncio.create_task(_warm())]
        if recipe.limit is None and (mode or progress.default_mode(sys.stderr)) != "quiet":
            helpers.append(asyncio.create_task(self._count()))
        try:
            with on_interrupt(stopper.interrupt):
                async with engines, progress.shown(self._progress, mode):
                    await self.segments.run(problems)
        except asyncio.CancelledError:
            if not stopper.stopping:
                raise
            message = "stopped before the end; every completion that was paid for is in the log."
            raise Interrupted(message, remedy=self.again) from None
        finally:
            for helper in helpers:
                helper.cancel()

    async def _count(self) -> None:
        path = self.recipe.source.path
        if path is not None:
            self.rows_total = await asyncio.to_thread(progress.count_rows, Path(path))

    def _progress(self) -> progress.Progress:
        assert self.engines is not None and self.segments is not None
        engines, at = self.engines, self.segments
        total = self.rows_total if at.rows_total is None else at.rows_total
        return progress.Progress(at.at, at.rows, total, engines.spent.tokens_out, engines.in_flight)

    def _say(self, text: str) -> None:
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def _close(self, *, complete: bool) -> Run:
        """The summary and the table, of what was done until here."""
        segments = self.segments
        summary = summary_of(
            self.recipe,
            self.engines,
            segments.counts if segments else [],
            (self.exports, self.notes),
            complete=complete,
            seconds=time.perf_counter() - self.started,
        )
        if complete and segments:
            self.rundir.drop_stages_except(segments.folders)
            self.rundir.write(SUMMARY, summary.encode())
        if segments:
            text = table(summary)
            with suppress(RunError):  # a full disk is being reported already
                self.rundir.note(f"{'complete' if complete else 'so far'}:\n{text}")
            if not self.quiet:
                print(text, flush=True)
        return Run(self.rundir.path, summary)


async def _warm() -> None:
    """Import Polars while the first requests are on their way: the first part is not yet due."""
    await asyncio.sleep(_WARM_AFTER)
    await asyncio.to_thread(importlib.import_module, "polars")


def limited(rows: Iterator[Problem | Rejection], limit: int | None) -> Iterator[Problem | Rejection]:
    """The rows up to the ``limit``-th problem."""
    taken = 0
    for row in rows:
        yield row
        taken += isinstance(row, Problem)
        if taken == limit:
            return


def in_own_loop(main: Coroutine[Any, Any, None], interrupt: Callable[[], object] | None = None) -> None:
    """Run ``main`` in a loop of its own; beside a running one (a notebook's) in a thread of its own.

    Ctrl-C during the latter calls ``interrupt``, and ``main`` is waited for until it has ended.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        _run_loop(main)
        return
    failed: list[BaseException] = []
    ended = threading.Event()

    def target() -> None:
        try:
            _run_loop(main)
        except BaseException as error:  # noqa: BLE001 handed to the caller below
            failed.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=target, name="gristmill-run")
    thread.start()
    while not ended.is_set():
        try:
            ended.wait()  # not thread.join, which after a KeyboardInterrupt takes the thread for ended
        except KeyboardInterrupt:
            if interrupt is None:
                raise
            interrupt()
    if failed:
        raise failed[0]


def _run_loop(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)
