"""The pipeline at work, with an inline engine and real Parquet files."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import msgspec
import polars as pl
import pytest
from msgspec import Struct

from gristmill.core.engine import Ability, Completion, Message, Request, Sampling
from gristmill.core.errors import InputError, RowRejected, RunError, RunStopped, TransientError
from gristmill.core.records import Problem, Sampled
from gristmill.core.stages import REJECTED_REASON, Context, Estimate, Filter, Rejection, RowStage
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.pipelines.distributed.job import TaskResult
from gristmill.pipelines.recipe.graph import Graph, Placed
from gristmill.pipelines.rundir.directory import hold
from gristmill.pipelines.rundir.summary import StageCounts, Summary, table
from gristmill.pipelines.running.walk import Walk
from gristmill.pipelines.running.work import STAGE_ERROR, Tools, Work
from gristmill.synth.sampling import Sample


class Echo:
    """An engine that answers with the last message, after a wait that depends on it."""

    model = "echo"
    abilities = frozenset({Ability.CHAT, Ability.MANY, Ability.SEED})

    def __init__(self, concurrency: int = 8) -> None:
        self.concurrency = concurrency

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        text = request.messages[-1].content
        await asyncio.sleep(hashlib.blake2b(text.encode()).digest()[0] / 255 * 0.01)
        return [Completion(f"{text}#{first + i}", "stop", 3 if i == 0 else 0, 2) for i in range(n)]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


async def even_is_right(completion: str, reference: str) -> Verdict:
    right = int(reference) % 2 == 0
    return Verdict(Outcome.CORRECT if right else Outcome.INCORRECT, 1.0 if right else 0.0)


class Judge(RowStage, frozen=True):
    """A row stage behind another: rejects by raising, by a Rejection, or by a bug, as told."""

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Sampled
    needs: ClassVar[frozenset[Ability]] = frozenset()
    fail: Callable[[Sampled], Sequence[Struct]] | None = None

    async def __call__(self, record: Sampled, context: Context) -> Sequence[Struct]:
        return [record] if self.fail is None else self.fail(record)

    def estimate(self, record: Any) -> Estimate:
        return Estimate(0, 0, 0, 0)


class Measured(Judge, frozen=True):
    """A row stage that measures something of its records."""

    async def __call__(self, record: Sampled, context: Context) -> Sequence[Struct]:
        context.measure("index", record.index)
        return [record]


class OnlyRight(Filter, frozen=True):
    """A table stage."""

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Sampled

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        wrong = pl.col("verdict").struct.field("outcome") != "correct"
        return frame.with_columns(pl.when(wrong).then(pl.lit("wrong answer")).alias(REJECTED_REASON))


class Short(Filter, frozen=True):
    """A table stage on the source."""

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        long = pl.col("problem").str.len_chars() > 2
        return frame.with_columns(pl.when(long).then(pl.lit("long")).alias(REJECTED_REASON))


def problems(n: int) -> list[Problem | Rejection]:
    return [Problem(f"p{i}", f"{i}", f"{i}") for i in range(n)]


def execute(
    path: Path,
    nodes: Sequence[tuple[str, Any, str | None]],
    rows: Sequence[Problem | Rejection],
    *,
    workers: int = 8,
    part_rows: int = 40,
    engine: Echo | None = None,
) -> Work:
    placed = [Placed("test", name, stage, () if reads is None else (reads,)) for name, stage, reads in nodes]
    graph = Graph({"source": Problem}, placed)
    with hold(path) as rundir:
        work = Work(
            graph,
            rundir,
            Tools(engine or Echo(), {}, even_is_right),
            seed=1,
            part_rows=part_rows,
            kept=frozenset(i for i in graph.sources if graph.tables_behind(i)),
        )
        work.sources = {0: iter(rows)}
        asyncio.run(Walk(graph, work, workers=workers).run())
    return work


def ids(folder: Path) -> list[str]:
    return pl.concat([pl.read_parquet(p) for p in sorted(folder.glob("part-*"))])["id"].to_list()


def rejected(folder: Path) -> list[tuple[Any, ...]]:
    return pl.read_parquet(folder / "rejected.parquet").rows()


def contents(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*.parquet"))}


SAMPLE = ("sample", Sample(samples=2), None)


def test_what_a_stage_measures_is_in_the_summary_as_a_mean(tmp_path: Path) -> None:
    work = execute(tmp_path, [SAMPLE, ("measured", Measured(), None)], problems(10))
    assert (work.counts[2].measured, work.counts[2].totals) == ({"index": 20}, {"index": 10})
    result = TaskResult([StageCounts("measured", measured={"index": 20}, totals={"index": 30})])
    result.add(TaskResult([work.counts[2]]))
    shown = table(Summary("name", 0, "model", result.counts))
    assert "measured:\n       1.0  measured: index (mean of 40)\n" in shown


def test_rows_keep_the_order_of_the_input_and_are_cut_into_parts(tmp_path: Path) -> None:
    work = execute(tmp_path, [SAMPLE], problems(50))
    assert ids(tmp_path / "01-sample") == [f"p{i}/{k}" for i in range(50) for k in range(2)]
    heights = [pl.read_parquet(p).height for p in sorted((tmp_path / "01-sample").glob("part-*"))]
    assert heights == [40, 40, 20]
    assert rejected(tmp_path / "01-sample") == []
    [source, sample] = work.counts
    assert (source.rows_in, source.rows_out) == (50, 50)
    assert (sample.rows_in, sample.rows_out, sample.completions) == (50, 100, 100)
    assert (sample.tokens_in, sample.tokens_out) == (150, 200)
    assert sample.verdicts == {"correct": 50, "incorrect": 50}


def test_bad_rows_of_the_source_are_rejected_with_their_row(tmp_path: Path) -> None:
    rows = problems(3)
    rows.insert(1, Rejection("row 2", "no problem column", "a.jsonl, row 2: this row has no column", 2))
    work = execute(tmp_path, [SAMPLE], rows)
    assert rejected(tmp_path / "00-source") == [
        ("row 2", "no problem column", "a.jsonl, row 2: this row has no column", 2)
    ]
    assert ids(tmp_path / "01-sample") == [f"p{i}/{k}" for i in range(3) for k in range(2)]
    assert work.counts[0].rejected == {"no problem column": 1}


def test_table_stages_stand_between_row_stages(tmp_path: Path) -> None:
    nodes = [("short", Short(), None), SAMPLE, ("right", OnlyRight(), None), ("judge", Judge(), None)]
    work = execute(tmp_path, nodes, problems(110))
    assert ids(tmp_path / "00-source") == [f"p{i}" for i in range(110)]
    assert ids(tmp_path / "01-short") == [f"p{i}" for i in range(100)]
    assert rejected(tmp_path / "01-short") == [(f"p{i}", "long", "", None) for i in range(100, 110)]
    assert len(ids(tmp_path / "02-sample")) == 200
    right = [f"p{i}/{k}" for i in range(0, 100, 2) for k in range(2)]
    assert ids(tmp_path / "03-right") == ids(tmp_path / "04-judge") == right
    assert [(c.name, c.rows_in, c.rows_out, sum(c.rejected.values())) for c in work.counts] == [
        ("source", 110, 110, 0),
        ("short", 110, 100, 10),
        ("sample", 100, 200, 0),
        ("right", 200, 100, 100),
        ("judge", 100, 100, 0),
    ]


def test_stages_may_branch(tmp_path: Path) -> None:
    nodes = [SAMPLE, ("left", Judge(), None), ("again", Judge(), "sample"), ("more", Sample(), "source")]
    execute(tmp_path, nodes, problems(20))
    assert ids(tmp_path / "02-left") == ids(tmp_path / "03-again") == ids(tmp_path / "01-sample")
    assert ids(tmp_path / "04-more") == [f"p{i}/0" for i in range(20)]


def test_each_way_of_rejecting_keeps_the_reason_and_the_rest(tmp_path: Path) -> None:
    def fail(sample: Sampled) -> Sequence[Struct]:
        number = int(sample.problem)
        if number == 3:
            raise RowRejected("too odd", f"{number} is odd")
        if number == 4:
            return [Rejection(sample.id, "half", "one of two"), sample]
        if number == 5:
            raise TransientError("the server said 503 six times")
        if number == 6:
            raise ZeroDivisionError("by nought")
        return [sample]

    nodes = [("sample", Sample(), None), ("judge", Judge(fail), None)]
    work = execute(tmp_path, nodes, problems(10))
    assert ids(tmp_path / "02-judge") == [f"p{i}/0" for i in (0, 1, 2, 4, 7, 8, 9)]
    assert rejected(tmp_path / "02-judge") == [
        ("p3/0", "too odd", "3 is odd", None),
        ("p4/0", "half", "one of two", None),
        ("p5/0", "engine error", "the server said 503 six times", None),
        ("p6/0", STAGE_ERROR, "ZeroDivisionError: by nought", None),
    ]
    assert work.counts[2].rejected["too odd"] == 1
    log = (tmp_path / "log.txt").read_text()
    assert "stage 'judge' failed on record 'p6/0'" in log
    assert 'raise ZeroDivisionError("by nought")' in log


@pytest.mark.parametrize("rows", [3, 1000])
def test_a_stage_that_fails_on_most_of_its_first_rows_stops_the_run(tmp_path: Path, rows: int) -> None:
    def fail(sample: Sampled) -> Sequence[Struct]:
        raise ZeroDivisionError("by nought")

    with pytest.raises(RunStopped, match=r"'judge' failed on \d+ of its first \d+ rows.*by nought") as caught:
        execute(tmp_path, [("sample", Sample(), None), ("judge", Judge(fail), None)], problems(rows))
    assert "log.txt" in caught.value.remedy
    assert not (tmp_path / "02-judge").exists()


def test_a_table_stage_that_fails_stops_the_run_and_keeps_what_is_before_it(tmp_path: Path) -> None:
    class Broken(OnlyRight, frozen=True):
        def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
            if not frame.collect().is_empty():
                raise ValueError("only empty tables")
            return super().__call__(frame, seed)

    with pytest.raises(RunStopped, match=r"'broken' failed: ValueError: only empty tables"):
        execute(tmp_path, [SAMPLE, ("broken", Broken(), None)], problems(4))
    assert len(ids(tmp_path / "01-sample")) == 8


@pytest.mark.parametrize("error", [RunStopped("the server is gone"), InputError("torn", path="a", row=9)])
def test_errors_that_are_not_of_one_row_end_the_run(tmp_path: Path, error: Exception) -> None:
    def fail(sample: Sampled) -> Sequence[Struct]:
        raise error

    with pytest.raises(type(error)) as caught:
        execute(tmp_path, [SAMPLE, ("judge", Judge(fail), None)], problems(4))
    assert caught.value is error


def test_the_bytes_are_the_same_at_concurrency_1_and_64(tmp_path: Path) -> None:
    def fail(sample: Sampled) -> Sequence[Struct]:
        if int(sample.problem) % 5 == 0:
            raise RowRejected("five", "x" * int(sample.problem))
        return [sample]

    nodes = [SAMPLE, ("judge", Judge(fail), None), ("right", OnlyRight(), None)]
    rows = problems(150)
    rows.insert(7, Rejection("row 8", "bad", "", 8))
    for workers in (1, 64):
        execute(tmp_path / str(workers), nodes, rows, workers=workers, engine=Echo(workers), part_rows=20)
    one, many = contents(tmp_path / "1"), contents(tmp_path / "64")
    assert list(one) == list(many)
    assert len(one) > 20
    assert one == many
    # 60 of 300 are rejected, so three spills were merged into one file.
    assert len(rejected(tmp_path / "1" / "02-judge")) == 60


def test_long_rows_close_a_part_early(tmp_path: Path) -> None:
    rows: list[Problem | Rejection] = [Problem(f"p{i}", "x" * (3 << 20)) for i in range(12)]
    execute(tmp_path, [("sample", Sample(prompt="{problem}"), None)], rows, part_rows=1000)
    # A sample holds its problem thrice: 9 MiB.
    assert len(list((tmp_path / "01-sample").glob("part-*"))) == 3


def test_an_empty_source_leaves_empty_tables_with_their_columns(tmp_path: Path) -> None:
    execute(tmp_path, [SAMPLE, ("right", OnlyRight(), None), ("judge", Judge(), None)], [])
    for name in ("01-sample", "02-right", "03-judge"):
        frame = pl.read_parquet(tmp_path / name / "part-00000.parquet")
        assert frame.columns == list(Sampled.__struct_fields__)


def test_a_full_disk_ends_the_run_and_former_outputs_stay(tmp_path: Path) -> None:
    import resource

    nodes = [("sample", Sample(), None)]
    execute(tmp_path, nodes, problems(5))
    before = contents(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        with pytest.raises(RunError, match="cannot write"):
            execute(tmp_path, nodes, problems(5000), part_rows=2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {k: v for k, v in contents(tmp_path).items() if not k.startswith(".")} == before


def test_messages_reach_the_parts(tmp_path: Path) -> None:
    stage = Sample(system="be brief", prompt="Q: {problem}", sampling=Sampling(max_tokens=5))
    execute(tmp_path, [("sample", stage, None)], [Problem("a", "{x} 1+1", "2")])
    row = pl.read_parquet(tmp_path / "01-sample" / "part-00000.parquet").row(0, named=True)
    assert msgspec.convert(row["messages"], list[Message]) == [
        Message("system", "be brief"),
        Message("user", "Q: {x} 1+1"),
    ]
    assert row["verdict"]["outcome"] == "correct"
