"""What a recipe will cost at scale, predicted from a pilot that is really run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import polars as pl
import pytest
from msgspec import Struct

from gristmill.core import registry
from gristmill.core.engine import Ability, Message, Request, Sampling
from gristmill.core.errors import RunError
from gristmill.core.records import Problem, Sampled
from gristmill.core.stages import REJECTED_REASON, Context, Estimate, Filter, RowStage
from gristmill.pipelines import run
from gristmill.pipelines.planning.forecast import FEWEST, Amount, forecast, predict, table
from gristmill.pipelines.recipe.recipe import load
from gristmill.pipelines.running.runner import log_path

ENGINE = {"kind": "scripted", "replies": [{"texts": [" ".join(["word"] * k) for k in range(1, 12)]}]}
RUNS = Path("runs")


class Adaptive(RowStage, frozen=True, forbid_unknown_fields=True):
    """Draws until an answer is long enough: how often, only the answers say."""

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Sampled
    needs: ClassVar[frozenset[Ability]] = frozenset()

    async def __call__(self, record: Problem, context: Context) -> Sequence[Struct]:
        messages = (Message("user", record.problem),)
        request = Request(messages, Sampling(), context.seed_for(record.id))
        for i in range(20):
            [answer] = await context.engine.generate(request, first=i)
            if len(answer.text.split()) > 8:
                text = answer.text
                return [Sampled(f"{record.id}/0", record.id, 0, "", None, messages, text, "stop", 1, 1)]
        return []

    def estimate(self, record: Problem) -> Estimate:
        return Estimate(1, 20, 1, 11)


class Half(Filter, frozen=True, forbid_unknown_fields=True):
    """A table stage that keeps every second row."""

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        even = pl.int_range(pl.len()) % 2 == 0
        return frame.with_columns(pl.when(even).then(None).otherwise(pl.lit("odd")).alias(REJECTED_REASON))


@pytest.fixture
def place(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(workspace.path)
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)
    monkeypatch.setitem(sys.modules, "forecast_stages", SimpleNamespace(Adaptive=Adaptive, Half=Half))
    for name in ("adaptive", "half"):
        entry = EntryPoint(name, f"forecast_stages:{name.title()}", "gristmill.stages")
        monkeypatch.setitem(registry._entries("stages"), name, entry)
    workspace.write_problems(2000)
    return workspace


def counted(done: Any, stage: str) -> Any:
    return next(s for s in done.summary.stages if s.name == stage)


def test_a_stage_of_fixed_cost_is_predicted_exactly(place: Any) -> None:
    stages = [{"stage": "sample", "samples": 3, "verify": False, "follow_ups": ["Check it."]}]
    run(recipe := place.write_recipe(ENGINE, stages=stages), limit=50, quiet=True)
    found = predict(recipe, 1e6, runs=RUNS, log=log_path(None))
    assert found.pilot_rows == 50 and found.incomplete == 0
    [stage] = found.stages
    assert stage.completions == Amount(6e6, 6e6, 6e6) and stage.per_row == (6, 6, 6)
    assert stage.requests == Amount(4e6, 4e6, 4e6), "the first turn's three are one request"
    assert stage.tokens_out.low < stage.tokens_out.value < stage.tokens_out.high
    assert found.total.completions == stage.completions


def test_an_adaptive_stage_is_predicted_by_what_it_did(place: Any) -> None:
    recipe = place.write_recipe(ENGINE, stages=[{"stage": "adaptive"}])
    done = run(recipe, limit=300, quiet=True)
    found = forecast(load(recipe), 2000, pilot_rows=300, log=log_path(None))
    [stage] = found.stages
    assert stage.completions.value == pytest.approx(counted(done, "adaptive").completions * 2000 / 300)
    assert stage.per_row[0] < stage.per_row[1] < stage.per_row[2] <= 20, "a distribution, and a long tail"
    whole = counted(run(recipe, resume=True, quiet=True), "adaptive")
    assert stage.completions.low < whole.completions < stage.completions.high
    assert stage.tokens_out.low < whole.tokens_out < stage.tokens_out.high


@pytest.mark.slow
def test_intervals_hold_the_truth_about_as_often_as_they_say(place: Any) -> None:
    recipe = place.write_recipe(ENGINE, stages=[{"stage": "adaptive"}])
    whole = counted(run(recipe, quiet=True), "adaptive").completions
    problems = (place.path / "problems.jsonl").read_text().splitlines(keepends=True)
    hits = 0
    for i in range(10):
        (place.path / "problems.jsonl").write_text("".join(problems[100 * i : 100 * (i + 1)]))
        [stage] = forecast(load(recipe), 2000, pilot_rows=100, log=log_path(None)).stages
        hits += stage.completions.low <= whole <= stage.completions.high
    assert hits >= 8


def test_a_stage_behind_a_table_stage_is_measured_too(place: Any) -> None:
    stages = [{"stage": "half"}, {"stage": "sample", "samples": 2, "verify": False}]
    run(recipe := place.write_recipe(ENGINE, stages=stages), limit=100, quiet=True)
    found = predict(recipe, 1000, runs=RUNS, log=log_path(None))
    half, sample = found.stages
    assert half.rows.value == 1000 and half.completions.value == 0
    assert sample.rows.value == 500 and sample.completions.value == 1000
    assert sample.completions.low < 1000 < sample.completions.high
    assert "table stage" in table(found)


def test_a_completion_that_two_stages_share_is_paid_for_once(place: Any) -> None:
    sample = {"stage": "sample", "verify": False}
    stages = [{**sample, "samples": 2}, {**sample, "as": "more", "samples": 4, "from": "source"}]
    recipe = place.write_recipe(ENGINE, stages=stages)
    run(recipe, limit=30, quiet=True)
    first, second = predict(recipe, 300, runs=RUNS, log=log_path(None)).stages
    assert (first.completions.value, second.completions.value) == (600, 600)


def test_speed_and_price_give_hours_and_dollars(place: Any) -> None:
    run(recipe := place.write_recipe(ENGINE), limit=40, quiet=True)
    found = predict(
        recipe, 1e6, runs=RUNS, log=log_path(None), gpus=64, tokens_per_second=2000, dollars_per_gpu_hour=2.5
    )
    assert found.gpu_hours is not None and found.dollars is not None
    assert found.gpu_hours.value == pytest.approx(found.total.tokens_out.value / 2000 / 3600)
    assert found.dollars.value == pytest.approx(2.5 * found.gpu_hours.value)
    assert found.gpu_hours.low < found.gpu_hours.value < found.gpu_hours.high
    text = table(found)
    assert "on 64 GPUs" in text and "2,000 tokens/s of a GPU: as given." in text and "dollars" in text


def test_the_pilots_own_speed_is_used_and_named(place: Any) -> None:
    recipe = place.write_recipe(ENGINE)
    done = run(recipe, limit=40, quiet=True)
    found = predict(recipe, 1000, runs=RUNS, log=log_path(None), pilot_gpus=2)
    tokens, seconds = done.summary.spent.tokens_out, done.summary.timing["seconds"]
    assert found.speed is not None
    assert found.speed.tokens_per_second == pytest.approx(tokens / seconds / 2)
    assert f"{tokens:,} completion tokens" in found.speed.source and "2 GPUs" in found.speed.source
    run(recipe, limit=40, resume=True, quiet=True)
    again = predict(recipe, 1000, runs=RUNS, log=log_path(None))
    assert again.speed is None, "the second run read the log: that says nothing about a GPU"
    assert "--tokens-per-second" in table(again) and again.total == found.total


def test_without_a_pilot_it_is_refused_with_what_to_do(place: Any) -> None:
    recipe = place.write_recipe(ENGINE)
    with pytest.raises(
        RunError, match=r"needs a pilot.*gristmill run RECIPE --limit 200 --set name=test-pilot"
    ):
        predict(recipe, 1000, runs=RUNS, log=log_path(None))
    run(recipe, limit=FEWEST - 1, quiet=True)
    with pytest.raises(
        RunError, match=f"a pilot of {FEWEST} rows or more.* of {FEWEST - 1} under this recipe"
    ):
        predict(recipe, 1000, runs=RUNS, log=log_path(None))


def test_rows_that_the_log_lacks_are_left_out_and_counted(place: Any) -> None:
    run(recipe := place.write_recipe(ENGINE), limit=40, quiet=True)
    found = predict(recipe, 1000, runs=RUNS, log=log_path(None), pilot_rows=60)
    assert (found.pilot_rows, found.incomplete) == (40, 20)
    assert "20 rows of the pilot have gaps" in table(found)
    other = place.write_recipe(ENGINE, name="other", seed=9)
    with pytest.raises(RunError, match="of 0 under this recipe"):
        predict(other, 1000, runs=RUNS, log=log_path(None), pilot_rows=60)


def test_the_command_prints_it_and_the_same_each_time(place: Any) -> None:
    place.write_recipe(ENGINE)
    assert place.gristmill("run", "test.yaml", "--limit", "50", "--set", "name=p").returncode == 0
    command = ["plan", "test.yaml", "--rows", "1e6", "--gpus", "64", "--pilot", "p"]
    command += ["--dollars-per-gpu-hour", "2", "--tokens-per-second", "1000"]
    first, second = place.gristmill(*command), place.gristmill(*command)
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert "1,000,000 problems, predicted from a pilot of 50" in first.stdout
    refused = place.gristmill("plan", "test.yaml", "--rows", "1e6")
    assert refused.returncode == 1 and "needs a pilot" in refused.stderr
