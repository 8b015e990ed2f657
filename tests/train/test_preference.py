"""Losses against numbers computed by hand, masks, and preference training for real of a tiny random model."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from paths import TESTS
from train_programs import END, jsonl, trainer, turn

PROGRAM = TESTS / "train" / "tiny_preference.py"
LOSSES = ("dpo", "ipo", "copg", "simpo", "cpo", "orpo", "kto", "bco")


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    where = tmp_path_factory.mktemp("preference")
    rows = [
        {
            "prompt": [turn("user", f"What is {i}?")],
            "chosen": [turn("assistant", "I am sure." if i % 2 else "blue")],
            "rejected": [turn("assistant", "red red" if i % 3 else "I am unsure.")],
        }
        for i in range(8)
    ]
    jsonl(where / "pairs.jsonl", rows)
    jsonl(where / "weighted.jsonl", [{**row, "weight": 2.0, "flip": 0.0} for row in rows])
    jsonl(where / "flipped.jsonl", [{**row, "weight": 1.0, "flip": 0.25, "margin": 2.0} for row in rows])
    jsonl(where / "margins.jsonl", [{**row, "margin": 0.7} for row in rows])
    labelled = [{"prompt": row["prompt"], "completion": row["chosen"], "label": True} for row in rows]
    jsonl(where / "labelled.jsonl", labelled)
    done = trainer(PROGRAM, where)
    assert done.returncode == 0, done.stderr[-3000:]
    trials: dict[str, Any] = json.loads((where / "found.json").read_text())
    return trials


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_loss_has_the_value_of_its_closed_form(found: dict[str, Any]) -> None:
    odds = [math.exp(mean) / (1 - math.exp(mean)) for mean in (-0.8, -1.5)]
    expected = {
        "dpo": 0.644397,
        "m-dpo 0.1": 0.653947,
        "m-dpo 0.5": 0.513015,
        "simpo": 0.513015,
        "kto wanted": 0.490001,
        "kto unwanted": 0.485004,
        "bco wanted": 0.66846,
        "bco unwanted": 0.66846,
        "mcts (6, 2)": 0.648139,
        "mcts (5, 5)": 0.698139,
        "mcts (6, 0)": 0.598139,
        "ipo": (0.6 + 0.4 - 5) ** 2,
        "cpo": -log_sigmoid(0.1 * (-8 + 15)),
        "orpo": 0.8 - 0.1 * log_sigmoid(math.log(odds[0] / odds[1])),
        "offset": -log_sigmoid(0.1 * 1.0 - 0.5),
        "copg": -(0.7 - 0.05) * 1.0,
        "copg at its least": -(0.7**2) / (2 * 0.1),
        "optimism": 0.2 * 0.1 * 0.5,
        "selm": -log_sigmoid(0.1) + 0.2 * 0.1 * (0.6 - 0.4) / 2,
        "no divergence below 0": 0.0,
    }
    assert found["values"].keys() == expected.keys()
    assert found["values"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_dpo_is_that_of_trls_own_trainer(found: dict[str, Any]) -> None:
    ours, theirs = found["ours"], found["trl"]
    assert len(ours) == 3 and ours[0] == pytest.approx(math.log(2), abs=1e-5) and ours[2] < ours[0] - 1e-3
    assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_loss_is_trained_down(found: dict[str, Any]) -> None:
    for name in LOSSES:
        metrics = found["trained"][name]
        rows = 16 if name in ("kto", "bco") else 8
        assert (metrics["rows"], metrics["steps"]) == (rows, 12), name
        assert metrics["last_loss"] < metrics["first_loss"], name
        assert metrics["measures"]["chosen_reward"] > metrics["measures"]["rejected_reward"], name


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_weights_flips_offsets_and_likelihood_change_the_loss_as_they_should(found: dict[str, Any]) -> None:
    first = found["first"]
    plain = first["plain"]
    assert first["weighted"] == pytest.approx(2 * plain, abs=1e-5)
    assert first["reference"] != pytest.approx(plain, abs=1e-3)
    assert first["flipped"] == pytest.approx(
        plain, abs=1e-5
    )  # at a difference of 0 either label costs the same
    # What the reference said itself loses probability: both sides, as they are its own.
    plain_measures, measures = found["trained"]["dpo"]["measures"], first["optimism"]
    for side in ("chosen_reward", "rejected_reward"):
        assert measures[side] < plain_measures[side] - 0.01
    offset = -0.75 * log_sigmoid(-0.5 * 2) - 0.25 * log_sigmoid(0.5 * 2)
    assert first["offset"] == pytest.approx(offset, abs=1e-5)
    assert first["nll"] - plain == pytest.approx(0.5 * found["likelihood"], abs=1e-5)
    assert found["accumulated"] == pytest.approx(found["trained"]["dpo"]["last_loss"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_training_goes_on_with_the_same_losses_and_weights(found: dict[str, Any]) -> None:
    for name in ("bco", "dpo"):
        killed = found["killed"][name]
        assert killed["signal"] == 9 and killed["checkpoint"] == 4
        assert killed["losses"] == found["losses"][name] and len(killed["losses"]) == 12
        assert killed["weights"] == found["weights"][name]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_users_turns_and_what_both_sides_begin_with_carry_no_loss(found: dict[str, Any]) -> None:
    right, wrong = f"no. blue{END}\n", f"no. red{END}\n"
    assert found["masks"]["shared first turn"] == [[right], [wrong]]
    assert found["masks"]["different first turns"] == [
        [f"red{END}\n", right],
        [f"red sure.{END}\n"],
    ]
    assert found["masks"]["from the difference"] == [[f" blue{END}\n"], [f" red{END}\n"]]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_cannot_be_trained_is_said_before_the_first_step(found: dict[str, Any]) -> None:
    errors = found["errors"]
    assert "one labelled answer, and dpo compares two" in errors["labelled"]
    assert "Choose the loss kto or bco" in errors["labelled"]
    assert "its flip is 0.25, which ipo does not use" in errors["flip"]
    assert "all rows have the same" in errors["prompts"]
    assert "it has no margin" in errors["margin"] and "trl-reward" in errors["margin"]
    assert "out of memory with 8 rows of up to 1024 tokens" in errors["memory"] and "lora" in errors["memory"]
    assert "has no chat template" in errors["template"] and "row 1" in errors["template"]
    assert "'nobody/nothing' could not be downloaded from the Hub" in errors["hub"]
    assert "8 rows cannot be divided among 3 processes" in errors["processes"]
    assert "its sides are the same" in errors["same"]
