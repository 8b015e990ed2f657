"""What the stage ``scaffold`` takes for a hint that gives the answer away, on GSM8K's own solutions.

All steps of a solution are a hint that does, all but the last one a hint that should not. Some of these name
the answer nonetheless, or an intermediate result that happens to be the same number: read them by eye
(``--show``). Rows with ``idx`` % 4 == 0 are those that the rules were written on.

    python benchmarks/scaffold_hints.py gsm8k.jsonl [--remainder 1] [--every 4] [--show]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gristmill.core.engine import Request
from gristmill.core.records import Pair, Problem
from gristmill.core.stages import Context
from gristmill.core.verdicts import Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth import Scaffold
from gristmill.verifiers.math import Math

STAGE = Scaffold(asks=False, sound_arithmetic=False)
TUTOR = STAGE.tutor.split("\n", 1)[0]


class Solution(NamedTuple):
    """A problem with the steps of its solution."""

    problem: Problem
    steps: list[str]


class Counts(NamedTuple):
    """Solutions, those that are found with the last step, and the hints that are flagged without it."""

    solutions: int
    found: int
    flagged: list[str]


def solutions(path: Path, every: int, remainder: int) -> Iterator[Solution]:
    """The solutions of two steps and more, without the calculator's marks."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        told, answer = row["answer"].split("####")
        steps = [re.sub(r"<<.*?>>", "", step) for step in told.strip().split("\n") if step.strip()]
        if row["idx"] % every == remainder and len(steps) > 1:
            reference = answer.strip().replace(",", "")
            yield Solution(Problem(str(row["idx"]), row["question"], reference), steps)


def flagged(problem: Problem, hint: str) -> bool:
    """Whether the stage rejects ``hint`` as giving the answer away."""
    verifier = Math()

    def reply(request: Request, index: int) -> str:
        return hint if request.messages[-1].content.startswith(TUTOR) else f"\\boxed{{{problem.answer}}}"

    async def verify(completion: str, reference: str) -> Verdict:
        return verifier(completion, reference)

    [made] = asyncio.run(STAGE(problem, Context(ScriptedEngine(reply), verify, 0)))
    assert isinstance(made, Pair) or "gives the answer away" in made.reason, made
    return not isinstance(made, Pair)


def counts(path: Path, every: int, remainder: int) -> Counts:
    """Both hints of every solution, tried."""
    total = found = 0
    false: list[str] = []
    for problem, steps in solutions(path, every, remainder):
        total += 1
        found += flagged(problem, "\n".join(steps))
        before = "\n".join(steps[:-1])
        if flagged(problem, before):
            false.append(f"{problem.id} ({problem.answer}): {before}")
    return Counts(total, found, false)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--remainder", type=int, default=1)
    parser.add_argument("--show", action="store_true")
    given = parser.parse_args()
    result = counts(given.path, given.every, given.remainder)
    print(f"{result.solutions} solutions: {result.found} found with the last step")
    print(f"{len(result.flagged)} flagged without it")
    if given.show:
        print("\n".join(result.flagged))


if __name__ == "__main__":
    main()
