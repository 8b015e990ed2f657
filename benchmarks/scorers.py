"""How often scorers that read likelihoods put a true answer above a false one, and whether length does it.

    python benchmarks/scorers.py TruthfulQA.csv MODEL [--questions 100] [--only NAME ...]

The questions are evenly spread over TruthfulQA; the sides of a pair are the file's best answer and its first
incorrect one, neither written here. MODEL is a directory in the format of Transformers. Printed is a row for
each
scorer: the share of pairs that it decides in favour of the true answer (ties are half), with a 95 % Wilson
interval; the same by length alone; and the share among the pairs whose lengths differ by at most 20 %.
Needs torch and transformers.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
from pathlib import Path
from typing import NamedTuple

from gristmill.core.engine import Message
from gristmill.core.prompts import RowValues
from gristmill.core.records import Problem
from gristmill.core.shares import wilson
from gristmill.engines.transformers import Transformers
from gristmill.synth.scorers import Answered, FollowUp, Likelihood, Relevance, Scorer
from gristmill.testing import context

_NEAR = 0.2
SCORERS: dict[str, Scorer] = {
    "likelihood, per token": Likelihood(),
    "likelihood, per answer": Likelihood(per="answer"),
    "relevance": Relevance(),
    "follow_up": FollowUp(),
}


class Case(NamedTuple):
    """A true and a false answer to one question."""

    true: Answered
    false: Answered

    @property
    def near(self) -> bool:
        """Whether the lengths differ by at most 20 % of the longer."""
        a, b = len(self.true.completion), len(self.false.completion)
        return abs(a - b) <= _NEAR * max(a, b)


def cases(file: Path, count: int) -> list[Case]:
    with file.open(encoding="utf-8-sig", newline="") as read:
        rows = list(csv.DictReader(read))
    found = []
    for row in rows[:: max(1, len(rows) // count)][:count]:
        question = row["Question"]
        messages = (Message("user", question),)
        record = RowValues(Problem(question, question))
        true, false = (
            Answered(
                id=question,
                problem_id=question,
                problem=question,
                messages=messages,
                completion=text.strip(),
                reference=None,
                row=record,
            )
            for text in (row["Best Answer"], row["Incorrect Answers"].split(";")[0])
        )
        found.append(Case(true, false))
    return found


def row(name: str, gaps: list[float], given: list[Case]) -> str:
    right = sum(gap > 0 for gap in gaps) + sum(gap == 0 for gap in gaps) / 2
    low, high = wilson(round(right), len(gaps))
    near = [gap for gap, case in zip(gaps, given, strict=True) if case.near]
    alike = sum(gap > 0 for gap in near) / len(near)
    longer = [gap > 0 for gap, case in zip(gaps, given, strict=True)]
    lengths = [len(c.true.completion) > len(c.false.completion) for c in given]
    follows = sum(a == b for a, b in zip(longer, lengths, strict=True)) / len(gaps)
    numbers = f"{right / len(gaps):.2f} [{low:.2f}, {high:.2f}] | {alike:.2f} of {len(near)} | {follows:.2f}"
    return f"| {name} | {numbers} |"


async def run(file: Path, model: str, count: int, only: list[str]) -> None:
    given = cases(file, count)
    print("| scorer | true above false | of those near in length | puts the longer first |")
    print("|---|---|---|---|")
    lengths = [float(len(c.true.completion) - len(c.false.completion)) for c in given]
    print(row("length alone", lengths, given), flush=True)
    async with Transformers(model=model, dtype="float32", batch=16).open() as engine:
        within = context(engine)

        async def value(scorer: Scorer, answer: Answered) -> float:
            [score, *_] = await scorer(answer, within, "s")
            assert score.value is not None
            return score.value

        for name, scorer in SCORERS.items():
            if only and name not in only:
                continue
            both = await asyncio.gather(*(value(scorer, side) for case in given for side in case))
            gaps = [a - b for a, b in zip(both[::2], both[1::2], strict=True)]
            print(row(name, gaps, given), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("model")
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--only", nargs="*", choices=list(SCORERS), default=[])
    arguments = parser.parse_args()
    asyncio.run(run(arguments.file, arguments.model, arguments.questions, arguments.only))
