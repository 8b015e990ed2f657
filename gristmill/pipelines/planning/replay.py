"""A pilot's rows through a recipe once more, over the completion log alone, to see what each has cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gristmill.core.engine import Ability, Completion, Engine, Request
from gristmill.core.errors import EngineError, RowRejected
from gristmill.core.records import Problem
from gristmill.core.stages import REJECTED_REASON, Context, Rejection
from gristmill.engines.log.store import CompletionLog, request_key
from gristmill.pipelines.planning.bounds import LogOnly, Miss
from gristmill.pipelines.recipe.graph import is_row_stage, is_table_stage
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.running.segments import Verify
from gristmill.pipelines.running.stream import OrderedMap, first_error

COUNTS = ("rows", "requests", "completions", "tokens_in", "tokens_out")
_WORKERS = 32


class _Use(NamedTuple):
    """A completion that was taken from the log, by which it is told whether it was paid for before."""

    key: bytes
    sample: int
    tokens_in: int
    tokens_out: int


class _Meter(LogOnly):
    """Answers from the log, and notes what it gave: one list for each request."""

    def __init__(self, engine: Engine, log: CompletionLog) -> None:
        super().__init__(engine, log)
        self.requests: list[list[_Use]] = []

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        completions = await super().generate(request, first=first, n=n)
        key = request_key(self.model, request).digest
        uses = [_Use(key, first + i, c.prompt_tokens, c.completion_tokens) for i, c in enumerate(completions)]
        self.requests += [uses] if Ability.MANY in self.abilities else [[use] for use in uses]
        return completions


class _Visit(NamedTuple):
    """What a stage asked for and made of one record."""

    node: int
    requests: list[list[_Use]]
    made: list[Any]


class Replay:
    """The pilot's rows on their way through the recipe, over the log alone.

    ``costs`` has for each source row (by its place in the pilot) and each stage the ``COUNTS``.
    """

    def __init__(
        self, recipe: Recipe, engines: Mapping[str | None, Engine], log: CompletionLog, verify: Verify
    ) -> None:
        self._recipe = recipe
        self._nodes = recipe.pipeline.nodes
        self._engines = engines
        self._log = log
        self._verify = verify
        self._paid: set[tuple[bytes, int]] = set()
        self._made: dict[int, list[tuple[int, Any]]] = {}  # what table stages will read, with its row
        self.costs: list[list[list[int]]] = []
        self.incomplete: set[int] = set()

    async def run(self, rows: Iterator[Problem | Rejection]) -> None:
        """Every stage, in order. What a row lacks in the log makes it incomplete."""
        problems = [row for row in rows if isinstance(row, Problem)]
        self.costs = [[[0] * len(COUNTS) for _ in self._nodes] for _ in problems]
        self._keep(-1, list(enumerate(problems)))
        await self._segment(None, list(enumerate(problems)))
        for i, node in enumerate(self._nodes):
            if is_table_stage(node.stage):
                await self._segment(i, self._table(i))

    def _keep(self, node: int, made: list[tuple[int, Any]]) -> None:
        """Keep what a stage made, if a table stage reads it."""
        parent = None if node < 0 else node
        if any(n.parent == parent and is_table_stage(n.stage) for n in self._nodes):
            self._made.setdefault(node, []).extend(made)

    def _table(self, index: int) -> list[tuple[int, Any]]:
        """A table stage over what the pilot's rows gave it; each row stays its source row's."""
        import polars as pl

        from gristmill.core.schema import from_frame, to_frame

        stage = self._nodes[index].stage
        assert is_table_stage(stage)
        parent = self._nodes[index].parent
        given = self._made.get(-1 if parent is None else parent, [])
        given = [(row, record) for row, record in given if row not in self.incomplete]
        for row, _ in given:
            self.costs[row][index][0] += 1
        row_of = {record.id: row for row, record in given}
        frame = stage(to_frame([record for _, record in given], stage.reads).lazy(), self._recipe.seed)
        kept = frame.filter(pl.col(REJECTED_REASON).is_null()).collect(engine="in-memory")
        records: list[Any] = from_frame(kept, self._nodes[index].writes)
        made = [(row_of[record.id], record) for record in records]
        self._keep(index, made)
        return made

    async def _segment(self, parent: int | None, items: list[tuple[int, Any]]) -> None:
        """The row stages behind ``parent``, up to the next table stages."""
        members = self._recipe.pipeline.row_segment(parent)
        roots = [i for i in members if self._nodes[i].parent == parent]

        async def work(item: tuple[int, Any]) -> tuple[int, list[_Visit] | None]:
            row, record = item
            try:
                return row, [v for i in roots for v in await self._visit(members, i, record)]
            except Miss:
                return row, None

        if roots:
            await OrderedMap(iter(items), work, self._count, workers=_WORKERS, window=16 * _WORKERS).run()

    async def _visit(self, members: list[int], index: int, record: Any) -> list[_Visit]:
        node = self._nodes[index]
        assert is_row_stage(node.stage)
        meters = {name: _Meter(engine, self._log) for name, engine in self._engines.items()}
        named: dict[str, Engine] = {name: m for name, m in meters.items() if name is not None}
        context = Context(meters[node.engine], self._verify, self._recipe.seed, named)
        try:
            results = [r for r in await node.stage(record, context) if not isinstance(r, Rejection)]
        except (RowRejected, EngineError):
            results = []
        except ExceptionGroup as group:
            raise first_error(group) from None
        visits = [_Visit(index, [uses for m in meters.values() for uses in m.requests], results)]
        for child in members:
            if self._nodes[child].parent == index:
                for result in results:
                    visits += await self._visit(members, child, result)
        return visits

    async def _count(self, visited: tuple[int, list[_Visit] | None]) -> None:
        """In the order of the rows, so that a completion is always paid for by the same one."""
        row, visits = visited
        if visits is None:
            self.incomplete.add(row)
        for node, requests, made in visits or ():
            counts = self.costs[row][node]
            counts[0] += 1
            for uses in requests:
                new = [u for u in uses if (u.key, u.sample) not in self._paid]
                self._paid.update((u.key, u.sample) for u in new)
                counts[1] += bool(new)
                counts[2] += len(new)
                counts[3] += sum(u.tokens_in for u in new)
                counts[4] += sum(u.tokens_out for u in new)
            self._keep(node, [(row, record) for record in made])
