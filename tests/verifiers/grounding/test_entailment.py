"""The encoder, by a tiny real model in the Python that has torch; and its labels, without one."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from paths import ROOT, TESTS

from gristmill.core.errors import RecipeError
from gristmill.verifiers.grounding.entailment import read_labels


@pytest.mark.slow
def test_a_real_model_accepts_rejects_and_leaves_open(tmp_path: Path) -> None:
    python = os.environ.get("GRISTMILL_TRAINER_PYTHON")
    if not python:
        pytest.skip("GRISTMILL_TRAINER_PYTHON names no Python that has torch and transformers")
    program = TESTS / "verifiers" / "grounding" / "tiny_entailment.py"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [python, str(program), str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["found"] == [["correct", "encoder"], ["incorrect", "encoder"], ["unparseable", "lexical"]]
    assert len(said["long"]) == 1, "a premise that is too long is cut"
    assert "LABEL_0" in said["refused"]


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["ENTAILMENT", "NEUTRAL", "CONTRADICTION"], (0, 2)),
        (["contradiction", "entailment", "neutral"], (1, 0)),
        (["not_entailment", "entailment"], (1, None)),
        (["inconsistent", "consistent"], (1, 0)),
        (["SUPPORTS", "REFUTES", "NOT ENOUGH INFO"], (0, 1)),
    ],
)
def test_labels_are_read_by_what_they_say(labels: list[str], found: tuple[int, int | None]) -> None:
    assert read_labels("x", dict(enumerate(labels))) == found


def test_labels_that_say_nothing_are_refused() -> None:
    with pytest.raises(RecipeError, match="none of its labels means entailment"):
        read_labels("x", {0: "LABEL_0", 1: "LABEL_1"})
