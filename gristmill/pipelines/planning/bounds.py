"""``plan``: what a recipe will cost, and how much of it the completion log already holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
from msgspec import Struct

from gristmill.core.engine import Completion, Engine, Request
from gristmill.core.errors import EngineError, RowRejected
from gristmill.core.records import Problem
from gristmill.core.stages import Context, Estimate, Rejection
from gristmill.engines.log.store import CompletionLog, request_key
from gristmill.pipelines.recipe import recipe as recipes
from gristmill.pipelines.recipe.graph import Skills, is_row_stage
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.rundir.summary import align
from gristmill.pipelines.running.runner import in_own_loop, limited, log_path
from gristmill.pipelines.running.segments import Verify
from gristmill.pipelines.running.sessions import entries
from gristmill.pipelines.running.stream import OrderedMap, first_error
from gristmill.pipelines.sources import source as sources

_WORKERS = 32


class StagePlan(Struct):
    """What a stage will need. Completions and tokens are what remains to be paid for.

    ``rows`` are those known now, of which ``done`` need nothing more; ``open_rows`` rows of the stage
    before will bring further ones. ``known`` is false behind a table stage that has yet to run.
    """

    name: str
    rows: int = 0
    done: int = 0
    open_rows: int = 0
    in_log: int = 0
    completions_min: int = 0
    completions_max: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    known: bool = True


class Plan(Struct):
    """What a recipe will need, by stage. ``tokens_in`` and ``tokens_out`` are upper bounds."""

    name: str
    problems: int
    rejected: int
    stages: list[StagePlan]


class Miss(Exception):
    """A completion is not in the log."""


class LogOnly:
    """An engine that answers from the log alone. ``found`` counts what it did."""

    def __init__(self, engine: Engine, log: CompletionLog) -> None:
        self._log = log
        self.model = engine.model
        self.abilities = engine.abilities
        self.concurrency = engine.concurrency
        self.found = 0

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """What the log has; ``Miss`` where that is not all."""
        try:
            have = self._log.get(request_key(self.model, request), first, n)
        except UnicodeEncodeError as error:
            raise RowRejected("invalid text", str(error)) from error
        self.found += len(have)
        if len(have) < n:
            raise Miss
        return [have[i] for i in range(first, first + n)]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """There is nothing to close."""


def _found(engines: Mapping[str | None, LogOnly]) -> int:
    return sum(engine.found for engine in engines.values())


class _Visited(NamedTuple):
    node: int
    found: int
    remaining: tuple[int, int, int, int] | None
    """Completions (least, most) and tokens (in, out) still to be paid for; ``None``: all is in the log."""


def plan(
    recipe: Recipe | str | Path,
    *,
    overrides: Sequence[str] = (),
    limit: int | None = None,
    log: str | Path | None = None,
) -> Plan:
    """What ``recipe`` will need, without starting its engine or sending a request.

    Each row goes through its stages over the log; at the first completion that is not there, the
    stage's own estimate takes over, and what comes behind it is not known yet.
    """
    if not isinstance(recipe, Recipe):
        recipe = recipes.load(recipe, overrides)
    if limit is not None:
        recipe = msgspec.structs.replace(recipe, limit=limit)
    found = {name: (entry.kind, entry.options.open()) for name, entry in entries(recipe)}
    recipe.pipeline.check_engine({n: Skills(kind, e.abilities) for n, (kind, e) in found.items()})
    engines = {name: engine for name, (_, engine) in found.items()}
    rows = limited(sources.read(recipe.source), recipe.limit)
    with (
        CompletionLog(log_path(log)) as opened,
        recipe.verifier.open() as pool,
    ):
        planner = _Planner(recipe, engines, opened, pool.averify)
        in_own_loop(planner.run(rows))
    return planner.plan


class _Planner:
    def __init__(
        self, recipe: Recipe, engines: Mapping[str | None, Engine], log: CompletionLog, verify: Verify
    ) -> None:
        self._recipe = recipe
        self._engines = engines
        self._log = log
        self._verify = verify
        nodes = recipe.pipeline.nodes
        self._segment = recipe.pipeline.row_segment(None)
        self.plan = Plan(
            recipe.name, 0, 0, [StagePlan(n.name, known=i in self._segment) for i, n in enumerate(nodes)]
        )

    async def run(self, rows: Iterator[Problem | Rejection]) -> None:
        await OrderedMap(rows, self._visit_row, self._count, workers=_WORKERS, window=16 * _WORKERS).run()

    async def _visit_row(self, row: Problem | Rejection) -> list[_Visited] | None:
        if isinstance(row, Rejection):
            return None
        roots = [i for i in self._segment if self._recipe.pipeline.nodes[i].parent is None]
        return [v for i in roots for v in await self._visit(i, row)]

    async def _visit(self, node: int, record: Any) -> list[_Visited]:
        stage, own = self._recipe.pipeline.nodes[node].stage, self._recipe.pipeline.nodes[node].engine
        assert is_row_stage(stage)
        engines = {name: LogOnly(engine, self._log) for name, engine in self._engines.items()}
        named = {name: engine for name, engine in engines.items() if name is not None}
        try:
            results = await stage(record, Context(engines[own], self._verify, self._recipe.seed, named))
        except (RowRejected, EngineError):
            return [_Visited(node, _found(engines), None)]
        except (Miss, ExceptionGroup) as error:
            if isinstance(error, ExceptionGroup) and not isinstance(first_error(error), Miss):
                raise
            estimate, found = stage.estimate(record) or Estimate(0, 0, 0, 0), _found(engines)
            least = max(0, estimate.completions_min - found)
            most = max(least, estimate.completions_max - found)
            tokens = (most * estimate.prompt_tokens, most * estimate.completion_tokens)
            return [_Visited(node, found, (least, most, *tokens))]
        visited = [_Visited(node, _found(engines), None)]
        for child in self._segment:
            if self._recipe.pipeline.nodes[child].parent == node:
                for result in results:
                    if not isinstance(result, Rejection):
                        visited += await self._visit(child, result)
        return visited

    async def _count(self, visited: list[_Visited] | None) -> None:
        if visited is None:
            self.plan.rejected += 1
            return
        self.plan.problems += 1
        for node, found, remaining in visited:
            stage = self.plan.stages[node]
            stage.rows += 1
            stage.in_log += found
            if remaining is None:
                stage.done += 1
                continue
            stage.completions_min += remaining[0]
            stage.completions_max += remaining[1]
            stage.tokens_in += remaining[2]
            stage.tokens_out += remaining[3]
            self._leave_open(node)

    def _leave_open(self, node: int) -> None:
        for child in self._segment:
            if self._recipe.pipeline.nodes[child].parent == node:
                self.plan.stages[child].open_rows += 1
                self._leave_open(child)


def table(plan: Plan) -> str:
    """The plan as plain text."""
    rows: list[tuple[str, ...]] = [
        ("stage", "rows", "done", "in the log", "completions", "tokens in", "tokens out")
    ]
    notes = []
    for stage in plan.stages:
        if not stage.known:
            rows.append((stage.name, *("?" for _ in range(6))))
            continue
        least, most = stage.completions_min, stage.completions_max
        count = f"{most:,}" if least == most else f"{least:,} to {most:,}"
        rows.append(
            (
                stage.name,
                *(f"{n:,}" for n in (stage.rows, stage.done, stage.in_log)),
                count,
                f"<= {stage.tokens_in:,}",
                f"<= {stage.tokens_out:,}",
            )
        )
        if stage.open_rows:
            notes.append(f"{stage.name}: {stage.open_rows:,} rows before it are open and will bring more.")
    if any(not s.known for s in plan.stages):
        notes.append("?: known once the table stages before it have run.")
    head = f"{plan.name}: {plan.problems:,} problems, {plan.rejected:,} rows rejected. Still to be paid for:"
    return "\n".join([head, "", *align(rows), *([""] if notes else []), *notes])
