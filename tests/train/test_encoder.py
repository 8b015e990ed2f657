"""Training an encoder for grounding: its rows, its weights of labels, and a tiny random model for real."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT, TESTS

from gristmill.core.errors import InputError
from gristmill.pipelines.exports import GroundingClaims
from gristmill.synth.rag import GroundingRow
from gristmill.train import encoder
from gristmill.train.base.claims import LABELS, ClaimRow, premise
from gristmill.train.base.data import form_of, read_as
from gristmill.verifiers.grounding.entailment import EntailmentReading, read_labels

PROGRAM = TESTS / "train" / "tiny_encoder.py"
THINGS, TRAITS = ("tower", "mill", "gate", "barn"), ("tall", "red", "open", "old")


def rows(things: tuple[str, ...] = THINGS) -> list[dict[str, str]]:
    """A passage with a trait: the claim that repeats it, that denies it, or that tells another thing's."""
    made = []
    for number, thing in enumerate(things):
        for trait in TRAITS:
            passage = f"The {thing} is {trait} ."
            other = THINGS[(number + 1) % len(THINGS)]
            made += [
                {"passage": passage, "sentence": passage, "label": "supported"},
                {"passage": passage, "sentence": f"The {thing} is not {trait} .", "label": "contradicted"},
                {"passage": passage, "sentence": f"The {other} is {trait} .", "label": "unsupported"},
            ]
    return made


def jsonl(path: Path, given: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in given))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of the trials; skips where there is no Python for them."""
    python = os.environ.get("GRISTMILL_TRAINER_PYTHON")
    if not python:
        pytest.skip("GRISTMILL_TRAINER_PYTHON names no Python that has torch and transformers")
    folder = tmp_path_factory.mktemp("encoder")
    jsonl(folder / "rows.jsonl", rows())
    jsonl(folder / "test.jsonl", rows(THINGS[:2]))
    jsonl(folder / "alike.jsonl", rows()[::3])
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    for what, code in (("killed", -signal.SIGKILL), ("trials", 0)):
        command = [python, str(PROGRAM), what, str(folder)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == code, done.stderr[-3000:]
    read: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return read


pytestmark = pytest.mark.timeout(900)


@pytest.mark.slow
def test_a_tiny_encoder_learns_and_is_tested(found: dict[str, Any]) -> None:
    whole = found["whole"]
    assert whole["metrics"]["rows"] == 48 and whole["metrics"]["steps"] == 60
    assert whole["metrics"]["last_loss"] < whole["metrics"]["first_loss"] - 0.3
    assert whole["labels"] == {"0": "supported", "1": "contradicted", "2": "unsupported"}
    likeliest = found["test"][:3]
    assert [one["rows"] for one in likeliest] == [8, 8, 8] and sum(one["called"] for one in likeliest) == 24
    for one in found["test"]:
        low, high = one["recall"]
        assert low <= one["right"] / one["rows"] <= high
    measured = whole["metrics"]["measures"]
    assert measured["supported_recall"] == likeliest[0]["right"] / 8
    assert set(found["tested again"]) >= {"supported_precision", "contradicted_recall"}


@pytest.mark.slow
def test_a_killed_encoder_goes_on_with_the_same_losses_and_weights(found: dict[str, Any]) -> None:
    assert found["killed"]["losses"] == found["whole"]["losses"]
    assert found["killed"]["weights"] == found["whole"]["weights"]


@pytest.mark.slow
def test_a_divided_batch_is_the_same_step_and_weights_of_labels_change_it(found: dict[str, Any]) -> None:
    assert found["halved"]["losses"] == pytest.approx(found["not halved"]["losses"], abs=1e-4)
    assert found["uneven"]["weights"] == found["whole"]["weights"], "these labels are as many as each other"


@pytest.mark.slow
def test_a_head_for_entailment_is_trained_further(found: dict[str, Any]) -> None:
    own = found["own head"]
    assert own["labels"] == {"0": "CONTRADICTION", "1": "ENTAILMENT", "2": "NEUTRAL"}
    assert own["metrics"]["last_loss"] < own["metrics"]["first_loss"]


@pytest.mark.slow
def test_the_verifier_reads_the_trained_encoder(found: dict[str, Any]) -> None:
    assert {by for _, by in found["verdicts"]} <= {"encoder", "lexical", "clash", "quote", "facts"}
    assert "encoder" in {by for _, by in found["verdicts"]}


@pytest.mark.slow
def test_rows_that_teach_nothing_are_refused(found: dict[str, Any]) -> None:
    assert "all 48 rows are longer than 5 tokens" in found["errors"]["short"]
    assert "all rows have the same label" in found["errors"]["alike"]


@pytest.mark.slow
def test_the_loss_is_the_weighted_cross_entropy(found: dict[str, Any]) -> None:
    first = math.log(sum(map(math.exp, (1.0, 0.0, -1.0)))) - 1.0
    second = math.log(sum(map(math.exp, (0.5, 0.5, 2.0)))) - 0.5
    summed = 0.5 * first + 2.0 * second
    assert found["loss"] == pytest.approx([summed / 2, summed / 8], abs=1e-5)


def test_each_label_weighs_the_same() -> None:
    labels = [0] * 6 + [1] * 3 + [2]
    weights = encoder.label_weights(labels, balance=True)
    assert weights == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert sum(weights[label] for label in labels) == pytest.approx(len(labels))
    assert encoder.label_weights([0, 0, 2], balance=True) == pytest.approx([0.75, 1.0, 1.5])
    assert encoder.label_weights(labels, balance=False) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("labels", "places"),
    [
        (["contradiction", "entailment", "neutral"], [1, 0, 2]),
        (["supported", "contradicted", "unsupported"], [0, 1, 2]),
        (["SUPPORTS", "REFUTES", "NOT ENOUGH INFO"], [0, 1, 2]),
        (["entailment", "not_entailment"], None),
        (["LABEL_0", "LABEL_1", "LABEL_2"], None),
        (["entailment", "neutral", "contradiction", "other"], None),
    ],
)
def test_a_head_is_kept_if_its_labels_say_what_they_mean(labels: list[str], places: list[int] | None) -> None:
    found = encoder.places_of(dict(enumerate(labels)))
    assert (None if found is None else [found[label] for label in LABELS]) == places
    if places is not None:
        assert read_labels("m", dict(enumerate(labels))) == (places[0], places[1])


def test_a_premise_is_what_grounding_shows_an_encoder() -> None:
    sentences = ["The mill burned in 1911.", "The barn is red.", "A gate leads south.", "Geese live there."]
    row = ClaimRow(" ".join(sentences), "The barn is painted red.", "unsupported")
    assert premise(row, 1) == sentences[1]
    assert premise(row, 3) == " ".join(sentences[:3])
    assert premise(row, None) == row.passage
    assert premise(ClaimRow("", "x", "unsupported"), 3) == ""


def test_precision_and_recall_count_what_an_encoder_says() -> None:
    said = {"a": (0.95, 0.01), "b": (0.5, 0.1), "c": (0.05, 0.92), "d": (0.6, 0.3)}

    def entails(premises: Any, claim: str) -> list[EntailmentReading]:
        return [EntailmentReading(*said[claim]) for _ in premises]

    labels = {"a": "supported", "b": "unsupported", "c": "contradicted", "d": "supported"}
    given = [ClaimRow("p", claim, label) for claim, label in labels.items()]  # type: ignore[arg-type]
    found = {(one.label, one.least): one for one in encoder.measure(entails, given)}
    supported, sure = found["supported", 0.0], found["supported", 0.9]
    assert (supported.called, supported.right, supported.rows) == (3, 2, 2)
    assert (sure.called, sure.right, sure.rows) == (1, 1, 2)
    assert sure.recall == pytest.approx((0.0945, 0.9055), abs=1e-4), "Wilson's interval of 1 of 2"
    contradicted, unsupported = found["contradicted", 0.9], found["unsupported", 0.0]
    assert (contradicted.called, contradicted.right) == (1, 1)
    assert (unsupported.called, unsupported.rows, unsupported.precision) == (0, 1, (0.0, 1.0))


def test_rows_of_a_run_are_the_encoders_and_no_other_trainers(tmp_path: Path) -> None:
    row = GroundingRow("i", "p", "s", "supported", "own", "p1", "s", "agrees")
    [written] = GroundingClaims().rows(row)  # type: ignore[arg-type]
    form = form_of({"id": "i", "passage": "p", "sentence": "s", "label": "supported"})
    assert written is row and form is not None and form.trainers == ("encoder",)
    jsonl(tmp_path / "rows.jsonl", rows())
    with pytest.raises(InputError, match="'gristmill train encoder' takes them"):
        list(read_as(tmp_path / "rows.jsonl", ClaimRow, "sft"))
    (tmp_path / "pairs.jsonl").write_text('{"chosen": [], "rejected": []}\n')
    with pytest.raises(InputError, match="'gristmill train preference'"):
        list(read_as(tmp_path / "pairs.jsonl", ClaimRow, "encoder"))
    (tmp_path / "odd.jsonl").write_text('{"passage": "p", "sentence": "s", "label": "maybe"}\n')
    with pytest.raises(InputError, match="maybe"):
        list(read_as(tmp_path / "odd.jsonl", ClaimRow, "encoder"))
