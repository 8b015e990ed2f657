"""Executes a pipeline: row stages stream in segments, table stages take whole tables between them."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from msgspec import Struct

from gristmill.core.engine import Completion, Engine, Request
from gristmill.core.errors import EngineError, GristmillError, RowRejected, RunError, RunStopped
from gristmill.core.records import Problem
from gristmill.core.stages import REJECTED_REASON, Context, Rejection, RowStage
from gristmill.core.verdicts import Verdict
from gristmill.pipelines.recipe.graph import SOURCE, GraphNode, Pipeline, is_row_stage, is_table_stage
from gristmill.pipelines.rundir import parts
from gristmill.pipelines.rundir.directory import RunDir, StageDir
from gristmill.pipelines.rundir.parts import Parts
from gristmill.pipelines.rundir.summary import StageCounts
from gristmill.pipelines.running.stream import OrderedMap, first_error

STAGE_ERROR = "stage error"
PROBE = 100
"""A row stage that fails with a bug on more than half of its first this many rows stops the run."""
_WINDOW = 16
"""Rows between reading and writing, as a multiple of the rows in flight: what one slow row may hold up."""

Verify = Callable[[str, str], Awaitable[Verdict]]


class _StageEngine:
    """The engine as one stage sees it: what the stage uses is counted."""

    def __init__(self, engine: Engine, counts: StageCounts) -> None:
        self._engine = engine
        self._counts = counts
        self.model = engine.model
        self.abilities = engine.abilities
        self.concurrency = engine.concurrency

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        completions = await self._engine.generate(request, first=first, n=n)
        self._counts.completions += len(completions)
        for completion in completions:
            self._counts.tokens_in += completion.prompt_tokens
            self._counts.tokens_out += completion.completion_tokens
        return completions

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The engine is opened and closed around the run, not around a stage."""


class _Made(NamedTuple):
    """What a stage made of one record. ``node`` is the stage's index; -1 is the source."""

    node: int
    kept: Sequence[Struct]
    dropped: Sequence[Rejection]


class _RowRun:
    """A row stage at work."""

    def __init__(
        self,
        index: int,
        node: GraphNode,
        engine: Engine,
        engines: Mapping[str, Engine],
        verify: Verify,
        seed: int,
    ) -> None:
        assert is_row_stage(node.stage)
        self.index = index
        self.name = node.name
        self.stage: RowStage = node.stage
        self.children: list[_RowRun] = []
        self.done = self.errors = 0
        self.last_error = ""
        self.counts = StageCounts(node.name)
        self._verify = verify
        own = engine if node.engine is None else engines[node.engine]
        self.context = Context(
            _StageEngine(own, self.counts),
            self._judge,
            seed,
            {name: _StageEngine(e, self.counts) for name, e in engines.items()},
            self._count,
        )

    async def _judge(self, completion: str, reference: str) -> Verdict:
        verdict = await self._verify(completion, reference)
        self._count(verdict)
        return verdict

    def _count(self, verdict: Verdict) -> None:
        self.counts.verdicts[verdict.outcome.value] += 1


class Segments:
    """A pipeline at work in a run directory. ``counts`` are of the source and then of every stage.

    ``at`` names what is running, ``rows`` of ``rows_total`` (``None``: not known here) are through it.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        rundir: RunDir,
        engine: Engine,
        verify: Verify,
        *,
        seed: int,
        rows_in_flight: int,
        part_rows: int,
        settle: Callable[[], Awaitable[None]] | None = None,
        engines: Mapping[str, Engine] | None = None,
        probe: int = PROBE,
    ) -> None:
        """``engine`` is the main one, ``engines`` are the further ones by name. ``probe`` is the number of
        rows by which a stage with a bug is known; 0 lets none stop the run.

        ``settle`` is awaited before an error that has nothing to do with the engines ends the run: it
        lets the requests in flight come home and into the log.
        """
        self.pipeline = pipeline
        self.at = SOURCE
        self.rows = 0
        self.rows_total: int | None = None
        self._rundir = rundir
        self._seed = seed
        self._rows_in_flight = rows_in_flight
        self._part_rows = part_rows
        self._settle = settle
        self._probe = probe
        self._runs = {
            i: _RowRun(i, n, engine, engines or {}, verify, seed)
            for i, n in enumerate(pipeline.nodes)
            if is_row_stage(n.stage)
        }
        self.counts = [StageCounts(SOURCE)]
        self.counts += [
            self._runs[i].counts if i in self._runs else StageCounts(n.name)
            for i, n in enumerate(pipeline.nodes)
        ]
        self._parts: dict[int, Parts] = {}

    def folder(self, index: int) -> StageDir:
        """The folder of a node; -1 is the source's."""
        return self._rundir.stage(index + 1, SOURCE if index < 0 else self.pipeline.nodes[index].name)

    @property
    def folders(self) -> list[str]:
        """The names of all folders that a complete run has."""
        return [self.folder(i).name for i in range(-1, len(self.pipeline.nodes))]

    async def run(self, problems: Iterator[Problem | Rejection]) -> None:
        """Every stage, in order. ``RunStopped`` (or another ``GristmillError``) leaves former outputs."""
        await self.stream(None, problems)
        for index, node in enumerate(self.pipeline.nodes):
            if is_table_stage(node.stage):
                self.at = node.name
                await asyncio.to_thread(self.table, index)
                await self.stream(index, parts.read(self.folder(index).path, node.writes))

    async def stream(self, parent: int | None, items: Iterator[Any], *, sourced: bool = False) -> None:
        """The row stages behind ``parent`` (``None``: the source), side by side.

        ``sourced``: the problems have been counted and the bad rows told already.
        """
        nodes = self.pipeline.nodes
        members = self.pipeline.row_segment(parent)
        begins = parent is None and not sourced
        if begins:
            kept = Problem if self.pipeline.keeps_source else None
            self._parts[-1] = Parts(self.folder(-1), kept, self._part_rows)
        elif not members:
            return
        self.at = ", ".join(nodes[i].name for i in members) or SOURCE
        self.rows, self.rows_total = 0, None if parent is None else self.counts[parent + 1].rows_out
        roots: list[_RowRun] = []
        for i in members:
            self._parts[i] = Parts(self.folder(i), nodes[i].writes, self._part_rows)
            above = nodes[i].parent
            (roots if above is None or above == parent else self._runs[above].children).append(self._runs[i])

        async def work(item: Any) -> list[_Made]:
            if isinstance(item, Rejection):
                return [_Made(-1, (), (item,))]
            made = [_Made(-1, (item,), ())] if begins else []
            return made + await self._visit_all(roots, [item])

        flow = OrderedMap(
            items, work, self._emit, workers=self._rows_in_flight, window=_WINDOW * self._rows_in_flight
        )
        await flow.run()
        for i in members:
            self._check_bugs(self._runs[i], min(self._runs[i].done, self._probe))
        for i in ([-1] if begins else []) + members:
            await asyncio.to_thread(self._parts.pop(i).finish)

    async def _visit_all(self, runs: Sequence[_RowRun], records: Sequence[Any]) -> list[_Made]:
        """Every record through every one of ``runs`` and the stages behind them, in order."""
        pairs = [(run, record) for run in runs for record in records]
        if len(pairs) == 1:
            return await self._visit(*pairs[0])
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._visit(run, record)) for run, record in pairs]
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        return [made for task in tasks for made in task.result()]

    async def _visit(self, run: _RowRun, record: Any) -> list[_Made]:
        kept, dropped = await self._call(run, record)
        made = [_Made(run.index, kept, dropped)]
        if run.children and kept:
            made += await self._visit_all(run.children, kept)
        return made

    async def _call(self, run: _RowRun, record: Any) -> tuple[Sequence[Struct], Sequence[Rejection]]:
        """One record through one stage. This is the boundary at which a bug in a stage costs one row."""
        try:
            results = await run.stage(record, run.context)
        except RowRejected as error:
            run.done += 1
            return (), (Rejection(record.id, error.reason, error.message),)
        except EngineError as error:
            run.done += 1
            return (), (Rejection(record.id, "engine error", str(error)),)
        except GristmillError:
            raise
        except Exception as error:  # noqa: BLE001 a stage may be anybody's code, and one row must not end the run
            return (), (await self._stage_error(run, record, error),)
        run.done += 1
        if not any(isinstance(r, Rejection) for r in results):
            return results, ()
        dropped = [r for r in results if isinstance(r, Rejection)]
        return [r for r in results if not isinstance(r, Rejection)], dropped

    async def _stage_error(self, run: _RowRun, record: Any, error: Exception) -> Rejection:
        run.done += 1
        run.errors += 1
        run.last_error = f"{type(error).__name__}: {error}"
        if run.errors == 1:
            trace = "".join(traceback.format_exception(error))
            self._rundir.note(f"stage {run.name!r} failed on record {record.id!r}:\n{trace}")
        if self._has_bug(run, self._probe) and self._settle:
            await self._settle()
        self._check_bugs(run, self._probe)
        return Rejection(record.id, STAGE_ERROR, run.last_error)

    def _has_bug(self, run: _RowRun, probed: int) -> bool:
        return run.done <= self._probe and run.errors * 2 > probed

    def _check_bugs(self, run: _RowRun, probed: int) -> None:
        if self._has_bug(run, probed):
            raise RunStopped(
                f"stage {run.name!r} failed on {run.errors} of its first {run.done} rows, "
                f"at last with {run.last_error}.",
                remedy=f"The traceback of the first failure is in {self._rundir.path / 'log.txt'}.",
            )

    async def _emit(self, made: list[_Made]) -> None:
        """Count and write what came of one row of the segment's input."""
        self.rows += 1
        for index, kept, dropped in made:
            counts = self.counts[index + 1]
            counts.rows_in += 1
            counts.rows_out += len(kept)
            for rejected in dropped:
                counts.rejected[rejected.reason] += 1
            try:
                await self._parts[index].add(kept, dropped)
            except RunError:
                if self._settle:
                    await self._settle()
                raise

    def table(self, index: int) -> None:
        """A table stage; blocks."""
        import polars as pl

        node = self.pipeline.nodes[index]
        assert is_table_stage(node.stage)
        stage, counts = node.stage, self.counts[index + 1]
        above = self.folder(-1 if node.parent is None else node.parent)
        counts.rows_in = self.counts[0 if node.parent is None else node.parent + 1].rows_out
        writer = Parts(self.folder(index), node.writes, self._part_rows)
        try:
            # Not the streaming engine: it may add floats up in another order on every run.
            frame = stage(parts.scan(above.path, stage.reads), self._seed).collect(engine="in-memory")
            kept = frame.filter(pl.col(REJECTED_REASON).is_null()).select(node.writes.__struct_fields__)
        except GristmillError:
            raise
        except Exception as error:
            self._rundir.note(f"stage {node.name!r} failed:\n{traceback.format_exc()}")
            raise RunStopped(
                f"stage {node.name!r} failed: {type(error).__name__}: {error}.",
                remedy=f"The traceback is in {self._rundir.path / 'log.txt'}.",
            ) from error
        dropped = frame.filter(pl.col(REJECTED_REASON).is_not_null()).select(
            "id", pl.col(REJECTED_REASON).alias("reason")
        )
        for piece in kept.iter_slices(self._part_rows):
            writer.add_frame(piece)
        for piece in dropped.iter_slices(self._part_rows):
            writer.add_dropped([Rejection(*row) for row in piece.rows()])
        counts.rows_out = kept.height
        for reason, rows in dropped.group_by("reason").len().sort("reason").rows():
            counts.rejected[reason] = rows
        writer.finish()
