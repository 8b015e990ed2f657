"""``until``: how few rows are tried for a wanted number, how a run ends, and how it goes on after a kill."""

from __future__ import annotations

import json
import random
import signal
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from distributed_parts import outputs

from gristmill.pipelines import Run, plan, run
from gristmill.pipelines.running.targets import first_try, next_try

ROWS = 900


@pytest.fixture
def place(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(workspace.path)
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)
    workspace.write_problems(ROWS, answer="1")
    return workspace


def passing(right: int, of: int) -> dict[str, Any]:
    """An engine that answers so many of its questions rightly."""
    texts = ["\\boxed{1}"] * right + ["\\boxed{2}"] * (of - right)
    return {"kind": "scripted", "replies": [{"texts": texts}], "concurrency": 16}


def rounds(rows: int, share: float, seed: int) -> tuple[int, int, int]:
    """Rows tried, the fewest that would have done, and the rounds that it took; rows pass by chance."""
    draw = random.Random(seed)
    passed = [0, *accumulate(draw.random() < share for _ in range(int(3 * rows / share) + 1000))]
    tried, number = first_try(rows), 1
    while passed[tried] < rows:
        tried, number = next_try(tried, passed[tried], rows), number + 1
    return tried, passed.index(rows), number


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("rows", [200, 1000])
def test_targets_are_met_within_2_percent_of_the_fewest_rows_and_in_few_rounds(
    rows: int, share: float
) -> None:
    found = [rounds(rows, share, seed) for seed in range(10)]
    assert sum(tried / fewest for tried, fewest, _ in found) / len(found) < 1.02
    assert max(tried / fewest for tried, fewest, _ in found) < 1.04
    assert max(number for _, _, number in found) < 40


def test_nothing_passing_at_first_does_not_end_it() -> None:
    tried = first_try(10)
    for _ in range(12):
        before, tried = tried, next_try(tried, 0, 10)
        assert before < tried <= 2 * before


@pytest.mark.parametrize(("right", "of", "rows"), [(9, 10, 400), (1, 3, 150), (1, 12, 50)])
def test_a_run_ends_with_the_wanted_rows_and_few_requests_too_many(
    place: Any, right: int, of: int, rows: int
) -> None:
    stages = [{"stage": "sample"}, {"stage": "where", "as": "right", "condition": "verdict == 'correct'"}]
    recipe = place.write_recipe(passing(right, of), stages=stages)
    everything = run(recipe, runs="all", log="all.sqlite", quiet=True)
    ids = everything.rows("right").collect()["problem_id"].to_list()
    fewest = int(ids[rows - 1][1:]) + 1
    place.write_recipe(passing(right, of), stages=stages, until={"stage": "right", "rows": rows})
    done = run(recipe, quiet=True)
    assert done.rows("right").collect().height >= rows
    assert fewest <= done.summary.spent.requests <= max(1.02 * fewest + 1, first_try(rows))
    assert done.summary.ended.startswith(f"Ended with {done.rows('right').collect().height} rows of right")
    limited = run(
        recipe, overrides=["until=null"], limit=done.summary.spent.requests, runs="limited", quiet=True
    )
    mine, theirs = outputs(done.path), outputs(limited.path)
    assert {n: b for n, b in mine.items() if n != "summary.json"} == {
        n: theirs[n] for n in theirs if n != "summary.json"
    }


def test_at_most_so_many_rows_are_tried_and_the_end_says_why(place: Any) -> None:
    until = {"stage": "sample", "rows": 500, "at_most": 60}
    done = run(place.write_recipe(passing(1, 2), until=until), quiet=True)
    assert done.summary.spent.requests == 60
    assert done.summary.ended == "Ended with 60 rows of sample, of 500 wanted: at most 60 rows may be tried."
    until = {"stage": "sample", "rows": ROWS + 1}
    done = run(place.write_recipe(passing(1, 2), name="more", until=until), quiet=True)
    assert (
        done.summary.ended == f"Ended with {ROWS} rows of sample, of {ROWS + 1} wanted: source has no more."
    )


def test_minutes_end_it_as_a_complete_run_of_what_there_is(place: Any) -> None:
    engine = passing(1, 2) | {"latency": 0.2, "concurrency": 4}
    stages = [
        {"stage": "sample"},
        {"stage": "sort", "by": "id", "descending": True},
        {"stage": "measure", "scores": {"length": "characters"}},
        {"stage": "sort", "as": "again", "by": "id"},
        {"stage": "judge", "reference": "none"},
    ]
    until = {"minutes": 0.02, "grace_minutes": 0.02}
    done = run(place.write_recipe(engine, stages=stages, until=until), quiet=True)
    counts = {stage.name: stage for stage in done.summary.stages}
    assert 0 < counts["sample"].rows_out < ROWS
    assert done.summary.spent.requests >= counts["sample"].rows_out
    assert done.summary.ended == "Ended after 0.02 minutes, with the rest of the rows not tried."
    # A later stage that asks no model does its work; what the time was over for in another is rejected there.
    assert counts["measure"].rows_out == counts["sort"].rows_out == counts["sample"].rows_out
    assert counts["judge"].rejected == {"not tried: the time was over": counts["measure"].rows_out}


def test_filters_and_relations_may_stand_between_source_and_target(place: Any) -> None:
    stages = [
        {"stage": "take", "rows": 1, "per": "problem"},
        {"stage": "sample", "samples": 2},
        {"stage": "where", "as": "right", "condition": "verdict == 'correct'"},
        {"stage": "join", "from": ["right", "others"], "columns": {"note": "problem"}},
        {"stage": "head", "as": "one", "rows": 1, "per": "problem"},
    ]
    rows = [{"id": f"p{i}", "problem": f"note {i}"} for i in range(0, ROWS, 2)]
    (place.path / "others.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = place.write_recipe(passing(1, 2), stages=stages)
    data = json.loads(recipe.read_text())
    data["sources"] = {"problems": data.pop("source"), "others": {"path": "others.jsonl"}}
    recipe.write_text(json.dumps(data))
    everything = run(recipe, runs="all", log="all.sqlite", quiet=True)
    fewest = int(everything.rows("one").collect()["problem_id"].to_list()[99][1:]) + 1
    recipe.write_text(json.dumps(data | {"until": {"stage": "one", "rows": 100}}))
    done = run(recipe, quiet=True)
    counts = {stage.name: stage for stage in done.summary.stages}
    assert counts["one"].rows_out >= 100 and fewest <= counts["problems"].rows_out <= 1.02 * fewest + 1
    assert counts["others"].rows_out == ROWS // 2  # read whole


def test_of_several_sources_the_one_is_tried_that_costs_something(place: Any) -> None:
    stages = [
        {"stage": "sample", "from": "questions"},
        {"stage": "where", "as": "right", "condition": "verdict == 'correct'"},
        {"stage": "join", "as": "known", "from": ["given", "right"], "how": "semi"},
    ]
    until = {"stage": "known", "rows": 100, "at_most": 400}
    recipe = place.write_recipe(passing(1, 2), stages=stages, until=until)
    data = json.loads(recipe.read_text())
    data["sources"] = {"given": data["source"], "questions": data.pop("source")}
    recipe.write_text(json.dumps(data))
    assert plan(recipe).sources == {"given": ROWS, "questions": 400}
    done = run(recipe, quiet=True)
    counts = {stage.name: stage.rows_out for stage in done.summary.stages}
    assert counts["given"] == ROWS and 100 <= counts["known"] <= 103
    assert counts["questions"] == done.summary.spent.requests < 300


def ended(place: Any, *words: str) -> Run:
    from gristmill.pipelines import open_run

    done = place.gristmill("run", "test.yaml", "--quiet", *words)
    assert done.returncode == 0, done.stderr
    return open_run(place.path / (words[1] if words else "runs") / "test")


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes_and_pays_once(place: Any, server: Any) -> None:
    engine = {
        "kind": "openai",
        "base_url": server.url,
        "model": "fake",
        "concurrency": 8,
        "abilities": ["chat"],
    }
    place.write_recipe(engine, until={"stage": "sample", "rows": 300})
    process = place.start("run", "test.yaml", "--quiet")
    server.wait_for(120)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    done = ended(place)
    answered = server.stats()["answered"]
    whole = ended(place, "--runs", "whole", "--log", "whole.sqlite")
    assert outputs(done.path) == outputs(whole.path)
    tried = whole.summary.spent.requests
    assert 300 <= tried <= 306 and answered <= tried + 8


def test_tasks_refuse_it(place: Any) -> None:
    place.write_recipe(passing(1, 2), until={"stage": "sample", "rows": 10})
    refused = place.gristmill("run", "test.yaml", "--executor", "local", "--tasks", "2")
    assert refused.returncode == 2 and not Path("runs").exists()
    assert refused.stderr == (
        "error: 'until' ends a run on one machine; tasks cannot know what the others have made. "
        "Leave it out, and limit the rows with --limit N.\n"
    )


@pytest.mark.parametrize(
    ("until", "said"),
    [
        ({"rows": 5}, "'rows' and 'stage' go together"),
        ({"stage": "sample", "rows": 0}, "until.rows"),
        ({"at_most": 5}, "'at_most' goes with 'rows' and 'stage'"),
        ({"stage": "sampel", "rows": 5}, "Did you mean 'sample'"),
        ({"minutes": 0}, "until.minutes"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused(place: Any, until: dict[str, Any], said: str) -> None:
    from gristmill.core.errors import RecipeError
    from gristmill.pipelines import load

    with pytest.raises(RecipeError) as caught:
        load(place.write_recipe(passing(1, 2), until=until))
    assert said in str(caught.value)
