"""Stages and helpers for the tests of distributed runs: a plug-in that the processes of tasks find too."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct
from paths import TESTS

from gristmill.core import registry
from gristmill.core.engine import Ability, Message, Request, Sampling
from gristmill.core.errors import RowRejected, RunStopped
from gristmill.core.exports import Export
from gristmill.core.records import Problem, Sampled
from gristmill.core.stages import REJECTED_REASON, Context, Estimate, Filter, Rejection, RowStage
from gristmill.pipelines.distributed.executors import Planned
from gristmill.pipelines.distributed.job import read_job
from gristmill.pipelines.distributed.submit import distribute
from gristmill.pipelines.distributed.work import work
from gristmill.pipelines.exports.base import MessagesRow
from gristmill.pipelines.rundir.results import Run

if TYPE_CHECKING:
    import polars as pl
    import pytest

ENTRIES = {
    "gristmill.stages": {"short": "Short", "noisy": "Noisy", "unique": "Unique", "again": "Again"},
    "gristmill.exports": {"half": "Half"},
}
ENGINE = {"kind": "scripted", "replies": [{"texts": [f"It is \\boxed{{{i}}}." for i in range(4)]}]}
STAGES: list[dict[str, Any]] = [
    {"stage": "sample", "as": "direct", "verify": False},
    {"stage": "short", "from": "source"},
    {"stage": "sample", "as": "draw", "samples": 2, "verify": False},
    {"stage": "noisy"},
    {"stage": "unique"},
    {"stage": "again"},
]
"""Rows behind the source, behind a table stage on it, and behind a table stage on rows."""
PHASES = ["00-prepare", "01-direct", "02-merge", "03-draw", "04-merge", "05-again", "06-finish"]


class Short(Filter, frozen=True):
    """A table stage on the source."""

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        import polars as pl

        ends = pl.col("id").str.ends_with("7")
        return frame.with_columns(pl.when(ends).then(pl.lit("ends with 7")).alias(REJECTED_REASON))


class Noisy(RowStage, frozen=True):
    """A row stage that keeps, doubles, drops and fails, as the record's id says. ``all_fail``: a bug."""

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Sampled
    needs: ClassVar[frozenset[Ability]] = frozenset()
    all_fail: bool = False

    async def __call__(self, record: Sampled, context: Context) -> Sequence[Struct]:
        number = int(record.problem_id[1:])
        if number % 13 == 5 or self.all_fail:
            raise ValueError(f"a bug for {number}")
        if number % 11 == 3:
            raise RowRejected("refused", "x" * (number % 40))
        if number % 5 == 1:
            return [Rejection(f"{record.id}/{k}", f"drop {k}", "because") for k in range(3)]
        return [record, record] if number % 5 == 2 else [record]

    def estimate(self, record: Any) -> Estimate:
        return Estimate(0, 0, 0, 0)


class Unique(Filter, frozen=True):
    """A table stage on rows: it must see all of them."""

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Sampled

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        import polars as pl

        again = ~pl.col("id").is_first_distinct()
        return frame.with_columns(pl.when(again).then(pl.lit("seen before")).alias(REJECTED_REASON))


class Again(RowStage, frozen=True):
    """A row stage behind a table stage that asks the engine."""

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Sampled
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.CHAT})

    async def __call__(self, record: Sampled, context: Context) -> Sequence[Struct]:
        messages = (Message("user", f"again: {record.completion}"),)
        seed = context.seed_for(record.id, 0)
        [answer] = await context.engine.generate(Request(messages, Sampling(), seed=seed))
        return [
            Sampled(
                record.id, record.problem_id, 0, record.problem, None, messages, answer.text, "stop", 1, 2
            )
        ]

    def estimate(self, record: Any) -> Estimate:
        return Estimate(1, 1, 1, 1)


class Half(Export, frozen=True):
    """An export of every other sample."""

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = MessagesRow

    def rows(self, record: Sampled, /) -> Sequence[MessagesRow]:
        if int(record.problem_id[1:]) % 2:
            raise RowRejected("odd")
        return [MessagesRow(record.id, record.messages)]


class Here(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An executor in this process. ``stop_at`` ends it before a phase's task as a kill would, once."""

    stop_at: str = ""

    def run(
        self, name: str, chain: Sequence[Planned], workers: int | None, say: Callable[[str], None]
    ) -> bool:
        for phase in chain:
            job = read_job(Path(phase.step.job))
            assert job is not None
            for rank in range(phase.tasks):
                if self.stop_at == f"{phase.step.label}/{rank}":
                    raise RunStopped("stopped for the test")
                work(job, phase.step.number, rank)
        return True

    def verifier_workers(self, workers: int | None, tasks: int) -> int | None:
        return 1


def in_tasks(recipe: Path, tasks: int, **keys: Any) -> Run:
    done = distribute(recipe, executor="local", tasks=tasks, quiet=True, **keys)
    assert done is not None
    return done


def register_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the plug-in known to this process."""
    for group, entries in ENTRIES.items():
        known = registry._entries(group.removeprefix("gristmill."))  # type: ignore[arg-type]
        for name, thing in entries.items():
            value = f"{__name__}:{thing}"
            monkeypatch.setitem(known, name, registry.EntryPoint(name, value, group))


def install(folder: Path) -> dict[str, str]:
    """Make the plug-in known to processes with the environment that is returned."""
    info = folder / "gristmill_test_parts-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gristmill-test-parts\nVersion: 1.0\n")
    lines = [
        line
        for group, entries in ENTRIES.items()
        for line in (f"[{group}]", *(f"{n} = {Path(__file__).stem}:{t}" for n, t in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(TESTS)])}


def outputs(path: Path) -> dict[str, bytes]:
    """All that a run made, but for what tells one run from another."""
    found = {
        str(p.relative_to(path)): p.read_bytes()
        for p in sorted(path.rglob("*"))
        if p.is_file()
        and ".shards" not in p.parts
        and p.name not in ("log.txt", ".lock", ".fresh", "recipe.yaml")
    }
    summary = json.loads(found["summary.json"])
    del summary["spent"], summary["total"], summary["timing"]
    return found | {"summary.json": json.dumps(summary).encode()}
