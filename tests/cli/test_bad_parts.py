"""Each bad part of a plug-in, met by ``gristmill run``: one line with the part, the member and the remedy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, ClassVar

import polars as pl
import pytest
from msgspec import Struct

from gristmill.core import registry
from gristmill.core.engine import Ability, Message, Request, Sampling
from gristmill.core.exports import Export
from gristmill.core.records import Problem, Sampled
from gristmill.core.stages import REJECTED_REASON, Context, Filter, Relation, RowStage
from gristmill.engines.options import EngineOptions
from gristmill.engines.scripted import ScriptedEngine
from gristmill.pipelines import open_run
from gristmill.testing import sampled


class Asks(RowStage):
    """A good stage: asks the engine, which counts."""

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem
    needs: ClassVar[Any] = frozenset({Ability.CHAT})

    async def __call__(self, record: Problem, context: Context) -> Sequence[Any]:
        await context.engine.generate(Request((Message("user", record.problem),), Sampling(), 1))
        return [record]


class NoWrites(RowStage):
    reads: ClassVar[type[Struct]] = Problem

    async def __call__(self, record: Problem, context: Context) -> Sequence[Any]:
        return [record]


class NoCall(RowStage):
    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem


class NoBase(Struct):
    pass


class PlainDef(Asks):
    def __call__(self, record: Problem, context: Context) -> Sequence[Any]:  # type: ignore[override]
        return [record]


class Yields(Asks):
    async def __call__(self, record: Problem, context: Context) -> AsyncIterator[Any]:  # type: ignore[override]
        yield record


class WrongNeeds(Asks):
    needs: ClassVar[Any] = "chat"


class Reserved(Asks):
    engine: str = ""


class Unmarked(Filter):
    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        return frame


class Fails(Filter):
    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        frame.collect().row(0)
        return frame.with_columns(pl.lit(None, pl.String).alias(REJECTED_REASON))


class FailsToo(Relation):
    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        return frames[1]


class NoId(Relation):
    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        return frames[0].select("problem")


class NoRows(Export):
    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem


class Suffix(Export):
    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem
    suffix: ClassVar[str] = ".txt"

    def rows(self, record: Problem, /) -> Sequence[Problem]:
        return [record]


class NotEntered(EngineOptions):
    def open(self) -> Any:
        class Engine:
            model = "half"
            abilities = frozenset({Ability.CHAT})
            concurrency = 1
            generate = ScriptedEngine.generate

        return Engine()


class NoOpen(EngineOptions):
    pass


class Judge:
    """A verifier that is no Struct."""

    def __call__(self, completion: str, reference: str) -> bool:
        return True


async def late(completion: str, reference: str) -> None:
    """A verifier that is a coroutine."""


class OtherType(Asks):
    writes: ClassVar[type[Struct]] = Sampled

    async def __call__(self, record: Problem, context: Context) -> Sequence[Any]:
        return [record]


class SometimesNone(Asks):
    """Returns what it may not for two records of eight, and one record twice for a third."""

    async def __call__(self, record: Problem, context: Context) -> Any:
        if record.id == "p1":
            return None
        if record.id == "p2":
            return [sampled()]
        return [record, record] if record.id == "p3" else [record]


BAD: list[tuple[str, Any, str, str]] = [
    ("stages", NoWrites, "'writes'", "Add 'writes: ClassVar"),
    ("stages", NoCall, "'__call__'", "gristmill new plugin"),
    ("stages", NoBase, "RowStage, Filter and Relation", "class NAME(RowStage)"),
    ("stages", PlainDef, "'__call__'", "async def __call__"),
    ("stages", Yields, "'__call__'", "Collect them in a list"),
    ("stages", WrongNeeds, "'needs'", "frozenset"),
    ("stages", Reserved, "'engine'", "Rename the field"),
    ("stages", Unmarked, "'rejected_reason'", "Add it"),
    ("stages", Fails, "'__call__'", "empty table"),
    ("stages", FailsToo, "'__call__'", "empty table"),
    ("stages", NoId, "'id'", "text 'id'"),
    ("stages", OtherType, "'writes' says Sampled", "change 'writes'"),
    ("exports", NoRows, "'rows'", "gristmill new plugin"),
    ("exports", Suffix, "'suffix'", ".jsonl"),
    ("engines", NotEntered, "__aenter__", "Add it"),
    ("engines", NoOpen, "'open'", "gristmill new plugin"),
    ("verifiers", Judge, "msgspec.Struct", "class NAME(Struct"),
    ("verifiers", late, "'__call__'", "plain 'def'"),
]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """The requests that reach an engine."""
    found: list[Request] = []
    generate = ScriptedEngine.generate

    async def noted(self: ScriptedEngine, request: Request, *, first: int = 0, n: int = 1) -> Any:
        found.append(request)
        return await generate(self, request, first=first, n=n)

    monkeypatch.setattr(ScriptedEngine, "generate", noted)
    return found


def recipe(place: Any, group: str, thing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe whose good stage stands before the part, which is registered as ``part``."""
    parts = {("stages", "asks"): Asks, (group, "part"): thing}
    for (kind, name), part in parts.items():
        value = f"{__name__}:{part.__qualname__}"
        monkeypatch.setitem(
            registry._entries(kind), name, registry.EntryPoint(name, value, f"gristmill.{kind}")
        )
    place.write_problems(8)
    scripted = {"kind": "scripted", "replies": [{"texts": ["yes"]}]}
    stages = [{"stage": "asks"}, *([{"stage": "part"}] if group == "stages" else [])]
    place.write_recipe(
        {"kind": "part"} if group == "engines" else scripted,
        stages=stages,
        exports=[{"format": "part"}] if group == "exports" else [],
        verifier={"kind": "part" if group == "verifiers" else "math"},
    )


@pytest.mark.parametrize(("group", "part", "member", "remedy"), BAD, ids=lambda v: getattr(v, "__name__", ""))
def test_a_bad_part_is_one_line_and_nothing_is_asked(
    group: str,
    part: Any,
    member: str,
    remedy: str,
    workspace: Any,
    asked: list[Request],
    status: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(workspace.path)
    recipe(workspace, group, part, monkeypatch)
    assert status("run", "test.yaml", "--quiet") == (5 if part is OtherType else 2)
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    assert "part" in error and member in error and remedy in error, error
    assert "Traceback" not in error
    if part is not OtherType:  # what a stage returns is only seen once it is called
        assert asked == []
        assert part.__qualname__ in error


def test_a_row_that_a_stage_breaks_its_contract_for_is_rejected_with_its_name(
    workspace: Any, asked: list[Request], status: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.path)
    recipe(workspace, "stages", SometimesNone, monkeypatch)
    assert status("run", "test.yaml", "--quiet") == 3
    done = open_run(workspace.path / "runs" / "test")
    assert done.rows("part").collect()["id"].to_list() == ["p0", "p3", "p4", "p5", "p6", "p7"]
    rejected = {
        (row["id"], row["reason"]): row["detail"] for row in done.rejected("part").collect().to_dicts()
    }
    assert set(rejected) == {("p1", "stage error"), ("p2", "stage error"), ("p3", "repeated id")}
    assert "stage 'part'" in rejected["p1", "stage error"] and "None" in rejected["p1", "stage error"]
    assert "'writes' says Problem" in rejected["p2", "stage error"]
    assert len(asked) == 8
