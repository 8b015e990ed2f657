"""Programs of the tests of trainings, which the Python of ``GRISTMILL_TRAINER_PYTHON`` runs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

END = "<|im_end|>"


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def trainer(program: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A program by the Python that has torch and TRL; skips the test where there is no Python for it."""
    python = os.environ.get("GRISTMILL_TRAINER_PYTHON")
    if not python:
        pytest.skip("GRISTMILL_TRAINER_PYTHON names no Python that has torch and trl")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [python, str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, env=env)


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
