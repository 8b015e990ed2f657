"""Votes, pass rates, bands, pairs and balance over millions of sample rows: seconds and memory by rows.

    python benchmarks/rl_scale.py [--rows 500000 1000000 2000000 5000000] [--each 10]

Each size is made anew as a Parquet file and read by a process of its own, which prints the time of each step
and its highest resident memory. Pairs are what any table can say with Polars: the first right with the first
wrong sample of a problem. The others are the stages as a recipe runs them; ``vote`` counts the answers that
the verifier extracted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from gristmill.core.records import Sampled
from gristmill.core.schema import schema
from gristmill.core.stages import REJECTED_REASON
from gristmill.filters import BalancedGroups, Band, PassRate
from gristmill.synth.agreement import Voting


def make(path: Path, rows: int, each: int) -> None:
    """Samples of ``rows / each`` problems, in parts, so that making them takes no more memory than a part."""
    path.mkdir()
    whole, part = schema(Sampled), 500_000
    for number, start in enumerate(range(0, rows, part)):
        at = pl.int_range(start, min(start + part, rows), eager=True)
        problem, index = at // each, at % each
        # A rate for each problem, and an outcome for each sample, by a multiplicative hash.
        rate, luck = (problem * 2654435761 % 1000003) / 1000003, (at * 40503 * 2654435761 % 1000003) / 1000003
        outcome = pl.DataFrame({"rate": rate, "luck": luck}).select(
            pl.when(pl.col("luck") > 0.95)
            .then(pl.lit("unparseable"))
            .when(pl.col("luck") < pl.col("rate") * 0.95)
            .then(pl.lit("correct"))
            .otherwise(pl.lit("incorrect"))
            .alias("outcome")
        )["outcome"]
        answer = pl.when(outcome == "correct").then(pl.lit("7")).otherwise((at % 5).cast(pl.String))
        frame = pl.DataFrame({"at": at, "problem": problem, "index": index, "outcome": outcome})
        frame = frame.select(
            pl.format("p{}/{}", "problem", "index").alias("id"),
            pl.format("p{}", "problem").alias("problem_id"),
            pl.col("index").cast(pl.Int64),
            pl.format("How much is {} and {}?", "problem", "problem").alias("problem"),
            pl.lit("7").alias("answer"),
            pl.lit([], dtype=whole["messages"]).alias("messages"),
            pl.format("It is {} by the {}th way.", "problem", "index").alias("completion"),
            pl.lit("stop").alias("finish_reason"),
            pl.lit(40, pl.Int64).alias("prompt_tokens"),
            (pl.col("at") % 900).cast(pl.Int64).alias("completion_tokens"),
            pl.struct(
                pl.col("outcome"),
                (pl.col("outcome") == "correct").cast(pl.Float64).alias("score"),
                answer.alias("extracted"),
                pl.lit("equal").alias("rule"),
                pl.lit("").alias("detail"),
            ).alias("verdict"),
            pl.lit([], dtype=whole["scores"]).alias("scores"),
            pl.lit(None, pl.String).alias("model"),
            pl.lit("{}").alias("meta"),
            pl.lit("").alias("reasoning"),
            pl.lit(0, pl.Int64).alias("reasoning_tokens"),
        )
        frame.cast(dict(whole)).write_parquet(path / f"part-{number:03}.parquet")  # type: ignore[arg-type]


def pairs(frame: pl.LazyFrame) -> pl.LazyFrame:
    """The first right sample of each problem with its first wrong one."""
    outcome = pl.col("verdict").struct.field("outcome")
    sides = [
        frame.filter(outcome == name).group_by("problem_id").agg(pl.col("completion").first().alias(side))
        for side, name in (("chosen", "correct"), ("rejected", "incorrect"))
    ]
    return sides[0].join(sides[1], on="problem_id")


def kept(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.filter(pl.col(REJECTED_REASON).is_null())


STEPS: dict[str, Callable[[pl.LazyFrame], pl.LazyFrame]] = {
    "vote": lambda frame: kept(Voting(answers="verdict")([frame], 0)),
    "pass_rate": lambda frame: PassRate(pass_at=(1, 4))([frame], 0),
    "band": lambda frame: kept(Band()(frame, 0)),
    "pairs": pairs,
    "balance": lambda frame: kept(BalancedGroups(size=6)([frame], 0)),
}


def measure(path: Path, steps: list[str]) -> None:
    """Each of the steps once, its result written to Parquet; prints seconds, rows and the highest memory."""
    seconds, rows = {}, {}
    for name in steps:
        step, begun = STEPS[name], time.perf_counter()
        made = step(pl.scan_parquet(path / "part-*.parquet")).collect(engine="in-memory")
        made.write_parquet(path / f"out-{name}.parquet")
        seconds[name], rows[name] = time.perf_counter() - begun, made.height
        del made
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime
    print(json.dumps({"seconds": seconds, "rows": rows, "peak": used.ru_maxrss * 1024, "cpu": cpu}))


def main() -> None:
    """Print a line of a table for each size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[500_000, 1_000_000, 2_000_000, 5_000_000])
    parser.add_argument("--each", type=int, default=10)
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        return measure(args.measure, args.steps)
    print(
        "| rows |",
        " | ".join(f"{name}, s" for name in args.steps),
        "| all, s | processor, s | peak, GB | load |",
    )
    print("|---|" + "---|" * (len(args.steps) + 4))
    for count in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "samples"
            make(path, count, args.each)
            load = os.getloadavg()[0]
            command = [sys.executable, __file__, "--measure", str(path), "--steps", *args.steps]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        times = " | ".join(f"{found['seconds'][name]:.1f}" for name in args.steps)
        total = sum(found["seconds"].values())
        rest = f"{total:.1f} | {found['cpu']:.1f} | {found['peak'] / 1e9:.2f} | {load:.1f}"
        print(f"| {count:,} | {times} | {rest} |", flush=True)
    return None


if __name__ == "__main__":
    main()
