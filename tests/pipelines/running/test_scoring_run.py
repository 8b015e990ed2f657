"""Recipes that score: engines that give rewards, scores of scores, and what is asked a second time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from odd_server import Odd

from gristmill.core.errors import RecipeError
from gristmill.pipelines import Run, plan, run
from gristmill.pipelines.recipe.recipe import from_dict

REPLIES = [
    {"match": "problem 0", "texts": ["2"]},
    {"match": "problem 1", "texts": ["I think that it is 3, or so."]},
    {"match": "problem 2", "texts": ["2 " * 60]},
]
STAGES: list[dict[str, Any]] = [
    {"stage": "sample", "as": "draw", "sampling": {"max_tokens": 300}},
    {"stage": "score", "as": "reward", "scorer": {"kind": "reward_model", "engine": "rm"}, "score": "reward"},
    {"stage": "score", "as": "right", "scorer": "verifier", "score": "right"},
    {
        "stage": "score",
        "as": "all",
        "scorer": {
            "kind": "ensemble",
            "scores": ["reward", "right"],
            "scales": {"reward": {"mean": 1, "deviation": 20}},
        },
    },
    {"stage": "where", "as": "good", "condition": "scores.ensemble >= 0.5"},
]


@pytest.fixture
def recipe(workspace: Any, odd: Odd, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(workspace.path)
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)
    workspace.write_problems(3, answer="2")
    server = {"kind": "reward-server", "base_url": odd.url("rewards"), "model": "m", "route": "score"}
    written: Path = workspace.write_recipe(
        {"kind": "scripted", "replies": REPLIES},
        stages=STAGES,
        engines={"rm": server},
        verifier={"kind": "short_answer"},
    )
    return written


def scores(done: Run, stage: str) -> list[dict[str, float | None]]:
    rows = done.rows(stage).collect()["scores"].to_list()
    return [{score["name"]: score["value"] for score in row} for row in rows]


def asked(odd: Odd) -> list[str]:
    """The answers that were to be rewarded; before a run asks the first, it tries the server with "Yes"."""
    return [v.body["text_2"] for v in odd.visits if (v.name, v.path) == ("rewards", "score")]


def test_rewards_are_paid_for_once_and_no_row_goes_for_its_score(recipe: Path, odd: Odd) -> None:
    before = len(asked(odd))
    done = run(str(recipe), quiet=True)
    found = scores(done, "all")
    assert [one["reward"] for one in found] == [1.0, 28.0, None]
    assert found[0]["ensemble"] == 0.5 and found[2]["ensemble"] is None
    [told] = [
        score["verdict"]
        for score in done.rows("reward").collect()["scores"].to_list()[2]
        if score["name"] == "reward"
    ]
    assert told["outcome"] == "unparseable" and told["rule"] == "request refused"
    kept = {stage.name: stage for stage in done.summary.stages}
    assert not kept["reward"].rejected and not kept["all"].rejected
    texts = done.rows("draw").collect()["completion"].to_list()
    assert sorted(asked(odd)[before:]) == sorted(["Yes", *texts])
    before = len(asked(odd))
    run(str(recipe), quiet=True)
    assert asked(odd)[before:] == ["Yes", texts[2]], "what was given is in the log; a refusal is asked again"


def test_a_plan_bounds_what_scoring_will_ask(recipe: Path) -> None:
    run(str(recipe), quiet=True)
    assert plan(str(recipe)) is not None


def test_an_engine_that_gives_no_rewards_is_refused_before_anything_is_asked(recipe: Path) -> None:
    given = json.loads(recipe.read_text())
    for kind, remedy in (("reward_model", "reward-server"), ("likelihood", "transformers")):
        stages = [STAGES[0], {"stage": "score", "scorer": {"kind": kind}}]
        with pytest.raises(RecipeError, match=rf"'score' needs an engine that can .*{remedy}"):
            run(from_dict({**given, "stages": stages}), quiet=True)


def test_a_prompt_of_a_scorer_that_no_row_fills_is_refused(recipe: Path) -> None:
    given = json.loads(recipe.read_text())
    scorer = {"kind": "density_ratio", "weak": "rm", "system": "About {topicc}"}
    recipe.write_text(json.dumps({**given, "stages": [STAGES[0], {"stage": "score", "scorer": scorer}]}))
    with pytest.raises(RecipeError, match=r"scorer\.system.*topicc"):
        run(str(recipe), quiet=True)
