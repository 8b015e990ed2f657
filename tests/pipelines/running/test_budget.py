"""What a run costs, and the budget that ends it before it costs more."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gristmill.core.engine import Completion, Message, Request, Sampling
from gristmill.core.errors import RecipeError, RunError, RunStopped
from gristmill.core.money import Budget, Price, shown_usd
from gristmill.engines.scripted import ScriptedEngine
from gristmill.pipelines import open_run, run
from gristmill.pipelines.distributed.submit import distribute
from gristmill.pipelines.recipe.recipe import from_dict, load
from gristmill.pipelines.running.gate import Gate
from gristmill.pipelines.running.purse import SPENT, Purse, Spending

PRICE = {"input": 1.0, "output": 10.0}
COUNTED = {"text": "\\boxed{1}", "prompt_tokens": 100, "completion_tokens": 40}
ENGINE = {
    "kind": "scripted",
    "model": "m",
    "concurrency": 4,
    "latency": 0.001,
    "replies": [{"texts": [COUNTED]}],
}
STAGE = {"stage": "sample", "verify": False, "sampling": {"max_tokens": 90}}
PAID = 100 * 1.0 / 1e6 + 40 * 10 / 1e6
"""Of one completion, in dollars."""
REQUEST = Request((Message("user", "x" * 300),), Sampling(max_tokens=100))


@pytest.fixture
def place(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(workspace.path)
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)
    workspace.write_problems(40)
    return workspace


def recipe(place: Any, **keys: Any) -> Path:
    written: Path = place.write_recipe(ENGINE, stages=[STAGE], **{"prices": {"m": PRICE}, **keys})
    return written


def test_the_summary_says_what_was_paid_and_a_rerun_over_the_log_is_free(place: Any) -> None:
    written = recipe(place)
    assert run(written, quiet=True).summary.spent.usd == pytest.approx(40 * PAID)
    assert run(written, quiet=True).summary.spent.usd == 0
    assert run(recipe(place, prices={}), quiet=True).summary.spent.usd is None


def test_a_budget_in_dollars_stops_within_it_and_a_larger_one_continues(
    place: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = 20.5 * PAID
    with pytest.raises(RunStopped, match=r"the budget of \$0\.01 is used up: \$0\.0\d+ are spent") as stopped:
        run(recipe(place, budget={"usd": limit}))
    assert "--set budget.usd=LIMIT" in stopped.value.remedy
    ledger = json.loads((place.path / "runs/test" / SPENT).read_text())
    assert limit - 2 * PAID - 90 * 10 / 1e6 < ledger["usd"] <= limit
    assert ledger["in_flight"] == 0
    assert f"{shown_usd(ledger['usd'])}, " in capsys.readouterr().out
    # The same budget is not a second one; a larger one ends as if there had been none.
    with pytest.raises(RunStopped):
        run(recipe(place, budget={"usd": limit}), quiet=True)
    ledger = json.loads((place.path / "runs/test" / SPENT).read_text())
    assert ledger["usd"] <= limit
    done = run(recipe(place, budget={"usd": 1}), quiet=True)
    assert done.summary.spent.usd == pytest.approx(40 * PAID - ledger["usd"])
    assert done.summary.stages[-1].rows_out == 40


def test_a_budget_of_tokens_needs_no_prices_and_reads_numbers_as_people_write_them(place: Any) -> None:
    written = place.path / "tokens.yaml"
    written.write_text(recipe(place, prices={}).read_text()[:-1] + ', "budget": {"tokens": 1.5e3}}')
    assert load(written, ["budget.tokens=5e7"]).budget == Budget(tokens=5e7)
    with pytest.raises(
        RunStopped,
        match=r"the budget of 1,500 tokens is used up: 1,400 are spent, and the next request may take 190",
    ):
        run(written, quiet=True)


def test_fresh_counts_anew(place: Any) -> None:
    written = recipe(place, budget={"usd": 41 * PAID + 90e-5})
    run(written, quiet=True)
    run(written, quiet=True, fresh=True)
    assert json.loads((place.path / "runs/test" / SPENT).read_text())["usd"] == pytest.approx(40 * PAID)


def test_what_waits_for_the_budget_leaves_as_soon_as_cheaper_answers_are_home() -> None:
    """Held are 400 tokens a request, of which 150 are used: 1,000 tokens are five requests, not two."""

    async def asked() -> tuple[int, int, RunStopped]:
        most = flying = 0

        class Watched(ScriptedEngine):
            async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
                nonlocal most, flying
                flying += 1
                most = max(most, flying)
                await asyncio.sleep(0)
                flying -= 1
                return [Completion("x", prompt_tokens=50, completion_tokens=100)]

        purse = Purse(Budget(tokens=1000))
        stopped: asyncio.Future[RunStopped] = asyncio.get_running_loop().create_future()
        purse.stop = stopped.set_result
        gate = Gate(Watched(lambda r, i: "x"), purse)
        request = Request((Message("user", "x" * 300),), Sampling(max_tokens=292))
        tasks = [asyncio.create_task(gate.generate(request)) for _ in range(20)]
        reason = await stopped
        done = [t for t in tasks if t.done()]
        for task in tasks:
            task.cancel()
        return len(done), most, reason

    done, most, reason = asyncio.run(asked())
    assert (done, most) == (5, 2)
    assert "750 are spent, and the next request may take 400" in str(reason)


def test_an_answer_without_counts_is_estimated_and_a_failed_try_is_free() -> None:
    async def asked() -> Spending:
        purse = Purse()
        gate = Gate(ScriptedEngine(lambda r, i: Completion("y" * 60)), purse, Price(input=1, output=1))
        await gate.generate(REQUEST)
        failing = Gate(ScriptedEngine(lambda r, i: "x", failure_rate=1.0), purse)
        with pytest.raises(Exception, match="scripted failure"):
            await failing.generate(REQUEST)
        return purse.spent

    spent = asyncio.run(asked())
    assert (spent.tokens_in, spent.tokens_out, spent.requests) == (108, 20, 1)
    assert spent.usd == pytest.approx(128 / 1e6)


def test_what_a_kill_cut_off_is_counted_at_the_mean(tmp_path: Path) -> None:
    path = tmp_path / SPENT
    path.write_text('{"usd": 2.0, "tokens_in": 100, "tokens_out": 300, "requests": 20, "in_flight": 5}')
    assert Purse(path=path).spent == Spending(2.5, 125, 375, 20)
    path.write_text("nonsense")
    with pytest.raises(RunError, match="does not hold what the run has spent"):
        Purse(path=path)


def test_prices_stand_in_a_file_beside_the_recipe(place: Any) -> None:
    (place.path / "prices.yaml").write_text("m: {input: 1, output: 10}\nother-1.5: {input: 0, output: 0}\n")
    written = recipe(place, prices="prices.yaml", budget={"usd": 1})
    assert load(written).prices["other-1.5"] == Price(input=0, output=0)
    shown = load(written).to_dict()
    assert from_dict(shown).to_dict() == shown
    (place.path / "prices.yaml").write_text("m: {input: 1, output: -1}\n")
    with pytest.raises(RecipeError, match=r"prices\.yaml\.prices\S*output: .* is refused"):
        load(written)


def test_a_budget_in_dollars_wants_the_price_of_every_engine(place: Any) -> None:
    with pytest.raises(RecipeError, match=r"no price for the model 'm' \(scripted\)") as refused:
        load(recipe(place, prices={}, budget={"usd": 1}))
    assert "prices: {m: {input: DOLLARS, output: DOLLARS}}" in refused.value.remedy
    with pytest.raises(RecipeError, match="a budget needs 'usd', 'tokens' or both"):
        load(recipe(place, budget={}))


def test_prices_and_budgets_never_make_another_recipe_of_it(place: Any) -> None:
    run(recipe(place, budget={"usd": 1}), quiet=True)
    run(recipe(place, prices={}), quiet=True)
    assert open_run(place.path / "runs/test").summary.stages[-1].rows_out == 40


def test_tasks_refuse_a_budget(place: Any) -> None:
    with pytest.raises(RecipeError, match=r"'budget' ends a run on one machine.*what the others have spent"):
        distribute(recipe(place, budget={"usd": 1}), executor="local", tasks=2, workers=None, options=[])
    assert not (place.path / "runs").exists()
