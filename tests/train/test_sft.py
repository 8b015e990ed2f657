"""Fine-tuning for real, of a tiny random model, in the Python that has torch and TRL."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from paths import TESTS
from train_programs import END, jsonl, trainer, turn

MARKUP = re.compile(
    r"<\|channel\|>final<\|message\|>|</?think>|<\|[^<>|]+\|>|<｜[^<>｜]+｜>|<(?:start|end)_of_turn>|assistant"
)
END_OF_TURN = re.compile(r"(<\|[^<>|]+\|>|<｜[^<>｜]+｜>|<end_of_turn>)\s*$")
PROGRAM = TESTS / "train" / "tiny.py"


ASK, SAY = turn("user", "What is the colour of grass?"), turn("assistant", "green.")
DOUBT, SURE = turn("user", "sure?"), turn("assistant", "I am sure.")
ROWS = [
    {"id": "a", "messages": [turn("system", "red"), ASK, SAY, DOUBT, SURE]},
    {"id": "b", "prompt": [ASK, SAY, DOUBT], "completion": [SURE]},
    {"id": "c", "prompt": [ASK], "completion": [SAY, DOUBT, SURE]},
    {"id": "d", "prompt": "The grass is", "completion": " green."},
    {"id": "e", "text": "The sky is blue."},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, rows of every form, and data: twelve rows and one that is too long."""
    where = tmp_path_factory.mktemp("training")
    done = trainer(PROGRAM, "make", where / "model")
    assert done.returncode == 0, done.stderr[-3000:]
    jsonl(where / "rows.jsonl", ROWS)
    rows = [{"prompt": [turn("user", str(i))], "completion": [turn("assistant", "blue")]} for i in range(12)]
    rows.insert(3, {"prompt": [ASK, SAY, turn("user", "0 1 2 3 " * 30)], "completion": [SAY]})
    jsonl(where / "data.jsonl", rows)
    return where


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    done = trainer(PROGRAM, "trials", folder)
    assert done.returncode == 0, done.stderr[-3000:]
    trials: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return trials


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_only_the_models_own_words_carry_loss(found: dict[str, Any]) -> None:
    say, sure = f"green.{END}\n", f"I am sure.{END}\n"
    trained = [row["trained"] for row in found["labels"]]
    assert trained == [[say, sure], [sure], [say, sure], [f" green.{END}"], [f"The sky is blue.{END}"]]
    whole = found["labels"][0]["all"]
    assert whole == "".join(
        f"<|im_start|>{t['role']}\n{t['content']}{END}\n"
        for t in (turn("system", "red"), ASK, SAY, DOUBT, SURE)
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_loss_falls_and_what_is_saved_has_learnt(found: dict[str, Any]) -> None:
    for name in ("full", "seed", "accumulated", "lora", "narrow"):
        metrics = found[name]["metrics"]
        assert metrics["steps"] == 12 and metrics["rows"] == 12
        # Adapters cannot stretch the small random embeddings, by which so small a model gives its logits.
        bar = metrics["first_loss"] - (0.1 if name in ("lora", "narrow") else 1.0)
        assert metrics["last_loss"] < bar, name
        # The model that was merged and saved, not only the one that was trained.
        assert found[name]["loss"] < bar, name
    full, lora = found["full"]["metrics"], found["lora"]["metrics"]
    assert full["trained_parameters"] == full["parameters"] > lora["trained_parameters"] > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_row_that_is_too_long_is_left_out_and_named(found: dict[str, Any], folder: Path) -> None:
    assert found["full"]["metrics"]["rows_too_long"] == 1
    [line] = (folder / "full" / "rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["row"] == 4 and json.loads(line)["tokens"] > 60


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_same_seed_gives_the_same_weights_and_another_gives_others(found: dict[str, Any]) -> None:
    assert found["full"]["weights"] == found["again"]["weights"] != found["seed"]["weights"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_finished_training_is_not_done_again(found: dict[str, Any]) -> None:
    assert found["repeated"] == found["full"]["metrics"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_errors_name_the_value_and_what_to_do(found: dict[str, Any]) -> None:
    errors = found["errors"]
    assert (
        "belongs to another configuration" in errors["other"] and "Choose another output" in errors["other"]
    )
    assert "no module 'q_prj'" in errors["targets"] and "'q_proj'" in errors["targets"]
    assert "3 is more than the model's 2 layers" in errors["layers"]
    assert "all 13 rows are longer than 5 tokens" in errors["short"]
    assert (
        "data.jsonl, row 4: " in errors["forgetful"] and "renders a turn differently" in errors["forgetful"]
    )
    assert "gristmill train weights" in errors["model"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    found: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    options = {"model": str(folder / "model"), "data": str(folder / "data.jsonl"), "gpu": False, "epochs": 4}
    options |= {"learning_rate": 0.01, "batch": 4, "log_every": 1, "max_length": 60, "save_every": 2}
    config.write_text(json.dumps({**options, "output": str(tmp_path / "killed")}))
    killed = trainer(PROGRAM, "train", config, "7")
    assert killed.returncode == -signal.SIGKILL
    checkpoints = tmp_path / "killed" / "checkpoints"
    assert (checkpoints / "checkpoint-6").is_dir() and not (tmp_path / "killed" / "model").exists()
    # One that was cut off while it was written is passed over.
    (checkpoints / "checkpoint-8").mkdir()
    resumed = trainer(PROGRAM, "train", config)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert json.loads(resumed.stdout.splitlines()[-1])["weights"] == found["full"]["weights"]
    lines = (tmp_path / "killed" / "log.jsonl").read_text().splitlines()
    assert [s for line in lines if "loss" in (entry := json.loads(line)) for s in [entry["step"]]] == [
        *range(1, 13)
    ]
    assert not checkpoints.exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_exactly_what_is_marked_carries_loss_with_templates_of_real_models(
    found: dict[str, Any],
) -> None:
    assert len(found["templates"]) >= 10
    said = ["wrong one\n\n1+1=3", "right two", "third one"]
    wrong = []
    for name, pieces in found["templates"].items():
        for marked, expected in (("all", said), ("marked", said[1:2]), ("sides", None)):
            got = [side[0] for side in pieces["sides"]] if marked == "sides" else pieces[marked]
            expected = expected or [said[1], said[2]]
            # What the template writes around what the model says: thoughts, channels, the end of the turn.
            bare = [MARKUP.sub("", piece).strip() for piece in got]
            if bare != expected or not all(END_OF_TURN.search(piece) for piece in got):
                wrong.append((name, marked, got))
        if pieces["part"] != ["third"] or any(len(side) != 1 for side in pieces["sides"]):
            wrong.append((name, pieces["part"], pieces["sides"]))
        theirs = pieces["theirs"] or pieces["all"]
        if [MARKUP.sub("", p).strip() for p in theirs] != [MARKUP.sub("", p).strip() for p in pieces["all"]]:
            wrong.append((name, theirs, pieces["all"]))
    assert wrong == []
    assert sum(pieces["theirs"] is not None for pieces in found["templates"].values()) >= 8


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_train_what_one_does(found: dict[str, Any]) -> None:
    together = found["together"]
    assert together["ends"] == [0, 0] and together["files"] == together["one"]["files"]
    assert len(together["two"]) == 6
    assert together["two"] == pytest.approx(together["one"]["losses"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_rows_that_are_put_together_do_not_see_each_other(found: dict[str, Any]) -> None:
    apart, packed = found["packed"]["apart"], found["packed"]["packed"]
    assert (apart["metrics"]["steps"], packed["metrics"]["steps"]) == (3, 3)
    assert packed["losses"] == pytest.approx(apart["losses"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sets_are_mixed_in_the_shares_that_were_asked_for(found: dict[str, Any]) -> None:
    assert [one["metrics"]["rows"] for one in found["mixed"]] == [12 + 3, 12 + 12]
    # Each of the four rows is used three times.
    few, many = (one["metrics"]["trained_tokens"] for one in found["mixed"])
    assert 0 < few < many
