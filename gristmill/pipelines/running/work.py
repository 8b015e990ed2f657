"""A walk that does the work: stages are called, and what they make is written to the run directory."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from msgspec import Struct

from gristmill.core.contracts import Ids, checked
from gristmill.core.engine import BorrowedEngine, Completion, Engine, Request
from gristmill.core.errors import (
    ContractError,
    EngineError,
    GristmillError,
    RowRejected,
    RunError,
    RunStopped,
)
from gristmill.core.stages import Context, Refer, Rejection
from gristmill.core.verdicts import Verdict
from gristmill.pipelines.recipe.graph import Graph, GraphNode
from gristmill.pipelines.rundir import parts
from gristmill.pipelines.rundir.directory import RunDir, StageDir
from gristmill.pipelines.rundir.ledger import Ledger
from gristmill.pipelines.rundir.parts import Parts
from gristmill.pipelines.rundir.summary import ENGINE_ERROR, STAGE_ERROR, StageCounts
from gristmill.pipelines.running.checks.limits import out_of_threads, stopped_by_limit
from gristmill.pipelines.running.gathering import Table
from gristmill.pipelines.running.progress import label
from gristmill.pipelines.running.tables import write_table
from gristmill.pipelines.running.walk import Observer, Visit, carried

TIME_OVER = "not tried: the time was over"
CUT_OFF = "not finished: the time was over"
PROBE = 100
"""A row stage that fails with a bug on more than half of its first this many rows stops the run."""

Verify = Callable[[str, str], Awaitable[Verdict]]


class StageEngine(BorrowedEngine):
    """The engine as one stage sees it: what the stage uses is counted."""

    def __init__(self, engine: Engine, counts: StageCounts) -> None:
        super().__init__(engine)
        self._counts = counts

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """What the engine answers."""
        completions = await self._engine.generate(request, first=first, n=n)
        self._counts.completions += len(completions)
        for completion in completions:
            self._counts.tokens_in += completion.prompt_tokens
            self._counts.tokens_out += completion.completion_tokens
            self._counts.tokens_reasoning += completion.reasoning_tokens
            self._counts.finish_reasons[completion.finish_reason] += 1
        return completions


class Tools(Struct, frozen=True):
    """What stages may use: the main engine and the further ones, the main verifier and the further ones."""

    engine: Engine
    engines: Mapping[str, Engine]
    verify: Verify
    verifiers: Mapping[str, Verify] = {}
    refer: Mapping[str, Refer] = {}

    def context(self, node: GraphNode, seed: int, counts: StageCounts) -> Context:
        """The context of a stage, by which all that it uses is counted."""

        def count(verdict: Verdict) -> None:
            counts.verdicts[verdict.outcome.value] += 1
            if not verdict.decided:
                counts.undecided[verdict.rule or verdict.outcome.value] += 1

        def measure(name: str, value: int) -> None:
            counts.measured[name] += 1
            counts.totals[name] += value

        def counted(verify: Verify) -> Verify:
            async def judge(completion: str, reference: str) -> Verdict:
                verdict = await verify(completion, reference)
                count(verdict)
                return verdict

            return judge

        own = self.engine if node.engine is None else self.engines[node.engine]
        return Context(
            StageEngine(own, counts),
            counted(self.verify),
            seed,
            {name: StageEngine(e, counts) for name, e in self.engines.items()},
            count,
            {name: counted(v) for name, v in self.verifiers.items()},
            self.refer,
            measure,
        )


class _RowRun:
    """A row stage at work."""

    def __init__(self, graph: Graph, index: int, tools: Tools, seed: int, counts: StageCounts) -> None:
        node = graph.nodes[index]
        assert node.row_stage is not None
        self.stage = node.row_stage
        self.name = node.name
        self.writes = node.writes
        self.makes = self.stage.writes
        self.context = tools.context(node, seed, counts)
        self.ids = Ids()
        self.done = self.errors = 0
        self.last_error = ""


class Work(Observer[None]):
    """A graph at work in a run directory. ``counts`` are of every node in order.

    ``at`` names what is running, ``done`` of ``total`` rows are finished; the total of rows that stream from
    ``source`` is not known here.
    """

    def __init__(
        self,
        graph: Graph,
        rundir: RunDir,
        tools: Tools,
        *,
        seed: int,
        part_rows: int,
        kept: frozenset[int] = frozenset(),
        settle: Callable[[], Awaitable[None]] | None = None,
        probe: int = PROBE,
        until: float | None = None,
        grace: float | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        """``kept`` are the sources whose rows are written, because something reads them. ``probe`` is the
        number of rows by which a stage with a bug is known; 0 lets none stop the run. ``until`` is the time
        (``time.monotonic``) after which no further row is begun, ``grace`` the seconds after it in which
        those that are at work must end (``None``: they are waited for).

        ``settle`` is awaited before an error that has nothing to do with the engines ends the run: it
        lets the requests in flight come home and into the log. ``ledger`` is told of each stage that is put
        in place.
        """
        self.graph = graph
        self.sources: dict[int, Iterator[Any]] = {}
        """The rows of each source; what is not there is read from the folder of its node."""
        self.given: dict[int, Iterator[Any]] = {}
        """The rows behind a node where they are not those of its folder: a task's share."""
        self.at = graph.nodes[0].name
        self.done = 0
        self.total: int | None = None
        self.source = ""
        self.out_of_time = False
        self._of_table = False
        self._rundir = rundir
        self._seed = seed
        self._part_rows = part_rows
        self._kept = kept
        self._settle = settle
        self._ledger = ledger
        self._probe = probe
        self._until = until
        self._cut_off = None if until is None or grace is None else until + grace
        self.counts = [StageCounts(node.name) for node in graph.nodes]
        self._judged = graph.judged_sources
        self._runs = {
            i: _RowRun(graph, i, tools, seed, self.counts[i])
            for i, node in enumerate(graph.nodes)
            if node.row_stage is not None
        }
        self._parts: dict[int, Parts] = {}

    def folder(self, index: int) -> StageDir:
        """The folder of a node."""
        return self._rundir.stage(index, self.graph.nodes[index].name)

    @property
    def folders(self) -> list[str]:
        """The names of all folders that a complete run has."""
        return [self.folder(i).name for i in range(len(self.graph.nodes))]

    def rows(self, root: int) -> Iterator[Any]:
        """What is set in ``sources``, else the rows that were written."""
        if root in self.given:
            return self.given[root]
        if root in self.sources:
            return self.sources[root]
        return parts.read(self.folder(root).path, self.graph.nodes[root].writes)

    def over(self, root: int) -> bool:
        """Whether the time is over, for rows of a source; those of a table come to ``record``."""
        return root in self.sources and root not in self.given and self._late()

    def record(self, item: Any) -> Any:
        """The item itself; a row of a table that the time is over for is rejected by what reads it."""
        if self._of_table and self._late():
            return Rejection(item.id, TIME_OVER)
        return item

    def _late(self) -> bool:
        self.out_of_time = self.out_of_time or (self._until is not None and time.monotonic() >= self._until)
        return self.out_of_time

    async def begin(self, root: int, members: list[int]) -> None:
        """Open the files of what streams."""
        nodes = self.graph.nodes
        source = nodes[root].stage is None and root in self.sources
        of_table = root not in self.sources and root not in self.given
        # What asks no model costs nothing more: the rows that were paid for come to their end.
        self._of_table = of_table and any(nodes[i].asks for i in members)
        self.at = self._label(members or [root])
        self.done, self.total = 0, None if source else self.counts[root].rows_out
        self.source = nodes[root].name if source else ""
        for i in [root] * source + members:
            record = nodes[i].writes if i != root or root in self._kept else None
            self._parts[i] = Parts(self.folder(i), record, self._part_rows)

    def _label(self, nodes: list[int]) -> str:
        stages = [i for i, node in enumerate(self.graph.nodes) if node.stage is not None]
        first = sum(i <= nodes[0] for i in stages)
        return label([self.graph.nodes[i].name for i in nodes], first, len(stages))

    def through(self) -> None:
        """Count it."""
        self.done += 1

    async def end(self, root: int, members: list[int]) -> None:
        """Put the files in place."""
        for i in members:
            self._check_bugs(self._runs[i], min(self._runs[i].done, self._probe))
        for i in [root] * (root in self._parts) + members:
            await asyncio.to_thread(self._finish, i, self._parts.pop(i))

    def cut(self) -> None:
        """Put in place what there is of the stages that were at work when the run stopped; blocks."""
        while self._parts:
            self._finish(*self._parts.popitem(), whole=False)

    def _finish(self, index: int, writer: Parts, *, whole: bool = True) -> None:
        with self.committing(index, whole=whole):
            writer.finish()

    def committing(self, index: int, *, whole: bool = True) -> AbstractContextManager[None]:
        """Tell the ledger, where there is one, of a stage's folder that the block puts in place."""
        if self._ledger is None:
            return nullcontext()
        return self._ledger.committing(self.graph.nodes[index].name, whole=whole)

    async def call(self, node: int, record: Any) -> Visit[None]:
        """One record through one stage. This is the boundary at which a bug in a stage costs one row."""
        run = self._runs[node]
        try:
            call = run.stage(record, run.context.about(record))
            if self._cut_off is not None and self.graph.nodes[node].asks:
                call = asyncio.wait_for(call, max(0.0, self._cut_off - time.monotonic()))
            results = await call
            kept, rejected = checked(run.name, run.stage, record, results, (run.makes, run.writes))
        except RowRejected as error:
            run.done += 1
            return Visit(node, (), (Rejection(record.id, error.reason, error.message),))
        except EngineError as error:
            run.done += 1
            return Visit(node, (), (Rejection(record.id, ENGINE_ERROR, str(error)),))
        except TimeoutError as error:
            if self._cut_off is None or time.monotonic() < self._cut_off:
                return Visit(node, (), (await self._stage_error(run, record, error),))
            run.done += 1
            return Visit(node, (), (Rejection(record.id, CUT_OFF),))
        except ContractError as error:
            return Visit(node, (), (await self._stage_error(run, record, error),))
        except GristmillError:
            raise
        except Exception as error:
            if out_of_threads(error):
                raise stopped_by_limit(error) from error
            return Visit(node, (), (await self._stage_error(run, record, error),))
        run.done += 1
        if run.writes is not run.makes:
            kept = [carried(made, record, run.writes) for made in kept]
        return Visit(node, kept, rejected)

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

    async def emit(self, item: Any, visits: list[Visit[None]]) -> None:
        """Count and write what came of one row."""
        for index, kept, rejected, _ in visits:
            if index not in self._parts:  # a row of a table that was not tried: its readers say so
                visits = [Visit(i, (), rejected) for i in self.graph.children(index)]
                await self.emit(item, visits)
                continue
            if index in self._runs:
                kept, repeated = self._runs[index].ids.fresh(kept)
                rejected = (*rejected, *repeated) if repeated else rejected
            counts = self.counts[index]
            counts.rows_in += 1
            counts.keep(kept, judged=index in self._judged)
            for rejection in rejected:
                counts.reject(rejection)
            try:
                await self._parts[index].add(kept, rejected)
            except RunError:
                if self._settle:
                    await self._settle()
                raise

    async def table(self, node: int) -> bool:
        """Run a filter or relation in a thread."""
        self.at = self._label([node])
        self.done, self.total, self.source = 0, None, ""
        await asyncio.to_thread(self.run_table, node)
        return True

    def run_table(self, index: int) -> None:
        """Run a filter or relation and write what it gives; blocks."""
        node, counts = self.graph.nodes[index], self.counts[index]
        counts.rows_in = sum(self.counts[i].rows_out for i in node.inputs)
        writer = Parts(self.folder(index), node.writes, self._part_rows)
        given = [Table(self.folder(i).path, self.graph.nodes[i].writes) for i in node.inputs]
        try:
            rejected, measured = write_table(
                node, given, self._seed, writer, self._part_rows, note=self._rundir.note
            )
        except GristmillError:
            raise
        except Exception as error:
            self._rundir.note(f"stage {node.name!r} failed:\n{traceback.format_exc()}")
            raise RunStopped(
                f"stage {node.name!r} failed: {type(error).__name__}: {error}.",
                remedy=f"The traceback is in {self._rundir.path / 'log.txt'}.",
            ) from error
        counts.rows_out = writer.rows
        for name, values in measured.items():
            if values:  # the mean of none is not 0
                counts.measured[name] = len(values)
                counts.totals[name] = sum(values)
        for piece in rejected.iter_slices(self._part_rows):
            dropped = [Rejection(*row) for row in piece.rows()]
            writer.add_dropped(dropped)
            for rejection in dropped:
                counts.reject(rejection)
        self._finish(index, writer)
