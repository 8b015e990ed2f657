"""Reward models and process reward models, trained for real from a tiny random model and read back."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from paths import TESTS
from train_programs import END, trainer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PROGRAM = TESTS / "train" / "tiny_rewards.py"
ASKED = f"<|im_start|>user\nWhat is the colour of grass?{END}\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("rewards")
    done = trainer(PROGRAM, folder)
    assert done.returncode == 0, done.stderr[-3000:]
    trials: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return trials


def nll(x: float) -> float:
    """-log sigmoid(x)."""
    return math.log1p(math.exp(-x))


def cosine(a: list[float], b: list[float]) -> float:
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_losses_are_the_closed_forms(found: dict[str, Any]) -> None:
    near, far = 3 / 5, -1 / math.sqrt(2)
    expected = {
        "margin": [0.371101],  # G.7 of the reference: d 1.5, margin 0.7
        "flip": [0.351413],  # G.7: d 1.5, alpha 0.1
        "preference": [0.126928],  # G.14
        "ties": [0.693147, 0.813262],  # G.14
        "centred": [2.25],
        "regression": [(1 + 4) / 2, 1.0],  # the unknown score of the second answer does not count
        "goal": [nll(near) + nll(-far)],
        "soft": [0.771240],  # B.3: target .620115, logits (1.2, -.3)
        "huge": [1000.0],
        "outcome": [0.69816, 0.68816],  # C.7, implicit PRM: the sum of the log-ratios is -0.2
    }
    assert found["forms"].keys() == expected.keys()
    for name, values in expected.items():
        assert found["forms"][name] == pytest.approx(values, abs=1e-5), name


def test_a_batch_has_the_loss_of_its_rows_by_hand(found: dict[str, Any]) -> None:
    """Padding, weights, flips, margins, a tie, centring and the goal-conditioned term at once."""
    rewards, total = found["batches"]["rewards"], 0.0
    for i, (a, b) in enumerate(rewards):
        if i < 3:
            d = a - b - 0.5
            near, far = (
                cosine(found["batches"]["states"][i][0], s) for s in found["batches"]["states"][i][1:]
            )
            total += 2 * (
                0.75 * nll(d) + 0.25 * nll(-d) + 0.01 * (a + b) ** 2 + 0.2 * (nll(near) + nll(-far))
            )
        else:
            total += 0.5 * (nll(a - b) + nll(b - a)) / 2 + 0.01 * (a + b) ** 2
    assert len(rewards) == 4
    assert found["batches"]["total"] == pytest.approx(total, abs=1e-4)


def test_only_the_ends_of_steps_carry_loss(found: dict[str, Any]) -> None:
    tokens = found["tokens"]
    first, second = "The grass is green. 0<extra_0>", "I am sure.<extra_0>"
    assert tokens["text"] == f"{ASKED}{first}{second}{END}\n"
    assert tokens["before each tag"] == [ASKED + first, ASKED + first + second]
    text, labels = tokens["labels"]
    assert text.endswith(f"assistant\nblue<extra_0><extra_0>red<extra_0>{END}\n")
    assert labels == [1, 1, 0]
    assert tokens["answer"] == [f"blue red{END}\n", False]
    assert found["classes"]["trained_tokens"] == 6 * (2 + 1)


def test_one_kind_of_label_is_trained_and_no_row_is_cut(found: dict[str, Any]) -> None:
    assert found["tokens"]["kinds"] == [[0.875, 0.75], [0.125]] * 2
    assert (found["classes"]["rows"], found["classes"]["rows_too_long"]) == (12, 1)


def test_states_of_the_goal_term_are_behind_what_both_sides_share(found: dict[str, Any]) -> None:
    assert found["tokens"]["sides"][0].startswith("<|im_start|>user\n0 What") and found["tokens"]["places"]
    shared = len(found["tokens"]["sides"][0].partition("assistant\n")[0]) // 4
    for (source, goal, other), first, second in found["tokens"]["places"]:
        assert shared < source < goal < first and shared < other < second


def test_a_killed_training_has_the_same_losses_and_weights(found: dict[str, Any]) -> None:
    assert found["killed"] == -9
    assert found["losses"]["resumed"] == found["losses"]["classes"] and len(found["losses"]["classes"]) == 18
    assert found["resumed"]["weights"] == found["classes"]["weights"]


def test_a_divided_batch_is_the_same_step(found: dict[str, Any]) -> None:
    """Rows have one step or two, so a mean of the parts' means would be another loss."""
    assert found["losses"]["parts"] == pytest.approx(found["losses"]["whole"], abs=1e-5)


def test_every_kind_learns(found: dict[str, Any]) -> None:
    for name in ("classes", "words", "labels", "implicit", "pairs", "scored", "begun"):
        assert found[name]["last_loss"] < found[name]["first_loss"], name
    assert found["implicit"]["first_loss"] == pytest.approx(math.log(2))  # the model is its own reference
    assert found["implicit"]["measures"]["accuracy"] == found["pairs"]["measures"]["accuracy"] == 1
    assert found["scored"]["measures"]["error"] < 0.4
    assert 0 < found["labels"]["trained_parameters"] < found["labels"]["parameters"]


def test_a_value_is_trained_after_every_token_as_a_guide_reads_it(found: dict[str, Any]) -> None:
    values = found["values"]
    errors = [
        sum((value - target) ** 2 for value in read) / len(read)
        for read, target in zip(values["read"], values["targets"], strict=True)
    ]
    assert values["total"] == pytest.approx(sum(errors), abs=1e-5)
    assert found["begun"]["trained_tokens"] == sum(map(len, values["read"])) > 2 * len(values["read"])


def test_the_engines_read_what_was_saved(found: dict[str, Any]) -> None:
    read = found["read"]
    for head in ("token", "words"):
        given = [value for row in read[head] for value in row]
        wanted = [value for row in read[f"{head} of Transformers"] for value in row]
        assert len(given) == 4 and given == pytest.approx(wanted, abs=1e-5)
    assert len(read["outputs"][0]) == 2
    good, bad = read["ratios"]
    assert good > 0 > bad


def test_what_cannot_be_trained_is_said_before_the_first_step(found: dict[str, Any]) -> None:
    errors = found["errors"]
    assert "'grass sky' is 4 tokens of this model: 'g' 'ras' 's' ' sky'" in errors["tag"]
    assert "'+', '-'" in errors["tag"] and "add_tokens" in errors["tag"]
    assert errors["word"].startswith("good: 'excellent' is 8 tokens")
    assert "same token" in errors["same"]
    assert "no chat template" in errors["template"] and "no chat template" in errors["reward template"]
    assert "row 1: the file holds pairs" in errors["form"] and "'gristmill train reward'" in errors["form"]
    assert "head: implicit" in errors["answers"] and "not an answer with a label" in errors["steps"]
    assert "finds the step tag '?' 3 times" in errors["in the prompt"]
    assert "'attributes'" in errors["attributes"] and "help, length" in errors["no attribute"]
    assert "none has at most 5 tokens" in errors["short"] and "er-prm(1)" in errors["kind"]
