"""What is behind a row: its problem, every request and completion, the verdicts, and what became of each row.

The rows are on disk. The requests are found by giving each row stage its records once more over the
completion log alone, as ``gristmill plan`` does: nothing is asked of a model.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.engine import Completion, Engine, Request, ToolCall
from gristmill.core.errors import GristmillError, RunError
from gristmill.core.schema import from_frame
from gristmill.core.stages import Rejection
from gristmill.engines.log.store import CompletionLog
from gristmill.pipelines.planning.memory import Known, LogOnly, LogWalk
from gristmill.pipelines.recipe import recipe as recipes
from gristmill.pipelines.recipe.graph import GraphNode
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.rundir.directory import EXPORTS, RECIPE
from gristmill.pipelines.rundir.parts import part_files
from gristmill.pipelines.rundir.results import Run
from gristmill.pipelines.rundir.summary import printable
from gristmill.pipelines.running.loop import in_own_loop
from gristmill.pipelines.running.rows import read_sources
from gristmill.pipelines.running.runner import log_path
from gristmill.pipelines.running.sessions import Verifiers, entries, opened

_TURN = re.compile(r"(.+)#\d+")
"""An id in an export that makes several rows of a record: those of the record and a number."""


class Exchange(Struct, frozen=True):
    """A request that a stage sent for a record, and what was answered: sample by sample from ``first`` on."""

    stage: str
    record: str
    model: str
    request: Request
    first: int
    completions: tuple[Completion, ...]


class Passed(Struct, frozen=True):
    """What a source or stage made of the row's problem: the rows that it kept, and those it rejected."""

    stage: str
    rows: tuple[dict[str, Any], ...] = ()
    rejected: tuple[Rejection, ...] = ()


class Trace(Struct, frozen=True):
    """All that is behind the row ``id``. ``record`` is its id in the stages, ``problem`` that of its problem;
    ``exports`` are the files that hold it. ``notes`` say what could not be found."""

    id: str
    record: str
    problem: str
    passed: tuple[Passed, ...]
    exchanges: tuple[Exchange, ...]
    exports: tuple[str, ...]
    notes: tuple[str, ...] = ()


def trace(run: Run, row: str, *, log: Path | None = None) -> Trace:
    """What is behind a row of a run, kept or rejected, by its id in a stage, an export or on the Hub.

    All rows of its problem are told, since what was chosen was chosen among them. Raises ``RunError`` where
    no stage has such a row.
    """
    record, problem = _found(run, row)
    passed = [_passed(run, stage, problem) for stage in _stages(run)]
    notes: list[str] = []
    exchanges: list[Exchange] = []
    try:
        recipe = recipes.load(run.path / RECIPE)
        origin = _of_source(recipe, problem, notes)
        passed = [*origin.values(), *(p for p in passed if p.stage not in origin or p.rejected)]
        exchanges = _exchanges(run, recipe, problem, log, notes)
    except GristmillError as error:
        notes.append(f"The requests could not be found: {error}")
    return Trace(
        row,
        record,
        problem,
        tuple(p for p in passed if p.rows or p.rejected),
        tuple(exchanges),
        tuple(_exports(run, row)),
        tuple(notes),
    )


def _stages(run: Run) -> list[str]:
    return [folder.name[3:] for folder in run.folders]


def _found(run: Run, row: str) -> tuple[str, str]:
    """The row's id in the stages, and its problem's."""
    import polars as pl

    turn = _TURN.fullmatch(row)
    for wanted in (row, *([turn[1]] if turn else [])):
        for stage in reversed(_stages(run)):
            if part_files(run.folder(stage)):
                rows = run.rows(stage)
                names = rows.collect_schema().names()
                key = "problem_id" if "problem_id" in names else "id"
                held = rows.filter(pl.col("id") == wanted).select(key).head(1).collect()
                if held.height:
                    return wanted, str(held.item())
        for stage in _stages(run):
            held = run.rejected(stage).filter(pl.col("id") == wanted).select("id").head(1).collect()
            if held.height:
                return wanted, _problem_of(run, wanted)
        for stage in run.stages:
            rows = run.rows(stage)
            if "problem_id" in rows.collect_schema().names():
                held = rows.filter(pl.col("problem_id") == wanted).select("id").head(1).collect()
                if held.height:
                    return wanted, wanted
    raise RunError(
        f"{run.path} has no row with the id {row!r}, kept or rejected.",
        remedy="Give an id from the column 'id' of an export or stage ('gristmill show' lists "
        "some), and the run that the card names.",
    )


def _problem_of(run: Run, rejected: str) -> str:
    """The problem of a row that was rejected: that of a row of that id in an earlier stage, else its own."""
    import polars as pl

    for stage in run.stages:
        rows = run.rows(stage)
        names = rows.collect_schema().names()
        if "problem_id" in names:
            held = rows.filter(pl.col("id") == rejected).select("problem_id").head(1).collect()
            if held.height:
                return str(held.item())
    return rejected


def _passed(run: Run, stage: str, problem: str) -> Passed:
    import polars as pl

    rows: list[dict[str, Any]] = []
    if part_files(run.folder(stage)):
        frame = run.rows(stage)
        rows = frame.filter(_of_problem(frame.collect_schema().names(), problem)).collect().to_dicts()
    ids = [row["id"] for row in rows] + [problem]
    for other in run.stages:
        frame = run.rows(other)
        names = frame.collect_schema().names()
        ids += frame.filter(_of_problem(names, problem)).select("id").collect()["id"].to_list()
    dropped = run.rejected(stage).filter(pl.col("id").is_in(ids)).collect().to_dicts()
    rejected = [Rejection(d["id"], d["reason"], d["detail"] or "", d.get("row")) for d in dropped]
    return Passed(stage, tuple(rows), tuple(rejected))


def _of_problem(names: Sequence[str], problem: str) -> Any:
    import polars as pl

    own = pl.col("id") == problem
    return own | (pl.col("problem_id") == problem) if "problem_id" in names else own


def _of_source(recipe: Recipe, problem: str, notes: list[str]) -> dict[str, Passed]:
    """The rows of the sources that are the problem itself. They are read anew, since a run keeps no copy."""
    found = {}
    for node, record in _source_records(recipe, problem, notes):
        found[node.name] = Passed(node.name, (msgspec.to_builtins(record),))
    return found


def _source_records(recipe: Recipe, problem: str, notes: list[str]) -> Iterator[tuple[GraphNode, Any]]:
    for at, rows in read_sources(recipe).items():
        try:
            for record in rows:
                if not isinstance(record, Rejection) and record.id == problem:
                    yield recipe.graph.nodes[at], record
                    break
        except GristmillError as error:
            notes.append(f"The source cannot be read any more: {error}")


def _exchanges(run: Run, recipe: Recipe, problem: str, log: Path | None, notes: list[str]) -> list[Exchange]:
    path = log_path(log)
    if not path.exists():
        notes.append(f"There is no completion log at {path}: name it with --log FILE to see the requests.")
        return []
    engines = {name: opened(entry) for name, entry in entries(recipe)}
    with CompletionLog(path) as found, Verifiers(recipe) as verifiers:
        known = Known(recipe, engines, found, verifiers.main, verifiers.named)
        again = _Again(known, run, problem, notes)
        in_own_loop(again.run())
    return again.exchanges


class _Recorder(LogOnly):
    """Answers from the log, and keeps what it gave."""

    def __init__(self, engine: Engine, log: CompletionLog) -> None:
        super().__init__(engine, log)
        self.given: list[tuple[Request, int, list[Completion]]] = []

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        completions = await super().generate(request, first=first, n=n)
        self.given.append((request, first, completions))
        return completions


class _Again(LogWalk[None]):
    """The records of one problem through each row stage once more, over the log."""

    def __init__(self, known: Known, run: Run, problem: str, notes: list[str]) -> None:
        super().__init__(known, {})
        self.exchanges: list[Exchange] = []
        self._run, self._problem, self._notes = run, problem, notes

    def meter(self, engine: Engine) -> LogOnly:
        return _Recorder(engine, self.known.log)

    async def run(self) -> None:
        """Each row stage that asks a model, in order; its records are on disk, or come from the source."""
        sources = {node.name: record for node, record in self._source()}
        for at, node in enumerate(self.graph.nodes):
            if not node.asks:
                continue
            records = [record for i in node.inputs for record in self._records(self.graph.nodes[i], sources)]
            for record in records:
                _, meters, whole = await self.tried(at, record)
                self._keep(node, record, meters)
                if not whole:
                    self._notes.append(
                        f"{node.name}: the log does not have all that was asked for {record.id}."
                    )

    def _source(self) -> Iterator[tuple[GraphNode, Any]]:
        return _source_records(self.known.recipe, self._problem, [])

    def _records(self, node: GraphNode, sources: dict[str, Any]) -> list[Any]:
        if node.stage is None:
            return [sources[node.name]] if node.name in sources else []
        with contextlib.suppress(RunError):  # a stage that the run has stopped before
            frame = self._run.rows(node.name)
            held = frame.filter(_of_problem(frame.collect_schema().names(), self._problem))
            return list(from_frame(held.collect(), node.writes))
        return []

    def _keep(self, node: GraphNode, record: Any, meters: list[LogOnly]) -> None:
        for meter in meters:
            assert isinstance(meter, _Recorder)
            for request, first, completions in meter.given:
                self.exchanges.append(
                    Exchange(node.name, record.id, meter.model, request, first, tuple(completions))
                )


def _exports(run: Run, row: str) -> Iterator[str]:
    """The files in the run's exports that hold the row."""
    import polars as pl

    folder = run.path / EXPORTS
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        if path.suffix == ".parquet":
            frame = pl.scan_parquet(path)
            if "id" in frame.collect_schema() and frame.filter(pl.col("id") == row).head(1).collect().height:
                yield path.name
        elif path.suffix == ".jsonl":
            with path.open("rb") as file:
                if any(msgspec.json.decode(line, type=_Id).id == row for line in file):
                    yield path.name


class _Id(Struct):
    id: Any = None


def as_json(found: Trace) -> str:
    """The trace as JSON."""
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()


def text(found: Trace) -> str:
    """The trace for a terminal: what a model wrote is shown as it is, and can do a terminal no harm."""
    lines = [f"row {printable(found.id)}", f"problem {printable(found.problem)}"]
    if found.exports:
        lines.append(f"in {', '.join(found.exports)}")
    for passed in found.passed:
        lines += ["", f"== {passed.stage}"]
        for exchange in (e for e in found.exchanges if e.stage == passed.stage):
            lines += _told(exchange)
        for row in passed.rows:
            mark = ">> " if row.get("id") == found.record else "   "
            lines.append(f"{mark}kept {printable(str(row.get('id')))}{_verdict(row)}")
        for drop in passed.rejected:
            mark = ">> " if drop.id == found.record else "   "
            detail = f" ({printable(drop.detail)})" if drop.detail else ""
            lines.append(f"{mark}rejected {printable(str(drop.id))}: {printable(drop.reason)}{detail}")
        if not any(e.stage == passed.stage for e in found.exchanges) and len(passed.rows) == 1:
            lines += _fields(passed.rows[0])
    lines += ["", *found.notes] if found.notes else []
    return "\n".join(lines)


def _told(exchange: Exchange) -> Iterator[str]:
    yield f"   asked {printable(exchange.model)} for {printable(exchange.record)}:"
    for message in exchange.request.messages:
        yield from _indented(f"[{message.role}] {message.content}", 6)
        yield from _called(message.tool_calls, 6)
    if exchange.request.prefix:
        yield from _indented(f"[begun] {exchange.request.prefix}", 6)
    seed = exchange.request.seed
    for at, completion in enumerate(exchange.completions, exchange.first):
        drawn = "" if seed is None else f", seed {seed + at}"
        yield (
            f"      sample {at}{drawn}: {completion.finish_reason}, {completion.completion_tokens:,} tokens"
        )
        yield from _indented(completion.text, 9)
        yield from _called(completion.tool_calls, 9)


def _called(calls: Sequence[ToolCall], by: int) -> Iterator[str]:
    for call in calls:
        yield from _indented(f"calls {call.function.name}({call.function.arguments})", by)


def _indented(text: str, by: int) -> Iterator[str]:
    for line in text.splitlines():
        yield f"{' ' * by}{printable(line)}"


def _verdict(row: dict[str, Any]) -> str:
    verdict = row.get("verdict")
    if isinstance(verdict, dict):
        rule = f" ({verdict['rule']})" if verdict.get("rule") else ""
        return f": {verdict.get('outcome')}{rule}"
    return f": {verdict}" if verdict else ""


def _fields(row: dict[str, Any]) -> Iterator[str]:
    for name, value in row.items():
        if isinstance(value, str | int | float) and name not in ("id", "problem_id"):
            yield from _indented(f"{name}: {value}", 6)
