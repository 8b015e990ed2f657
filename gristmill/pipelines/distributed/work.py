"""What the phases of a distributed run do, each in a process of its own that the executors start.

    python -m gristmill.pipelines.distributed.work JOB PHASE RANK

The process ends at once when its standard input does, that is, with the process that started it: nobody may
continue a task that has been given to another machine. What it was paid for is in the task's log.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from msgspec import Struct

from gristmill.core.errors import GristmillError, RunError, RunStopped
from gristmill.core.schema import from_frame
from gristmill.core.stages import Rejection
from gristmill.engines.log import tools as log_tools
from gristmill.engines.log.layers import LayeredLog
from gristmill.engines.log.store import CompletionLog
from gristmill.pipelines.distributed.job import (
    TASKS,
    Job,
    Phase,
    TaskResult,
    block,
    done,
    hold_soon,
    input_of,
    phases,
    read_job,
    read_result,
    source_rows,
    stage_path,
    write_result,
)
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.rundir.directory import LOG, RunDir, StageDir
from gristmill.pipelines.rundir.ledger import Ledger
from gristmill.pipelines.rundir.parts import REJECTED_FILE, Parts, part_files
from gristmill.pipelines.rundir.summary import STAGE_ERROR, StageCounts, Summary, table
from gristmill.pipelines.running.checks.claim import text_of
from gristmill.pipelines.running.finish import Exported, export_all, summary_of
from gristmill.pipelines.running.gate import Stopper, on_interrupt
from gristmill.pipelines.running.loop import in_own_loop
from gristmill.pipelines.running.rows import kept_sources, read_sources
from gristmill.pipelines.running.runner import work_of
from gristmill.pipelines.running.sessions import Engines, Verifiers
from gristmill.pipelines.running.work import PROBE, Work

_SLICE = 256


def work(job: Job, number: int, rank: int) -> None:
    """Do task ``rank`` of phase ``number``; nothing if it is done. Raises ``GristmillError``."""
    recipe = job.load()
    phase = phases(recipe.graph, job.tasks)[number]
    if phase.rows:
        with hold_soon(job.task(phase, rank)) as rundir:
            if not done(rundir.path):
                _Task(job, recipe, phase, rank, rundir).run()
    else:
        with hold_soon(Path(job.rundir)) as rundir:
            if not done(job.folder(phase)):
                _Join(job, recipe, phase, rundir).run()


class _Task:
    """A block of rows through the row stages of a phase."""

    def __init__(self, job: Job, recipe: Recipe, phase: Phase, rank: int, rundir: RunDir) -> None:
        self.job, self.recipe, self.phase, self.rank, self.rundir = job, recipe, phase, rank, rundir

    def run(self) -> None:
        """Everything, over the task's own log and the snapshot of what was paid for before."""
        job, phase, began = self.job, self.phase, time.perf_counter()
        before = phases(self.recipe.graph, job.tasks)[phase.index - 1]
        heights = read_result(job.folder(before), f"phase {before.label}").heights
        first, last = block(sum(heights), job.tasks, self.rank)
        result = TaskResult([StageCounts(name) for name in self.recipe.graph.names])
        if first < last:
            folder = input_of(job, self.recipe, phase)
            record = self.recipe.graph.nodes[phase.root].writes
            rows = _rows(folder, record, heights, first, last)
            base = job.base_log(phase)
            log = LayeredLog(job.task_log(phase, self.rank), base if base.exists() else None)
            with log, Verifiers(self.recipe) as verifiers:
                in_own_loop(self._stream(rows, last - first, log, verifiers, result))
        result.seconds = time.perf_counter() - began
        write_result(self.rundir.path, result)

    async def _stream(
        self, rows: Iterator[Any], count: int, log: CompletionLog, verifiers: Verifiers, result: TaskResult
    ) -> None:
        engines = Engines(self.recipe, log, read_after=self.job.read_after)
        # The first block has the run's first rows, by which a stage with a bug is known; see ``_Join``.
        probe = PROBE if self.rank == 0 and count >= PROBE else 0
        work, walk = work_of(self.recipe, self.rundir, engines, engines.tools(verifiers), probe=probe)
        work.given[self.phase.root] = rows
        stopper = Stopper(engines.gates, _complain, None)
        try:
            with on_interrupt(stopper.interrupt):
                async with engines:
                    await walk.stream(self.phase.root, sourced=True)
        except asyncio.CancelledError:
            if not stopper.stopping:
                raise
            raise RunStopped(
                f"task {self.rank} was stopped; every completion that was paid for is in its log.",
                remedy="Give the same command again.",
            ) from None
        result.counts, result.spent = work.counts, engines.spent


def _rows(folder: Path, record: type[Struct], heights: list[int], first: int, last: int) -> Iterator[Struct]:
    """Rows ``first`` up to ``last`` of a folder of parts of these heights; opens only those it needs."""
    import polars as pl

    begin = 0
    for path, height in zip(part_files(folder), heights, strict=True):
        start, end = max(first - begin, 0), min(last - begin, height)
        if start < end:
            frame = pl.read_parquet(path, memory_map=False).slice(start, end - start)
            for piece in frame.iter_slices(_SLICE):
                yield from from_frame(piece, record)
        begin += height


class _Join:
    """The single task between two phases of row stages."""

    def __init__(self, job: Job, recipe: Recipe, phase: Phase, rundir: RunDir) -> None:
        self.job, self.recipe, self.phase, self.rundir = job, recipe, phase, rundir
        self.all = phases(recipe.graph, job.tasks)

    def run(self) -> None:
        """Merge, run the table stages, and make ready for the next phase or finish."""
        job, began = self.job, time.perf_counter()
        log_tools.merge(job.log, self._task_logs(), kin=True, replace_before=job.read_after or 0)
        with CompletionLog(job.log) as log:
            engines = Engines(self.recipe, log, read_after=job.read_after)  # asked for names, never started
            ledger = Ledger(self.rundir, text_of(job.recipe), continues=True)
            tools = engines.tools(Verifiers(self.recipe))
            work, _ = work_of(self.recipe, self.rundir, engines, tools, ledger=ledger)
            result = TaskResult(work.counts)
            ledger.summary = lambda: self._summary(engines, result, ledger, Exported({}, {}))
            if self.phase.index == 0:
                self._read_sources(work)
            else:
                result.add(
                    read_result(job.folder(self.all[self.phase.index - 2]), "the phase before the tasks")
                )
                self._merge_tasks(work, self.all[self.phase.index - 1], result)
            for index in self.phase.tables:
                work.run_table(index)
            if self.phase.last:
                self._finish(engines, work, result, ledger)
            else:
                self._make_ready(engines, result)
        result.seconds += time.perf_counter() - began
        job.folder(self.phase).mkdir(parents=True, exist_ok=True)
        write_result(job.folder(self.phase), result)
        if self.phase.last:
            self._clear()

    def _task_logs(self) -> list[Path]:
        """At first those of former divisions into tasks; later those of the phase before, in order."""
        if self.phase.index == 0:
            former = sorted(self.job.all_logs.glob("*/*/task-*.sqlite"))
            return [path for path in former if path.parts[-3] != self.job.generation]
        return sorted(self.job.logs(self.all[self.phase.index - 1]).glob("task-*.sqlite"))

    def _read_sources(self, work: Work) -> None:
        """The rows of every source as parts; repeated ids and bad rows are rejected as on one machine."""
        kept = kept_sources(self.recipe)
        self.job.shards.mkdir(exist_ok=True)
        for node, rows in read_sources(self.recipe).items():
            counts, writes = work.counts[node], self.recipe.graph.nodes[node].writes
            rejected = Parts(work.folder(node), writes if node in kept else None, self.recipe.part_rows)
            aside = None
            if node not in kept:
                folder = StageDir(self.job.shards, source_rows(node))
                aside = Parts(folder, writes, self.recipe.part_rows)
            judged = node in self.recipe.graph.judged_sources
            asyncio.run(_split(rows, counts, aside or rejected, rejected, judged=judged))
            if aside is not None:
                aside.finish()
            with work.committing(node):
                rejected.finish()

    def _merge_tasks(self, work: Work, phase: Phase, result: TaskResult) -> None:
        """The tasks' rows, one task after the other, written as one machine would write them."""
        folders = [self.job.task(phase, rank) for rank in range(phase.tasks)]
        found = [read_result(f, f"task {rank} of {phase.label}") for rank, f in enumerate(folders)]
        members = self.recipe.graph.members(phase.root)
        self._check_bugs(phase, members, found)
        for folder in folders:
            if (folder / LOG).exists():
                self.rundir.note(f"task {folder.name}:\n{(folder / LOG).read_text(errors='replace')}")
        for index in members:
            writes = self.recipe.graph.nodes[index].writes
            parts = Parts(work.folder(index), writes, self.recipe.part_rows)
            places = [stage_path(folder, self.recipe.graph, index) for folder in folders]
            asyncio.run(_take(parts, writes, [place for place in places if place.is_dir()]))
            with work.committing(index):
                parts.finish()
        for other in found:
            result.add(other)

    def _check_bugs(self, phase: Phase, members: list[int], found: list[TaskResult]) -> None:
        """What ``Work`` does on one machine: a stage with a bug in most of its first rows ends the run.

        Its tasks are forgotten, so that they run again when it is repaired; their logs stay.
        """
        for index in members:
            rows = errors = 0
            for result in found:
                rows += result.counts[index].rows_in
                errors += result.counts[index].rejected.get(STAGE_ERROR, 0)
                if rows >= PROBE:
                    break
            if errors * 2 > rows:
                shutil.rmtree(self.job.folder(phase))
                name = self.recipe.graph.nodes[index].name
                raise RunStopped(
                    f"stage {name!r} failed on {errors} of its first {rows} rows.",
                    remedy=f"{STAGE_ERROR!r}: repair the stage, then give the same command again.",
                )

    def _make_ready(self, engines: Engines, result: TaskResult) -> None:
        """What the tasks of the next phase read: the lengths of the parts, and a snapshot of the log."""
        import polars as pl

        after, job = self.all[self.phase.index + 1], self.job
        folder = input_of(job, self.recipe, after)
        result.heights = [
            int(pl.scan_parquet(path).select(pl.len()).collect().item()) for path in part_files(folder)
        ]
        models = {engines.main.model, *(session.model for session in engines.named.values())}
        base = job.base_log(after)
        new = base.with_suffix(".new")
        base.parent.mkdir(parents=True, exist_ok=True)
        for path in (base, *base.parent.glob(f"{new.name}*")):
            path.unlink(missing_ok=True)
        if log_tools.merge(new, [job.log], models=models, kin=True, since=job.read_after or 0).added:
            new.replace(base)
        else:
            new.unlink()

    def _summary(
        self,
        engines: Engines,
        result: TaskResult,
        ledger: Ledger,
        exported: Exported,
        *,
        complete: bool = False,
    ) -> Summary:
        """What was done until here."""
        seconds = time.time() - self.job.started
        summary = summary_of(
            self.recipe, engines, result.counts, exported, ledger, complete=complete, seconds=seconds
        )
        summary.spent, summary.total = result.spent, ledger.spent.plus(result.spent)
        summary.timing["task_seconds"] = round(result.seconds, 3)
        return summary

    def _finish(self, engines: Engines, work: Work, result: TaskResult, ledger: Ledger) -> None:
        """Exports, summary and table, as at the end of any run."""
        exported = export_all(self.recipe, self.rundir)
        summary = self._summary(engines, result, ledger, exported, complete=True)
        self.rundir.drop_stages_except(work.folders)
        ledger.complete(summary)
        self.rundir.note(f"complete, in {self.job.tasks} tasks:\n{table(summary)}")

    def _clear(self) -> None:
        """Remove what only the phases needed. What the executor itself keeps stays: it is still at work."""
        for phase in self.all:
            shutil.rmtree(self.job.folder(phase) / TASKS, ignore_errors=True)
        for node in self.recipe.graph.sources:
            shutil.rmtree(self.job.shards / source_rows(node), ignore_errors=True)
        shutil.rmtree(self.job.all_logs, ignore_errors=True)
        with suppress(OSError):  # another run has its own there
            self.job.all_logs.parent.rmdir()


async def _take(parts: Parts, record: type[Struct], places: list[Path]) -> None:
    """One stage's rows, kept and rejected, from the folders of tasks; one that had no rows has none."""
    import polars as pl

    for place in places:
        for path in part_files(place):
            for piece in pl.read_parquet(path, memory_map=False).iter_slices(_SLICE):
                await parts.add(from_frame(piece, record))
        for piece in pl.read_parquet(place / REJECTED_FILE, memory_map=False).iter_slices(_SLICE):
            await parts.add((), from_frame(piece, Rejection))


async def _split(
    rows: Iterator[Any], counts: StageCounts, kept: Parts, rejected: Parts, *, judged: bool
) -> None:
    """The rows of a source, counted: those that can be used, and the others."""
    for row in rows:
        counts.rows_in += 1
        if isinstance(row, Rejection):
            counts.reject(row)
            await rejected.add((), (row,))
        else:
            counts.keep((row,), judged=judged)
            await kept.add((row,))


def _complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _end_with_parent() -> None:
    def wait() -> NoReturn:
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()


def main(arguments: list[str]) -> int:
    """The process of one task: exit status 0, or 1 with the error on standard error."""
    _end_with_parent()
    path, number, rank = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    job = read_job(path)
    try:
        if job is None:
            raise RunError(f"{path} holds no job.", remedy="Give the command that began it again.")
        os.chdir(job.cwd)
        work(job, number, rank)
    except GristmillError as error:
        _complain(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
