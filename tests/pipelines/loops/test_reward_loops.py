"""Loops that score by models which they have trained, and loops whose model may decline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gristmill.core.knowledge import Response
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.pipelines.loops import Loop, LoopMeasure, run_loop
from gristmill.pipelines.loops import rounds as at_work
from gristmill.pipelines.loops.commands import RAN, needs_torch
from gristmill.pipelines.loops.measuring import measured
from gristmill.pipelines.recipe.plain import convert

REWARD = {"kind": "transformers-reward", "model": "${rm}"}
SCORED = {
    "source": {"path": "samples.jsonl", "reads": "samples"},
    "engines": {"rm": REWARD},
    "stages": [{"stage": "score", "scorer": {"kind": "reward_model", "engine": "rm"}, "score": "reward"}],
}
LOOP: dict[str, Any] = {
    "name": "reward",
    "model": "base",
    "seed": 5,
    "steps": [
        {"name": "rm", "train": "reward", "data": ["pairs.jsonl"]},
        {"name": "scored", "run": SCORED},
    ],
}


def test_a_recipe_with_a_trained_model_is_run_where_the_training_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.jsonl").write_text("{}\n")
    (tmp_path / "base").mkdir()
    asked: list[tuple[list[str], tuple[int, ...]]] = []
    monkeypatch.setattr(at_work, "gristmill", lambda words, log, fine=(0,): asked.append((list(words), fine)))
    run_loop(convert(LOOP, Loop, ""), tmp_path / "out", log=tmp_path / "log.sqlite", say=lambda _: None)
    [trained, ran] = asked
    assert trained[0][0] == "train" and trained[1] == (0,)
    folder = tmp_path / "out" / "round-1"
    words = ["run", str(folder / "scored.recipe.json"), "--runs", str(folder), "--resume", "--quiet"]
    assert ran == ([*words, "--log", str(tmp_path / "log.sqlite")], RAN)
    told = json.loads((folder / "scored.recipe.json").read_text())
    assert told["engines"]["rm"]["model"] == str(folder / "rm" / "model")
    assert (told["name"], told["seed"]) == ("scored", 6)


def test_engines_of_torch_are_known_wherever_they_stand() -> None:
    assert needs_torch({"engine": {"kind": "transformers"}})
    assert needs_torch({"engines": {"a": {"kind": "llamacpp"}, "b": {"kind": "transformers-reward"}}})
    assert not needs_torch({"engine": {"kind": "llamacpp"}, "engines": {}})
    assert not needs_torch({})


class FakeRun:
    """A run whose one stage has responses."""

    stages = ("asked",)

    def __init__(self, responses: list[Response]) -> None:
        self._responses = responses

    def rows(self, stage: str | None = None) -> Any:
        from gristmill.core.schema import to_frame

        return to_frame(self._responses, Response).lazy()


def response(number: int, right: bool, known: bool, refused: bool = False) -> Response:
    verdict = Verdict(Outcome.CORRECT if right else Outcome.INCORRECT)
    said = "I do not know." if refused else "Paris"
    return Response(f"q{number}", "?", "Paris", "{}", said, verdict, refused, confidence=0.9, known=known)


def test_a_measure_of_responses_is_one_of_refusal() -> None:
    rows = [
        response(1, right=True, known=True),
        response(2, right=False, known=False),
        response(3, right=False, known=False, refused=True),
        response(4, right=False, known=True, refused=True),
    ]
    run: Any = FakeRun(rows)

    def value(name: str, where: str | None = None) -> tuple[float | None, int]:
        found = measured(run, LoopMeasure(value=name, where=where), "m")
        return found.value, found.rows

    assert value("accuracy") == (0.5, 4)
    assert value("accuracy_all") == (0.25, 4)
    assert value("willingness") == (0.5, 4)
    assert value("declined_unknown") == (0.5, 4)
    assert value("refusal_rate", "known") == (0.5, 2)
    assert value("accuracy", "id = 'nobody'") == (None, 0)
    # A measure that is no metric of refusal stays an expression over the rows.
    assert value("refused") == (0.5, 4)
