"""Groups for RL on simulated success rates: adaptive sampling and budgets against fixed n, at equal tokens.

Each problem has its own success rate, drawn from Beta(0.6, 1.2) (mean 1/3). Fixed and adaptive run through
the real stages ``sample`` and ``sample_balanced``, and ``balanced_groups`` makes groups of 8 of what they
drew. Adaptive goes through problems until it has spent as many generated tokens as fixed n did. Budgets come
from ``sampling_budget`` after a pilot of 4 draws, which count.

    python benchmarks/adaptive_groups.py [--problems 2000] [--seed 0]
"""

from __future__ import annotations

import argparse
import asyncio
import random

import polars as pl
from adaptive_sampling import Solver, World, verify
from msgspec import Struct

from gristmill.core.records import Problem, Sampled
from gristmill.core.schema import to_frame
from gristmill.core.stages import REJECTED_REASON, Context, Rejection
from gristmill.filters import BalancedGroups, SamplingBudget
from gristmill.synth import Sample, SampleBalanced

SIZE = 8


class Yield(Struct):
    """What a scheme drew, and which groups came of it."""

    problems: int
    samples: list[Sampled]
    tokens: int

    def line(self, seed: int, rates: dict[str, float]) -> str:
        frame = to_frame(self.samples, Sampled).lazy()
        groups = BalancedGroups(size=SIZE)([frame], seed).filter(pl.col(REJECTED_REASON).is_null()).collect()
        right = (pl.col("verdict").struct.field("outcome") == "correct").sum().alias("right")
        sizes = groups.group_by("problem_id").agg(right, pl.len().alias("n"))
        even = sizes.filter((pl.col("right") == SIZE // 2) & (pl.col("n") == SIZE)).height
        counts = to_frame(self.samples, Sampled).group_by("problem_id").agg(right, pl.len().alias("n"))
        hard = {r["problem_id"] for r in sizes.iter_rows(named=True) if rates[r["problem_id"]] < 0.1}
        some = sum(rate < 0.1 for name, rate in rates.items() if int(name[1:]) < self.problems)
        return (
            f"{self.problems} | {len(self.samples) / self.problems:.1f} | {self.tokens / 1e6:.2f}M | "
            f"{sizes.height} ({sizes.height / self.problems:.0%}) | {even} ({even / self.problems:.0%}) | "
            f"{sizes.height / self.tokens * 1e6:.0f} | {even / self.tokens * 1e6:.0f} | "
            f"{len(hard) / max(some, 1):.0%} | {counts['n'].max()}"
        )


def rate_of(seed: int, name: str) -> float:
    return random.Random(f"{seed}|problem {name}").betavariate(0.6, 1.2)


async def draw(stage: Sample, seed: int, problems: int, tokens: int | None) -> Yield:
    """Run ``stage`` over ``problems``, or over as many as ``tokens`` are enough for."""
    solver, made, number = Solver(World("", True), seed), [], 0
    context = Context(solver, verify, seed)
    while number < problems if tokens is None else solver.generated < tokens:
        record = Problem(f"p{number}", f"problem p{number}", "x")
        made += [s for s in await stage(record, context) if not isinstance(s, Rejection)]
        number += 1
    return Yield(number, made, solver.generated)


def variances(seed: int, problems: int, mean: int, pilot: int) -> tuple[float, float, float]:
    """The sum of p (1 - p) / n over problems at ``mean`` draws each: by fixed n, by budgets after a pilot,
    and by budgets of one who knows the rates; as shares of the first."""
    rates = [rate_of(seed, f"p{i}") for i in range(problems)]
    luck = random.Random(seed)
    right = [sum(luck.random() < p for _ in range(pilot)) for p in rates]

    def total(rows: pl.LazyFrame, share: int, before: int) -> float:
        stage = SamplingBudget(mean=share, least=0 if before else 1, most=64, prior=0.5)
        given = stage([rows], 0).collect()["budget"].to_list()
        return sum(p * (1 - p) / (before + n) for p, n in zip(rates, given, strict=True))

    base = sum(p * (1 - p) / mean for p in rates)
    sure = 10**6
    piloted = pl.LazyFrame({"right": right, "decided": [pilot] * problems})
    known = pl.LazyFrame({"right": [round(p * sure) for p in rates], "decided": [sure] * problems})
    return 1.0, total(piloted, mean - pilot, pilot) / base, total(known, mean, 0) / base


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    system = "Solve."
    print(
        "| scheme | problems | draws each | tokens | groups with a signal | even groups of 8 "
        "| signal a million tokens | even a million tokens | problems under .1 reached | most draws |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    rates = {f"p{i}": rate_of(args.seed, f"p{i}") for i in range(args.problems * 10)}
    for n in (4, 8, 16):
        fixed = asyncio.run(draw(Sample(samples=n, system=system), args.seed, args.problems, None))
        print(f"| fixed {n} | {fixed.line(args.seed, rates)} |")
        for each, most in ((1, 16), (1, 64), (SIZE // 2, 16), (SIZE // 2, 32), (SIZE // 2, 64)):
            stage = SampleBalanced(samples=each, right=each, wrong=each, most=most, system=system)
            found = asyncio.run(draw(stage, args.seed, args.problems, fixed.tokens))
            print(f"| {each} right and {each} wrong, of {most} at most | {found.line(args.seed, rates)} |")
    print("\n| draws each | fixed | budgets after a pilot of 4 | rates known |\n|---|---|---|---|")
    for mean in (8, 16, 32):
        shares = variances(args.seed, args.problems, mean, 4)
        print(f"| {mean} |", " | ".join(f"{share:.3f}" for share in shares), "|")


if __name__ == "__main__":
    main()
