"""A walk over the completion log alone: nothing is asked, and what stages make is held in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, NamedTuple

from gristmill.core.engine import BorrowedEngine, Completion, Engine, Request
from gristmill.core.errors import EngineError, RowRejected
from gristmill.core.schema import from_frame, to_frame
from gristmill.core.stages import Context, Rejection
from gristmill.engines.log.store import CompletionLog, request_key
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.running.stream import first_error
from gristmill.pipelines.running.tables import tabled
from gristmill.pipelines.running.walk import N, Observer, Visit, carried
from gristmill.pipelines.running.work import Verify

WORKERS = 32


class Miss(Exception):
    """A completion is not in the log."""


class LogOnly(BorrowedEngine):
    """An engine that answers from the log alone. ``found`` counts what it did, ``asked`` has the requests."""

    def __init__(self, engine: Engine, log: CompletionLog) -> None:
        super().__init__(engine)
        self._log = log
        self.found = 0
        self.asked: list[Request] = []

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """What the log has; ``Miss`` where that is not all."""
        self.asked.append(request)
        try:
            have = self._log.get(request_key(self.model, request), first, n)
        except UnicodeEncodeError as error:
            raise RowRejected("invalid text", str(error)) from error
        self.found += len(have)
        if len(have) < n:
            raise Miss
        return [have[i] for i in range(first, first + n)]


class Known(NamedTuple):
    """What such a walk has at hand."""

    recipe: Recipe
    engines: Mapping[str | None, Engine]
    log: CompletionLog
    verify: Verify
    verifiers: Mapping[str, Verify] = {}


class LogWalk(Observer[N], Generic[N]):
    """What a plan and a forecast have in common. An item of ``rows`` is a record with its ``origin``."""

    def __init__(self, known: Known, sources: Mapping[int, Iterator[Any]]) -> None:
        self.known = known
        self.graph = known.recipe.graph
        self._sources = sources
        self._refer = known.recipe.refer
        self.made: dict[int, list[tuple[Any, Any]]] = {}
        """What filters and relations will read, or have made: (record, origin)."""

    def meter(self, engine: Engine) -> LogOnly:
        """The engine over the log that one call of a stage is given."""
        return LogOnly(engine, self.known.log)

    def rows(self, root: int) -> Iterator[Any]:
        """A source's rows, with their places as origins; what a table has made."""
        if root in self._sources:
            return ((row, (root, i)) for i, row in enumerate(self._sources[root]))
        return iter(self.made.get(root, []))

    def record(self, item: Any) -> Any:
        """See ``Observer``."""
        return item[0]

    def keep(self, node: int, records: Any, origin: Any) -> None:
        """Hold what a node made, if a filter or relation reads it."""
        if self.graph.tables_behind(node):
            self.made.setdefault(node, []).extend((record, origin) for record in records)

    async def tried(self, node: int, record: Any) -> tuple[list[Any], list[LogOnly], bool]:
        """One call of a stage over the log: what it made, the engines that it was given, and whether the log
        had all that it asked for."""
        known, at = self.known, self.graph.nodes[node]
        assert at.row_stage is not None
        meters = {name: self.meter(engine) for name, engine in known.engines.items()}
        named: dict[str, Engine] = {name: m for name, m in meters.items() if name is not None}
        context = Context(
            meters[at.engine],
            known.verify,
            known.recipe.seed,
            named,
            verifiers=known.verifiers,
            refer=self._refer,
        )
        made: list[Any] = []
        whole = True
        try:
            results = await at.row_stage(record, context.about(record))
            made = [carried(r, record, at.writes) for r in results if not isinstance(r, Rejection)]
        except (RowRejected, EngineError):
            pass
        except Miss:
            whole = False
        except ExceptionGroup as group:
            if not isinstance(first_error(group), Miss):
                raise first_error(group) from None
            whole = False
        return made, list(meters.values()), whole

    def run_table(self, node: int) -> None:
        """A filter or relation over what is held; each row keeps the origin of the row that it came from."""
        at = self.graph.nodes[node]
        given = [self.made.get(i, []) for i in at.inputs]
        frames = [
            to_frame([record for record, _ in rows], self.graph.nodes[i].writes).lazy()
            for i, rows in zip(at.inputs, given, strict=True)
        ]
        kept, _ = tabled(at, frames, self.known.recipe.seed)
        origins = {}
        for rows in reversed(given):
            for record, origin in rows:
                origins[getattr(record, "problem_id", record.id)] = origin
                origins[record.id] = origin
        everything = [origin for rows in given for _, origin in rows]
        made = []
        for i, record in enumerate(from_frame(kept, at.writes)):
            row_id: str = record.id  # type: ignore[attr-defined]
            keys = (row_id, row_id.rpartition("#")[0], getattr(record, "problem_id", ""))
            found = next((origins[key] for key in keys if key in origins), everything[i % len(everything)])
            made.append((record, found))
        self.made[node] = made

    def visit(self, node: int, kept: list[Any], note: N) -> Visit[N]:
        """A visit with the observer's own note."""
        return Visit(node, kept, (), note)
