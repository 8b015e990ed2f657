"""Fine-tuning for real, of a tiny random model, in the Python that has torch and TRL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT, TESTS

PROGRAM = TESTS / "train" / "tiny.py"
END = "<|im_end|>"


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


ASK, SAY = turn("user", "What is the colour of grass?"), turn("assistant", "green.")
DOUBT, SURE = turn("user", "sure?"), turn("assistant", "I am sure.")
ROWS = [
    {"id": "a", "messages": [turn("system", "red"), ASK, SAY, DOUBT, SURE]},
    {"id": "b", "prompt": [ASK, SAY, DOUBT], "completion": [SURE]},
    {"id": "c", "prompt": [ASK], "completion": [SAY, DOUBT, SURE]},
    {"id": "d", "prompt": "The grass is", "completion": " green."},
    {"id": "e", "text": "The sky is blue."},
]


def trainer(*arguments: str | Path, program: Path = PROGRAM) -> subprocess.CompletedProcess[str]:
    """The program of ``tiny.py``, or another; skips the test where there is no Python for it."""
    python = os.environ.get("GRISTMILL_TRAINER_PYTHON")
    if not python:
        pytest.skip("GRISTMILL_TRAINER_PYTHON names no Python that has torch and trl")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [python, str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, env=env)


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, rows of every form, and data: twelve rows and one that is too long."""
    where = tmp_path_factory.mktemp("training")
    done = trainer("make", where / "model")
    assert done.returncode == 0, done.stderr[-3000:]
    jsonl(where / "rows.jsonl", ROWS)
    rows = [{"prompt": [turn("user", str(i))], "completion": [turn("assistant", "blue")]} for i in range(12)]
    rows.insert(3, {"prompt": [ASK, SAY, turn("user", "0 1 2 3 " * 30)], "completion": [SAY]})
    jsonl(where / "data.jsonl", rows)
    return where


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    done = trainer("trials", folder)
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
    killed = trainer("train", config, "7")
    assert killed.returncode == -signal.SIGKILL
    checkpoints = tmp_path / "killed" / "checkpoints"
    assert (checkpoints / "checkpoint-6").is_dir() and not (tmp_path / "killed" / "model").exists()
    # One that was cut off while it was written is passed over.
    (checkpoints / "checkpoint-8").mkdir()
    resumed = trainer("train", config)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert json.loads(resumed.stdout.splitlines()[-1])["weights"] == found["full"]["weights"]
    lines = (tmp_path / "killed" / "log.jsonl").read_text().splitlines()
    assert [s for line in lines if "loss" in (entry := json.loads(line)) for s in [entry["step"]]] == [
        *range(1, 13)
    ]
    assert not checkpoints.exists()
