"""Whose an output folder is."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from gristmill.core.errors import RecipeError, RunError
from gristmill.train.base import running
from gristmill.train.base.processes import in_turn
from gristmill.train.sft import Sft


def test_a_refused_training_leaves_the_folder_to_a_corrected_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("config.json", "model.safetensors", "data.jsonl"):
        (tmp_path / name).write_text("{}")

    def refuse(*names: str) -> None:
        raise RecipeError("batch: too large.", remedy="--set batch=7.")

    monkeypatch.setattr(running, "need", refuse)
    out = tmp_path / "out"

    def train(seed: int) -> Any:
        options = Sft(model=str(tmp_path), data=str(tmp_path / "data.jsonl"), output=str(out), seed=seed)
        return running.run_training(options, lambda options: pytest.fail("not reached"))

    for seed in (0, 1):
        with pytest.raises(RecipeError, match="too large"):
            train(seed)
    (out / "checkpoints").mkdir()
    with pytest.raises(RecipeError, match="too large"):  # of the last one, so it continues
        train(1)
    with pytest.raises(RunError, match="belongs to another configuration"):
        train(0)


def test_processes_of_one_training_write_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    folder, order = tmp_path / "out", list[str]()
    inside, waiting = threading.Event(), threading.Event()

    def second() -> None:
        inside.wait()
        waiting.set()
        with in_turn(folder):
            order.append("second")

    other = threading.Thread(target=second)
    other.start()
    with in_turn(folder):
        inside.set()
        waiting.wait()
        other.join(0.05)  # it would be in here by now
        order.append("first")
    other.join()
    assert order == ["first", "second"]
