"""Rollouts and label errors of fixed, binary and adaptive step values, on solvers whose truth is known.

Each problem has a wrong solution of M steps with a hidden first error (uniform over the steps), and each
of its M - 1 proper prefixes a success probability. The prefixes before the error are right. Every method
sees the same rollouts: number i of a prefix is a pure function of problem, prefix and i.

- clean: right prefixes succeed with p between about .1 and 1, rising along the solution; wrong ones never.
- hard: right prefixes succeed with p around .1; wrong ones never.
- noisy: as clean, but a wrong prefix succeeds with p from Beta(1, 19) (mean .05: right by luck, or by
  mending the error), and one right prefix in seven has a tenth of its p (not monotone).

"labels": share of prefix labels that are the truth (mean over problems); "wrong kept" and "right lost":
error rates of the labels of wrong and of right prefixes. "against fixed": mean difference in "labels" to
the raw labels of fixed K = 16 (any of the 16 right), "against inferred" to those drawn from the same 16 by
the model of ``adaptive`` (a right rollout proves what is before it); with 95 % intervals, paired by
problem. "location": share of problems whose first error is found exactly. "AUC" of the values over all
prefixes: the share of right rollouts; for adaptive and "inferred" the posterior; where binary search drew
none, 1 or 0 as it inferred. Costs are relative to what fixed K = 16 really draws, 16 (M - 1); "rounds" are
requests that had to wait for one another.

    python benchmarks/step_values.py [--problems 2000] [--steps 8 20] [--seed 0] [--stage 100]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import math
import random
import re
import statistics
from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import asdict

from gristmill.core.engine import Message, Request
from gristmill.core.records import Sampled
from gristmill.core.stages import Context, derive_seed
from gristmill.core.steps import ValuedSolution
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.step_values.allocation import Allocation, count, exceeds
from gristmill.synth.step_values.estimate import StepValues, outcomes

WORLDS = ("clean", "hard", "noisy")


class Problem(Struct, frozen=True):
    """``first_error`` in 1..M; ``chances[j - 1]`` is the success probability of the prefix of j steps."""

    number: int
    first_error: int
    chances: tuple[float, ...]

    @property
    def truth(self) -> list[bool]:
        """Whether each proper prefix is right."""
        return [j < self.first_error for j in range(1, len(self.chances) + 1)]


@lru_cache(maxsize=1 << 15)
def problem(world: str, steps: int, number: int, seed: int) -> Problem:
    """Problem ``number`` of a world."""
    rng = random.Random(f"{seed}|{world}|{steps}|{number}")
    first_error = rng.randint(1, steps)
    base = 0.02 + 0.2 * rng.random() ** 2 if world == "hard" else 0.1 + 0.6 * rng.random()
    chances = []
    for j in range(1, steps):
        if j >= first_error:
            chances.append(rng.betavariate(1, 19) if world == "noisy" else 0.0)
            continue
        rise = 0.3 if world == "hard" else 1.0
        p = base + (1 - base) * rise * rng.random() * j / steps
        chances.append(p / 10 if world == "noisy" and rng.random() < 1 / 7 else p)
    return Problem(number, first_error, tuple(chances))


def right(seed: int, index: int, chance: float) -> bool:
    """What comes of rollout ``index`` of the prefix whose requests carry ``seed``."""
    digest = hashlib.blake2b(f"{seed + index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < chance


class Streams:
    """The rollouts of one problem, drawn in order and kept, so that every method sees the same."""

    def __init__(self, case: Problem, seed: int) -> None:
        self.case = case
        self._seeds = [derive_seed(seed, f"p{case.number}", j) for j in range(1, len(case.chances) + 1)]
        self._drawn: list[list[bool]] = [[] for _ in case.chances]

    def draw(self, prefix: int, first: int, n: int) -> list[bool]:
        drawn = self._drawn[prefix]
        for i in range(len(drawn), first + n):
            drawn.append(right(self._seeds[prefix], i, self.case.chances[prefix]))
        return drawn[first : first + n]


class Found(Struct):
    """What a method made of one problem."""

    labels: list[bool]
    values: list[float]
    first_error: int | None
    rollouts: int
    rounds: int


def judge(
    allocation: Allocation,
    seen: Sequence[Sequence[bool | None]],
    first_error: int | None,
    inferred: bool = False,
) -> Found:
    """Labels and values, as a user of the record would form them."""
    tallies = [count(o) for o in seen]
    if inferred:
        values = allocation.chances(seen, False)
        labels = [v > 0.5 for v in values]
        first_error = labels.index(False) if False in labels else len(labels)
    elif allocation.scheme == "fixed":
        labels = [exceeds(t.correct, t.decided, allocation.threshold) for t in tallies]
        values = [t.mean or 0.0 for t in tallies]
    elif allocation.scheme == "adaptive":
        values = allocation.chances(seen, False)
        labels = [v > 0.5 for v in values]
    else:
        assert first_error is not None
        labels = [j < first_error for j in range(len(seen))]
        values = [
            t.mean or 0.0 if t.decided else float(label) for t, label in zip(tallies, labels, strict=True)
        ]
    return Found(labels, values, first_error, sum(map(len, seen)), 0)


def solve(allocation: Allocation, streams: Streams, inferred: bool = False) -> Found:
    """The fast path: the allocation alone, without stage and engine."""
    seen: list[list[bool | None]] = [[] for _ in streams.case.chances]
    rounds = 0
    while (decision := allocation.decide(seen, False)).draws:
        rounds += 1
        for index, n in decision.draws:
            seen[index] += streams.draw(index, len(seen[index]), n)
    found = judge(allocation, seen, decision.first_error, inferred)
    found.rounds = rounds
    return found


# The same through the real stage: plain text in steps, a scripted engine, a verifier that reads the answer.


def sample(case: Problem) -> Sampled:
    """The wrong solution as text."""
    steps = [f"Step {j}: it follows that x{j} is {j * j}.\n\n" for j in range(1, len(case.chances) + 1)]
    text = "".join(steps) + f"Step {len(case.chances) + 1}: the answer is 13."
    asked = (Message("user", f"Problem {case.number}: what is 7 + 5?"),)
    return Sampled(
        f"p{case.number}",
        f"q{case.number}",
        0,
        asked[0].content,
        "12",
        asked,
        text,
        "stop",
        9,
        len(text.split()),
        Verdict(Outcome.INCORRECT, 0.0, "13"),
    )


async def verify(completion: str, reference: str) -> Verdict:
    """Reads the last "answer is N"."""
    found = re.findall(r"answer is (\d+)", completion)
    if not found:
        return Verdict(Outcome.UNPARSEABLE)
    return Verdict(Outcome.CORRECT if found[-1] == reference else Outcome.INCORRECT, extracted=found[-1])


def solve_by_stage(
    allocation: Allocation, cases: Sequence[Problem], seed: int, *, latency: float = 0.0
) -> list[ValuedSolution]:
    """The records of the stage ``step_values`` over a scripted engine, all problems at once."""
    by_number = {c.number: c for c in cases}

    def answer(request: Request, index: int) -> str:
        case = by_number[int(request.messages[0].content.split()[1].rstrip(":"))]
        prefix = request.prefix.count("Step ")
        good = right(request.seed or 0, index, case.chances[prefix - 1])
        return f"Step {prefix + 1}: the answer is {12 if good else 13}."

    async def run() -> list[ValuedSolution]:
        context = Context(ScriptedEngine(answer, latency=latency), verify, seed)
        stage = StepValues(**asdict(allocation))
        made = await asyncio.gather(*(stage(sample(c), context) for c in cases))
        return [record for records in made for record in records]

    return asyncio.run(run())


def found_in(record: ValuedSolution, allocation: Allocation) -> Found:
    """What the record holds, to be compared with the fast path."""
    return judge(allocation, [outcomes(s.rollouts) for s in record.steps[:-1]], record.first_error)


class Method(Struct, frozen=True):
    """An allocation; with ``inferred`` its labels and values are the posterior of ``adaptive``'s model."""

    allocation: Allocation
    inferred: bool = False


class Result(Struct):
    """A method over many problems: label accuracy of each, the two kinds of label error, and so on."""

    accuracy: list[float]
    wrong_kept: float
    right_lost: float
    located: float
    auc: float
    rollouts: float
    most: int
    rounds: float


def measure(method: Method, world: str, steps: int, problems: int, seed: int) -> Result:
    """Over problems 0 .. ``problems`` - 1 of a world."""
    streams = [_streams(world, steps, number, seed) for number in range(problems)]
    found = [solve(method.allocation, s, method.inferred) for s in streams]
    truths = [s.case.truth for s in streams]
    pairs = list(zip(found, truths, strict=True))
    labels = [(a, b) for f, t in pairs for a, b in zip(f.labels, t, strict=True)]
    return Result(
        accuracy=[statistics.fmean(a == b for a, b in zip(f.labels, t, strict=True)) for f, t in pairs],
        wrong_kept=statistics.fmean(a for a, b in labels if not b),
        right_lost=statistics.fmean(not a for a, b in labels if b),
        located=statistics.fmean(
            f.first_error == s.case.first_error - 1 for f, s in zip(found, streams, strict=True)
        ),
        auc=auc([(v, r) for f, t in pairs for v, r in zip(f.values, t, strict=True)]),
        rollouts=statistics.fmean(f.rollouts for f in found),
        most=max(f.rollouts for f in found),
        rounds=statistics.fmean(f.rounds for f in found),
    )


@lru_cache(maxsize=1 << 15)
def _streams(world: str, steps: int, number: int, seed: int) -> Streams:
    return Streams(problem(world, steps, number, seed), seed)


def auc(scored: Sequence[tuple[float, bool]]) -> float:
    """The chance that a right prefix has the higher value than a wrong one, ties counting half."""
    ranked = sorted(scored)
    positives = sum(label for _, label in ranked)
    negatives = len(ranked) - positives
    if not positives or not negatives:
        return math.nan
    wins, below, at = 0.0, 0, 0
    while at < len(ranked):
        end = at
        while end < len(ranked) and ranked[end][0] == ranked[at][0]:
            end += 1
        good = sum(label for _, label in ranked[at:end])
        bad = end - at - good
        wins += good * (below + bad / 2)
        below, at = below + bad, end
    return wins / (positives * negatives)


def difference(a: Result, b: Result) -> tuple[float, float]:
    """Mean difference of label accuracy over problems (paired) and the half width of its 95 % interval."""
    each = [x - y for x, y in zip(a.accuracy, b.accuracy, strict=True)]
    return statistics.fmean(each), 1.96 * statistics.stdev(each) / math.sqrt(len(each))


FIXED = Method(Allocation(scheme="fixed", k=16))
REFERENCES = (FIXED, Method(Allocation(scheme="fixed", k=16), inferred=True))
METHODS = {
    "fixed K=16": FIXED,
    "fixed K=16, labels inferred": REFERENCES[1],
    "binary K=16": Method(Allocation(scheme="binary")),
    "binary K=24": Method(Allocation(scheme="binary", k=24)),
    "binary K=16, repeat 16": Method(Allocation(scheme="binary", repeat=16)),
    "adaptive .95": Method(Allocation(scheme="adaptive")),
    "adaptive .97": Method(Allocation(scheme="adaptive", confidence=0.97)),
    "adaptive .95, not monotone": Method(Allocation(scheme="adaptive", monotone=False)),
}
NOISY = {
    "fixed K=16, above .125": Method(Allocation(scheme="fixed", threshold=0.125)),
    "fixed K=16, above .125, inferred": Method(Allocation(scheme="fixed", threshold=0.125), inferred=True),
    "binary K=16, above .125": Method(Allocation(scheme="binary", threshold=0.125)),
    "binary K=16, above .125, repeat 16": Method(Allocation(scheme="binary", threshold=0.125, repeat=16)),
    "binary K=16, above .125, repeat 32": Method(Allocation(scheme="binary", threshold=0.125, repeat=32)),
    "adaptive .95, above .125": Method(Allocation(scheme="adaptive", threshold=0.125)),
}
"""Under noise "any rollout right" is no longer the truth; these ask for a share above it."""

COLUMNS = (
    "method",
    "rollouts",
    "of fixed",
    "rounds",
    "labels",
    "wrong kept",
    "right lost",
    "against fixed",
    "against inferred",
    "location",
    "AUC",
)


def table(world: str, steps: int, problems: int, seed: int) -> list[str]:
    """The rows of one world as Markdown."""
    references = [measure(m, world, steps, problems, seed) for m in REFERENCES]
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for name, method in (METHODS | (NOISY if world == "noisy" else {})).items():
        r = measure(method, world, steps, problems, seed)
        changes = [difference(r, reference) for reference in references]
        cells = (
            name,
            f"{r.rollouts:.1f}",
            f"{r.rollouts / references[0].rollouts:.1%}",
            f"{r.rounds:.1f}",
            f"{statistics.fmean(r.accuracy):.2%}",
            f"{r.wrong_kept:.2%}",
            f"{r.right_lost:.2%}",
            *(f"{change:+.2%} ± {margin:.2%}" for change, margin in changes),
            f"{r.located:.1%}",
            f"{r.auc:.4f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Print the tables; then run some problems through the real stage and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=2000)
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 20])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage", type=int, default=100, help="problems also run through the stage")
    args = parser.parse_args()
    for world in WORLDS:
        for steps in args.steps:
            print(f"\n{world}, M = {steps}, {args.problems} problems, seed {args.seed}\n")
            print("\n".join(table(world, steps, args.problems, args.seed)), flush=True)
    cases = [problem("noisy", args.steps[0], i, args.seed) for i in range(args.stage)]
    for name, method in METHODS.items():
        same = agreement(method.allocation, cases, args.seed)
        print(f"through the stage: {name}: {same} of {len(cases)} problems as in the table")


def agreement(allocation: Allocation, cases: Sequence[Problem], seed: int) -> int:
    """How many problems the real stage treats exactly as the fast path does."""
    records = solve_by_stage(allocation, cases, seed)
    fast = [solve(allocation, Streams(c, seed)) for c in cases]
    slow = [found_in(r, allocation) for r in records]
    return sum(
        (a.first_error, a.rollouts, a.values) == (b.first_error, b.rollouts, b.values)
        for a, b in zip(fast, slow, strict=True)
    )


if __name__ == "__main__":
    main()
