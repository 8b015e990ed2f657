"""First errors that people marked in solutions of GPT and others: how well what needs no model finds them.

    pip download --no-deps champ-dataset==1.0.0      # MIT; the data set CHAMP; 540 annotations
    python benchmarks/champ.py champ_dataset-1.0.0-py3-none-any.whl [--out rows.jsonl]

Solutions are cut into steps as ``value_steps`` cuts them; the label is the step in which the marked words
begin, -1 where the annotator found no mistake. ``--out`` writes the rows in ProcessBench's form, for the
``predictions`` of a judge or the ``values`` of a process reward model:

    gristmill eval step-values rows.jsonl
"""

from __future__ import annotations

import argparse
import json
import zipfile
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from gristmill.synth.step_values import measures
from gristmill.synth.step_values.steps import Split
from gristmill.verifiers.rules.arithmetic import statements

MEMBER = "champ_dataset/dataset_files/v0.json"


def annotated(wheel: Path) -> Iterator[dict[str, Any]]:
    """Rows with problem, steps and label."""
    with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as file:
        problems = json.load(file)["problems"]
    for name, problem in problems.items():
        for model, note in (problem["fws_annotations"] or {}).items():
            steps = Split()(note["text"])
            label, at = -1, note["start_idx"]
            if at is not None:
                ends = accumulate(map(len, steps))
                label = next(i for i, end in enumerate(ends) if end > at)
            yield {"id": f"{name} {model}", "problem": problem["_text"], "steps": steps, "label": label}


def false_equation(steps: list[str]) -> int:
    """The first step with an equation of numbers that does not hold."""
    return next((i for i, step in enumerate(steps) if not all(ok for _, ok in statements(step))), -1)


WAYS: dict[str, Callable[[list[str]], int]] = {
    "no error, always": lambda steps: -1,
    "the first step": lambda steps: 0,
    "the last step": lambda steps: len(steps) - 1,
    "a false equation": false_equation,
}


def main() -> None:
    """Print ProcessBench's figures of each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = list(annotated(args.wheel))
    if args.out:
        args.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(f"{len(rows)} solutions, {sum(row['label'] < 0 for row in rows)} without a mistake")
    print(f"{'':20} {'error':>6} {'none':>6} {'F1':>6}")
    for name, way in WAYS.items():
        found = measures.process_bench([(row["label"], way(row["steps"])) for row in rows])
        print(f"{name:20} {found.error or 0:6.3f} {found.correct or 0:6.3f} {found.f1 or 0:6.3f}")


if __name__ == "__main__":
    main()
