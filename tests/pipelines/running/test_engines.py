"""Further engines by name: in recipes, in plans and in runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from msgspec import Struct
from recipe_schema import validator

from gristmill.core import registry
from gristmill.core.engine import Ability, Completion, Message, Request, Sampling
from gristmill.core.errors import RecipeError, RunError
from gristmill.core.records import Problem, Sampled
from gristmill.core.stages import Context, Estimate, RowStage
from gristmill.engines.log.store import CompletionLog
from gristmill.engines.scripted import ScriptedEngine
from gristmill.pipelines import plan, run
from gristmill.pipelines.recipe.recipe import from_dict
from gristmill.pipelines.running.gate import Gate, Stopper
from gristmill.pipelines.running.sessions import Engines

MAIN = {"kind": "scripted", "replies": [{"texts": ["one", "two", "three"]}]}
JUDGE = {"kind": "scripted", "model": "strict", "replies": [{"texts": ["Fine. [[correct]]"]}]}
ENTRY = EntryPoint("asks", "engine_stages:Asks", "gristmill.stages")
TEXT = {"kind": "judge", "asking": {"read": "text"}}
STAGES = [
    {"stage": "sample", "samples": 2, "verify": False},
    {"stage": "judge", "engine": "referee", "verifier": TEXT},
]


def data(**changes: Any) -> dict[str, Any]:
    base = {"name": "test", "source": {"path": "problems.jsonl"}, "engine": MAIN, "stages": STAGES}
    return {**base, "engines": {"referee": JUDGE}, **changes}


class Asks(RowStage, frozen=True, forbid_unknown_fields=True):
    """A stage that asks an engine by name."""

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Sampled
    needs: ClassVar[frozenset[Ability]] = frozenset()
    whom: str = "referee"
    ability: Ability = Ability.CHAT

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        return {self.whom: frozenset({self.ability})}

    async def __call__(self, record: Problem, context: Context) -> Sequence[Struct]:
        message = Message("user", record.problem)
        await context.named(self.whom).generate(Request((message,), Sampling(), 1))
        return []

    def estimate(self, record: Any) -> Estimate:
        return Estimate(1, 1, 10, 20)


@pytest.fixture
def place(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(workspace.path)
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)
    workspace.write_problems(5, answer="two")
    monkeypatch.setitem(sys.modules, "engine_stages", SimpleNamespace(Asks=Asks))
    monkeypatch.setitem(registry._entries("stages"), "asks", ENTRY)
    return workspace


def test_engines_have_their_names_and_show_every_default() -> None:
    recipe = from_dict(data())
    assert [(e.name, e.kind, e.options.model) for e in recipe.engines] == [("referee", "scripted", "strict")]
    shown = recipe.to_dict()
    assert shown["engines"]["referee"]["tries"] == 6
    assert [s.get("engine") for s in shown["stages"]] == [None, "referee"]
    assert from_dict(shown).to_dict() == shown
    plain = from_dict(data(engines={}, stages=STAGES[:1])).to_dict()
    assert "engines" not in plain


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"engines": {"referees": JUDGE}},
            r"stage 'judge' wants the engine 'referee'.*Did you mean 'refe",
        ),
        ({"engines": {}}, r"wants the engine 'referee'.*[Aa]dd it: engines: \{referee: \{kind"),
        ({"engines": {"referee": {**JUDGE, "mode": 1}}}, r"engines\.referee\.mode: unknown key.*'model'"),
        ({"engines": {"referee": {"model": "x"}}}, r"engines\.referee: the key 'kind' is missing"),
        ({"engines": {"a.b": JUDGE}}, r"engines"),
        ({"stages": [{"stage": "balance", "engine": "referee"}]}, r"reads Trajectory"),
    ],
)
def test_what_is_wrong_with_engines_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        from_dict(data(**changes))


def test_a_table_stage_has_no_engine() -> None:
    stages = ["explore_self_correction", "self_correction_trajectories", "balance"]
    entries: list[dict[str, Any]] = [{"stage": s} for s in stages]
    entries[2]["engine"] = "referee"
    with pytest.raises(RecipeError, match=r"stage 3 \(balance\) asks no model"):
        from_dict(data(stages=entries))


def test_the_schema_takes_engines_and_refuses_wrong_ones() -> None:
    validator().validate(data())
    assert not validator().is_valid(data(engines={"referee": {**JUDGE, "mode": 1}}))
    assert not validator().is_valid(data(engines={"a.b": JUDGE}))


def test_a_stage_asks_its_own_engine_and_all_is_counted(place: Any) -> None:
    done = run(from_dict(data()), quiet=True)
    rows = done.rows("judge").collect()
    assert rows["verdict"].struct.field("outcome").to_list() == ["correct"] * 10
    summary = done.summary
    assert (summary.model, summary.models) == ("scripted", {"referee": "strict"})
    assert summary.stages[2].verdicts == {"correct": 10}
    assert summary.stages[1].completions == 10
    judged = summary.stages[2].completions
    different = {(r["problem_id"], r["completion"]) for r in rows.to_dicts()}
    assert judged == 10  # equal answers to one problem are asked about once, and used twice
    assert summary.spent.requests == 5 + len(different)
    assert summary.spent.tokens_out == 10 + 2 * len(different)
    again = run(from_dict(data()), quiet=True).summary.spent
    assert (again.requests, again.from_log) == (0, 20)


def test_pacing_of_a_named_engine_is_no_other_recipe_and_its_model_is(place: Any) -> None:
    run(from_dict(data()), quiet=True)
    paced = data(engines={"referee": {**JUDGE, "concurrency": 2, "tries": 9}})
    assert run(from_dict(paced), quiet=True).summary.spent.requests == 0
    with pytest.raises(RunError, match=r"changed: engines\.referee\.model\."):
        run(from_dict(data(engines={"referee": {**JUDGE, "model": "other"}})), quiet=True)
    # One more engine, which no finished stage has asked, changes no row.
    run(from_dict(data(engines={"referee": JUDGE, "second": JUDGE})), quiet=True)


def test_the_plan_looks_into_the_log_under_each_engines_model(place: Any) -> None:
    recipe = from_dict(data(stages=[{"stage": "asks", "from": "source"}]))
    asked = plan(recipe).stages[0]
    assert (asked.completions_min, asked.completions_max, asked.in_log) == (5, 5, 0)
    run(recipe, quiet=True)
    assert (plan(recipe).stages[0].done, plan(recipe).stages[0].in_log) == (5, 5)
    other = from_dict(data(stages=[{"stage": "asks"}], engines={"referee": {**JUDGE, "model": "other"}}))
    assert plan(other).stages[0].done == 0
    judged = plan(from_dict(data()))
    assert judged.stages[1].open_rows == 5


@pytest.mark.parametrize("start", [plan, run])
def test_abilities_that_a_named_engine_lacks_are_an_error_at_the_start(place: Any, start: Any) -> None:
    named = data(stages=[{"stage": "asks", "ability": Ability.SCORE.value}])
    with pytest.raises(
        RecipeError, match=r"'asks' needs an engine that can score .*'referee' \(of kind 'scr"
    ):
        start(from_dict(named))
    weighed = {"kind": "judge", "asking": {"read": "probabilities"}}
    own = data(name="other", stages=[STAGES[0], {**STAGES[1], "verifier": weighed}])
    with pytest.raises(RecipeError, match="'judge' needs an engine that can token log-probabilities"):
        start(from_dict(own))
    with pytest.raises(RecipeError, match="'asks' wants the engine 'prover'"):
        from_dict(data(stages=[{"stage": "asks", "whom": "prover"}]))


def test_equal_engines_are_opened_once_and_others_apart(tmp_path: Path) -> None:
    described = data(
        engines={"referee": JUDGE, "same": MAIN, "second": JUDGE, "other": {**JUDGE, "tries": 2}}
    )
    with CompletionLog(tmp_path / "log.sqlite") as log:
        engines = Engines(from_dict(described), log)
    assert len(engines.gates) == 3
    assert engines.named["same"] is engines.main
    assert engines.named["second"] is engines.named["referee"] is not engines.named["other"]
    assert engines.concurrency == 3 * 64


def test_engines_that_were_opened_are_closed_when_a_later_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    async def enter(self: ScriptedEngine) -> ScriptedEngine:
        if self.model == "strict":
            raise RecipeError("no such model.")
        return self

    async def leave(self: ScriptedEngine, *error: object) -> None:
        closed.append(self.model)

    monkeypatch.setattr(ScriptedEngine, "__aenter__", enter)
    monkeypatch.setattr(ScriptedEngine, "__aexit__", leave)

    async def start() -> None:
        with CompletionLog(tmp_path / "log.sqlite") as log:
            async with Engines(from_dict(data()), log):
                pytest.fail("it was opened")

    with pytest.raises(RecipeError, match="no such model"):
        asyncio.run(start())
    assert closed == ["scripted"]


def test_a_stop_waits_for_what_is_in_flight_at_every_engine() -> None:
    async def stop() -> tuple[list[str], list[str]]:
        free = asyncio.Event()
        landed: list[str] = []

        class Slow(ScriptedEngine):
            async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
                await free.wait()
                landed.append(self.model)
                return [Completion("x")]

        gates = [Gate(Slow(lambda r, i: "x", model=m)) for m in ("a", "b")]
        request = Request((Message("user", "?"),), Sampling())
        said: list[str] = []

        async def work() -> None:
            stopper = Stopper(gates, said.append, None)
            calls = [asyncio.create_task(g.generate(request)) for g in gates]
            await asyncio.sleep(0)
            stopper.interrupt()
            await asyncio.sleep(0)
            free.set()
            await asyncio.gather(*calls)
            await asyncio.Event().wait()

        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(work())
        assert all(g.closed for g in gates)
        return landed, said

    landed, said = asyncio.run(stop())
    assert sorted(landed) == ["a", "b"]
    assert "2 requests in flight" in said[0]
