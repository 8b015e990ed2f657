"""A pilot's rows through a recipe once more, over the completion log alone, to see what each has cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gristmill.core.engine import Ability, Completion, Engine, Request
from gristmill.core.stages import Rejection
from gristmill.engines.log.store import CompletionLog, request_key
from gristmill.pipelines.planning.memory import WORKERS, Known, LogOnly, LogWalk
from gristmill.pipelines.running.walk import Visit, Walk

COUNTS = ("rows", "requests", "completions", "tokens_in", "tokens_out")


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


class _Asked(NamedTuple):
    """What a stage asked for, and whether the log had all of it."""

    requests: list[list[_Use]]
    whole: bool


class Replay(LogWalk[_Asked]):
    """The pilot's rows on their way through the recipe, over the log alone.

    ``costs`` has for each row of the first source (by its place in the pilot) and each stage the ``COUNTS``.
    What rows of further sources cost is spread over those of the first, in order.
    """

    def __init__(self, known: Known, sources: Mapping[int, Iterator[Any]]) -> None:
        self._first = known.recipe.graph.sources[0]
        first = [row for row in sources[self._first] if not isinstance(row, Rejection)]
        super().__init__(known, {**sources, self._first: iter(first)})
        self._paid: set[tuple[bytes, int]] = set()
        self.stages = [i for i, node in enumerate(self.graph.nodes) if node.stage is not None]
        self.costs = [[[0] * len(COUNTS) for _ in self.stages] for _ in first]
        self.incomplete: set[int] = set()

    def meter(self, engine: Engine) -> LogOnly:
        """One that notes what it gave."""
        return _Meter(engine, self.known.log)

    async def run(self) -> None:
        """Every stage, in order. What a row lacks in the log makes it incomplete."""
        await Walk(self.graph, self, workers=WORKERS).run()

    def _row(self, origin: tuple[int, int]) -> int:
        """The row of the first source that stands for an origin."""
        source, row = origin
        return row if source == self._first or not self.costs else row % len(self.costs)

    async def table(self, node: int) -> bool:
        """Over the rows whose completions are all in the log."""
        for i in self.graph.nodes[node].inputs:
            rows = self.made.get(i, [])
            self.made[i] = [(r, o) for r, o in rows if self._row(o) not in self.incomplete]
            for _, origin in self.made[i]:
                self.costs[self._row(origin)][self.stages.index(node)][0] += 1
        self.run_table(node)
        return True

    async def call(self, node: int, record: Any) -> Visit[_Asked]:
        """One record through one stage."""
        made, meters, whole = await self.tried(node, record)
        requests = [uses for m in meters if isinstance(m, _Meter) for uses in m.requests]
        return self.visit(node, made, _Asked(requests, whole))

    async def emit(self, item: Any, visits: list[Visit[_Asked]]) -> None:
        """In the order of the rows, so that a completion is always paid for by the same one."""
        row = self._row(item[1]) if self.costs else 0
        if any(visit.note is not None and not visit.note.whole for visit in visits):
            self.incomplete.add(row)
            return
        for node, made, _, note in visits:
            self.keep(node, made, item[1])
            if note is None:
                continue
            counts = self.costs[row][self.stages.index(node)]
            counts[0] += 1
            for uses in note.requests:
                new = [u for u in uses if (u.key, u.sample) not in self._paid]
                self._paid.update((u.key, u.sample) for u in new)
                counts[1] += bool(new)
                counts[2] += len(new)
                counts[3] += sum(u.tokens_in for u in new)
                counts[4] += sum(u.tokens_out for u in new)
