"""The one interpreter of a graph. What is done at each step is its observer's: a run, a plan, a forecast.

Row stages stream behind a root, that is a source, a filter or a relation; these wait for whole tables. So a
walk goes root by root, in order: first what the root itself is, then the rows behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import Struct

from gristmill.core.stages import Rejection
from gristmill.core.weights import weight
from gristmill.pipelines.recipe.graph import Graph
from gristmill.pipelines.running.stream import OrderedMap, first_error

_WINDOW = 16
"""Rows between reading and writing, as a multiple of those at work: what one slow row may hold up."""

_WINDOW_BYTES = 64 << 20
"""Bytes of the rows in the window, and of what came of them, above which it holds only the rows at work."""

N = TypeVar("N")


class Visit(NamedTuple, Generic[N]):
    """What came of one record at one node. ``note`` is the observer's own."""

    node: int
    kept: Sequence[Any]
    rejected: Sequence[Rejection] = ()
    note: N | None = None


class Observer(Generic[N]):
    """What is done at each step of a walk. The steps come in this order for every root."""

    def rows(self, root: int) -> Iterator[Any]:
        """The rows of a source (a record, or the ``Rejection`` of a row that cannot be used), or those that a
        filter or relation has made. It may block; it is read in a thread."""
        raise NotImplementedError

    def over(self, root: int) -> bool:
        """Whether no further row of ``root`` is to be begun."""
        return False

    async def table(self, node: int) -> bool:
        """Run a filter or relation; whether its rows are there to be read."""
        raise NotImplementedError

    async def begin(self, root: int, members: list[int]) -> None:
        """Rows are about to stream from ``root`` through the row stages ``members``."""

    def record(self, item: Any) -> Any:
        """The record in an item of ``rows``."""
        return item

    async def call(self, node: int, record: Any) -> Visit[N]:
        """One record through one row stage."""
        raise NotImplementedError

    def through(self) -> None:
        """One more item of ``rows`` is finished; those before it may not be."""

    async def emit(self, item: Any, visits: list[Visit[N]]) -> None:
        """All that came of one item of ``rows``, in the order of the items."""
        raise NotImplementedError

    async def end(self, root: int, members: list[int]) -> None:
        """The last row has been emitted."""


class Walk(Generic[N]):
    """Takes the rows of a graph's sources through its stages, ``workers`` rows at a time."""

    def __init__(self, graph: Graph, observer: Observer[N], *, workers: int) -> None:
        self.graph = graph
        self.observer = observer
        self.workers = workers
        self._children = [graph.children(i) for i in range(len(graph.nodes))]

    async def run(self) -> None:
        """Every node, in order. The first error of the observer ends it."""
        for root in self.graph.roots:
            if self.graph.nodes[root].stage is None or await self.observer.table(root):
                await self.stream(root)

    async def stream(self, root: int, *, sourced: bool = False) -> None:
        """The rows of ``root`` through the row stages behind it, side by side.

        ``sourced``: they are of a source whose rows have been counted and written already.
        """
        members = self.graph.members(root)
        source = self.graph.nodes[root].stage is None and not sourced
        if not members and not source:
            return
        await self.observer.begin(root, members)

        async def work(item: Any) -> tuple[Any, list[Visit[N]]]:
            record = self.observer.record(item)
            made: list[Visit[N]]
            if isinstance(record, Rejection):
                made = [Visit(root, (), (record,))]
            else:
                made = [Visit(root, (record,))] if source else []
                made += await self._all([(child, record) for child in self._children[root]])
            self.observer.through()
            return item, made

        async def emit(done: tuple[Any, list[Visit[N]]]) -> None:
            await self.observer.emit(*done)

        rows, window = self.observer.rows(root), _WINDOW * self.workers
        over = partial(self.observer.over, root)
        await OrderedMap(
            rows,
            work,
            emit,
            workers=self.workers,
            window=window,
            over=over,
            window_bytes=_WINDOW_BYTES,
            weigh=weight,
            weigh_result=_bytes_made,
        ).run()
        await self.observer.end(root, members)

    async def _all(self, calls: Sequence[tuple[int, Any]]) -> list[Visit[N]]:
        """Every record through its node and those behind it, in order."""
        if len(calls) == 1:
            return await self._visit(*calls[0])
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._visit(node, record)) for node, record in calls]
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        return [visit for task in tasks for visit in task.result()]

    async def _visit(self, node: int, record: Any) -> list[Visit[N]]:
        visit = await self.observer.call(node, record)
        children = self._children[node]
        if not (children and visit.kept):
            return [visit]
        return [visit, *await self._all([(child, kept) for child in children for kept in visit.kept])]


def _bytes_made(made: tuple[Any, list[Visit[Any]]]) -> int:
    """The bytes of all that came of a row."""
    return sum(weight(record) for visit in made[1] for record in visit.kept)


def carried(made: Any, record: Any, writes: type[Struct]) -> Any:
    """What a stage made of ``record``, as the type that its node ``writes``: columns that the stage does not
    know are those of ``record``."""
    if type(made) is writes or isinstance(made, Rejection):
        return made
    known = type(made).__struct_fields__
    fields = {n: getattr(made if n in known else record, n) for n in writes.__struct_fields__}
    return writes(**fields)
