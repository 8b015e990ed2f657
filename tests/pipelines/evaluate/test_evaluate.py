"""``gristmill eval self-correction``: the recipe's prompts and problems, one trial each, and the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gristmill.cli.main import app
from gristmill.pipelines.evaluate.self_correction import evaluate_self_correction, table, trial_of
from gristmill.pipelines.recipe.recipe import from_dict, load
from gristmill.synth.self_correction import Trial, measure

RECIPE = """
name: tiny
engine:
  kind: scripted
  replies:
    - {match: "Is it right?", texts: ["Looks off. [VERIFY] wrong."]}
    - {match: "Again", texts: ['\\boxed{2}']}
    - {texts: ['\\boxed{3}']}
source: {path: problems.jsonl}
stages:
  - stage: explore_self_correction
    prompts:
      evaluation: {messages: [{role: user, content: "{problem} {attempt} Is it right?"}]}
      correction: {messages: [{role: user, content: "{problem} Again"}]}
  - stage: self_correction_trajectories
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)
    rows = [{"problem": f"{i} + 1?", "answer": str(i + 1)} for i in (1, 2, 5)]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    return tmp_path


def test_the_metrics_are_those_of_one_trial_a_problem(place: Path) -> None:
    # Answers 2, 3, 6; the first attempt is always 3, the second always 2, every verdict "wrong".
    found = evaluate_self_correction("tiny.yaml")
    assert found == measure([(False, False, True), (True, False, False), (False, False, False)])
    assert (found.problems, found.i_to_c, found.c_to_i) == (3, 1 / 3, 1 / 3)


def test_the_command_prints_them_and_a_rerun_pays_nothing(place: Path) -> None:
    for _ in range(2):
        result = CliRunner().invoke(app, ["eval", "self-correction", "tiny.yaml", "--limit", "2"])
        assert result.exit_code == 0, result.output
    assert "final          0.500  last answer right" in result.output
    assert "0 requests" in result.output
    assert not (place / "runs" / "tiny").exists()


def test_it_uses_the_recipes_prompts_greedily_unless_asked_not_to(place: Path) -> None:
    recipe = load("tiny.yaml")
    for sampled, heat in ((False, {0.0}), (True, {1.0})):
        trial = trial_of(recipe, sampled=sampled).stages[0].stage
        assert isinstance(trial, Trial)
        turns = trial.explore().turns
        assert turns.correction.messages[0].content == "{problem} Again"
        assert {turns.attempt.sampling.temperature, turns.evaluation.sampling.temperature} == heat


def test_a_recipe_without_self_correction_is_measured_with_the_default_prompts(place: Path) -> None:
    described = {
        "name": "plain",
        "engine": {"kind": "scripted", "replies": [{"texts": ["\\boxed{3}"]}]},
        "source": {"path": "problems.jsonl"},
        "stages": [{"stage": "sample"}],
    }
    found = evaluate_self_correction(from_dict(described))
    assert (found.turn1, found.no_verdict, found.rm_right) == (1 / 3, 1.0, 0.0)


def test_a_share_of_nothing_is_a_dash() -> None:
    assert "p_c_to_i           -  final wrong" in table(measure([(False, True, None)]))
