"""The shipped loops with trainings for real, of a tiny random model in the Python that has torch and TRL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from paths import TESTS
from train_programs import trainer

PROGRAM = TESTS / "train" / "tiny_loops.py"
ROUNDS = {
    "selm": 2,
    "iterative-dpo": 1,
    "copg": 1,
    "sample-reward-sft": 1,
    "b-star": 1,
    "rest-mcts": 2,
    "iterative-m-dpo": 1,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which each loop has done its rounds."""
    where = tmp_path_factory.mktemp("loops")
    done = trainer(PROGRAM, where, *(f"{name}={rounds}" for name, rounds in ROUNDS.items()))
    assert done.returncode == 0, done.stderr[-3000:]
    return where


def told(file: Path) -> dict[str, Any]:
    """What a training or a run was told."""
    found: dict[str, Any] = yaml.safe_load(file.read_text())
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_loop_comes_to_a_new_model_in_each_round(place: Path) -> None:
    found = json.loads((place / "found.json").read_text())
    for name, rounds in ROUNDS.items():
        models = [Path(one["model"]) for one in found[name]]
        assert len(set(models)) == rounds + 1, name
        weights = {model: (model / "model.safetensors").read_bytes() for model in models}
        assert len(set(weights.values())) == rounds + 1, name
        for one in found[name][1:]:  # every measure of a round has rows that it was taken from
            assert all(measure["rows"] for measure in one["measures"].values()), name


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pairs_are_preferred_against_the_model_that_gave_them(place: Path) -> None:
    first, second = (told(place / "selm" / f"round-{n}" / "preferred.json") for n in (1, 2))
    assert second["model"] == f"{first['output']}/model" and second["optimism"] > 0
    assert "reference" not in second  # so it is the model itself, as it is before the first step
    [line, *_] = (place / "copg" / "round-1" / "preferred.jsonl").read_text().splitlines()
    assert json.loads(line)["margin"] >= 0.5


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_b_star_chose_is_what_its_round_is_made_with(place: Path) -> None:
    for number, one in enumerate(json.loads((place / "found.json").read_text())["b-star"][1:], 1):
        chosen = one["values"]
        stages = told(place / "b-star" / f"round-{number}" / "made" / "recipe.yaml")["stages"]
        assert stages[0]["sampling"]["temperature"] == chosen["tried.temperature"] in (0.5, 0.8, 1.1)
        assert stages[2]["condition"].endswith(f"> {chosen['tried.threshold']}")
        assert one["measures"]["balance"]["value"] == chosen["tried.balance"] > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_search_of_a_round_is_guided_by_the_value_model_of_the_round_before(place: Path) -> None:
    folders = [place / "rest-mcts" / f"round-{n}" for n in (1, 2)]
    models = [told(folder / "searched" / "recipe.yaml")["engines"]["prm"]["model"] for folder in folders]
    assert models == [str(folders[0] / name / "model") for name in ("first_valued", "valued")]
    assert (folders[0] / "seeded").is_dir() and not (folders[1] / "seeded").exists()
    rows = [len((folder / "valued.jsonl").read_text().splitlines()) for folder in folders]
    own = len((folders[0] / "first_valued.jsonl").read_text().splitlines())
    assert min(rows) > own  # those of the search, and those of the trees of the beginning


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_model_that_was_taught_to_correct_itself_is_the_first_reference(place: Path) -> None:
    folder = place / "iterative-m-dpo" / "round-1"
    assert told(folder / "preferred.json")["model"] == str(folder / "taught" / "model")
    assert "reference" not in told(folder / "preferred.json")
