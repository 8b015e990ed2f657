"""The shipped loops with a tiny random model, run by the Python of ``GRISTMILL_TRAINER_PYTHON``.

python tiny_loops.py FOLDER NAME=ROUNDS ...    some of them; writes what came out

Answers are given, some of them right; trainings and reward models are real, of two steps and of a few
thousand parameters.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from tiny import make

from gristmill.cli.main import app
from gristmill.pipelines.loops import Loop, run_loop
from gristmill.pipelines.loops import rounds as at_work
from gristmill.pipelines.recipe.plain import convert, document

LOOPS = Path(at_work.__file__).parents[2] / "data" / "loops"
RIGHT, WRONG = "1 + 1 = 2.\n\\boxed{2}", "1 + 1 = 3.\n\\boxed{3}"
JUDGED = "1 + 1 = 2. Is 2 equal to 2? Yes. [VERIFY] correct."
ANSWERS = [
    {"match": " Is it 3?", "texts": ["1 + 1 = 2. Is 2 equal to 3? No. [VERIFY] wrong."]},
    {"match": " Is it 2?", "texts": [JUDGED, "1 + 1 = 3. Is 3 equal to 2? No. [VERIFY] wrong."]},
    {"match": "Check your last answer", "texts": ["2.\n[VERIFY] correct.", "3.\n[VERIFY] wrong."]},
    {"match": "1 + 1", "texts": [RIGHT, WRONG, "It is 2.\n\\boxed{2}"]},
    {"match": "", "texts": [RIGHT, "It is 3.\n\\boxed{3}"]},
]
SMALL = {"max_steps": 2, "batch": 2, "max_length": 512, "lora": None, "gpu": False}


def gristmill(words: Sequence[str], log: Path, *, fine: Collection[int] = (0,)) -> None:
    """A command in this process, which has loaded torch already."""
    status = app(list(words), standalone_mode=False) or 0
    assert status in fine, f"{words} ended with {status}"


def shrunk(data: Any, folder: Path) -> Any:
    """The loop with few problems, given answers, and trainings of two steps."""
    if isinstance(data, Mapping):
        found = {key: shrunk(value, folder) for key, value in data.items()}
        if found.get("kind") == "llamacpp":
            return {"kind": "scripted", "replies": ANSWERS}
        if "path" in found and str(found["path"]).endswith("arithmetic.jsonl"):
            return {"path": str(folder / "problems.jsonl")}
        if isinstance(found.get("limit"), int):
            found["limit"] = 6
        if "train" in found:
            found["with"] = {**found["with"], **SMALL}
        if "algorithm" in found:
            found |= {"iterations": 4, "branch": 2}
        return found
    return [shrunk(value, folder) for value in data] if isinstance(data, list | tuple) else data


def small(name: str, rounds: int, folder: Path) -> Loop:
    """A shipped loop as it is tried; a recipe that it names by its file is put in its place."""
    data = document(LOOPS / f"{name}.yaml")
    for step in data["steps"]:
        if isinstance(step.get("run"), str):
            kept = {k: v for k, v in document(LOOPS / step["run"]).items() if k not in ("until", "exports")}
            step |= {"run": kept, "set": []}
    return convert({**shrunk(data, folder), "model": str(folder / "model"), "rounds": rounds}, Loop, "")


def trials(folder: Path, wanted: Mapping[str, int]) -> dict[str, Any]:
    make(folder / "model")
    problems = [{"id": f"p{i}", "problem": f"What is 1 + 1? ({i})", "answer": "2"} for i in range(6)]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))
    at_work.gristmill = gristmill
    found: dict[str, Any] = {}
    for name, rounds in wanted.items():
        loop, log = small(name, rounds, folder), folder / f"{name}.sqlite"
        [done] = run_loop(loop, folder / name, beside=LOOPS, log=log)
        found[name] = msgspec.to_builtins(done.rounds)
    return found


if __name__ == "__main__":
    where = Path(sys.argv[1])
    given = {name: int(rounds) for name, _, rounds in (word.partition("=") for word in sys.argv[2:])}
    (where / "found.json").write_text(json.dumps(trials(where, given)))
