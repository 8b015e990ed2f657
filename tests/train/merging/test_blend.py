"""The loss of blended models against Transformers' own, and its slopes against differences."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT, TESTS

pytestmark = pytest.mark.slow

TEXTS = ["The grass is green.", "The sky is blue.", "I am sure. I am unsure.", "red", "What is the colour?"]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Any:
    python = os.environ.get("GRISTMILL_TRAINER_PYTHON")
    if not python:
        pytest.skip("GRISTMILL_TRAINER_PYTHON names no Python that has torch and transformers")
    folder: Path = tmp_path_factory.mktemp("blend")
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    program = TESTS / "train" / "merging" / "blended.py"
    command = [python, str(program), str(folder), str(TESTS / "train")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_loss_is_that_of_the_model_that_merge_writes(said: Any) -> None:
    assert said["blend"] == pytest.approx(said["merged"], abs=1e-5)
    assert said["base"][0] == pytest.approx(said["base"][1], abs=1e-5)
    assert said["batches"][0] == pytest.approx(said["batches"][1], abs=1e-5)


def test_the_slopes_are_those_of_the_loss(said: Any) -> None:
    assert said["slopes"] == pytest.approx(said["differences"], rel=0.05, abs=1e-4)


def test_tuned_ratios_keep_the_mean_and_lower_the_loss(said: Any) -> None:
    assert sum(said["ratios"]) / 2 == pytest.approx(0.5)
    assert said["ratios"] != [0.5, 0.5] and said["tuned"] == pytest.approx(said["losses"][-1])
    assert said["losses"][-1] < said["losses"][0]
