"""Memory and processor time of table stages over samples of 1 kB, by way of memory and of the disk.

    python benchmarks/table_memory.py [--rows 1000000] [--memory 1GB] [--ways disk memory polars duckdb]
        [--stages sort group dedupe quality] [--folder DIR]

The samples are made in ``DIR`` (default: a temporary folder) as a run writes them, in parts of 10,000 rows;
a folder that has enough of them is used again. Their text is of words whose frequency falls as one over their
rank and compresses to a third, as in Parquet the text of a model does. Each problem has ten rows, spread
evenly over the table, and one row in ten says what the row before says. Each stage runs in a process of its
own, whose highest resident memory is printed.

``disk`` gives table stages ``--memory``, and ``memory`` all that there is. ``polars`` is the same by its
streaming engine into a file, and ``duckdb`` by DuckDB (``pip install duckdb``) with ``--memory`` as its
limit; both write one file, and keep the order of rows.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl

from gristmill.core.contracts import dry_run
from gristmill.core.records import Sampled
from gristmill.core.schema import record_of, schema
from gristmill.core.stages import REJECTED_DETAIL, REJECTED_REASON
from gristmill.filters import Dedupe, GroupBy, Quality, Sort
from gristmill.filters.quality import LengthLimits, Repetition
from gristmill.pipelines.rundir.directory import StageDir
from gristmill.pipelines.rundir.parts import Parts, encode, part_files
from gristmill.pipelines.running.gathering import Table
from gristmill.pipelines.running.tables import write_table

PART = 10_000
STAGES: dict[str, Any] = {
    "sort": Sort("completion_tokens"),
    "group": GroupBy(),
    "dedupe": Dedupe(near=None),
    "quality": Quality(length=LengthLimits(min_words=3), repetition=Repetition()),
}
STREAMED: dict[str, Any] = {
    "sort": lambda rows: rows.sort("completion_tokens", maintain_order=True),
    "group": lambda rows: rows.group_by("problem_id", maintain_order=True).agg(
        pl.struct(pl.all().exclude("problem_id")).alias("rows")
    ),
    "dedupe": lambda rows: rows.unique("completion", keep="first", maintain_order=True),
}
ORDER = "filename, file_row_number"
QUERIES = {
    "sort": f"SELECT * FROM rows ORDER BY completion_tokens, {ORDER}",
    "group": f"SELECT problem_id, min(({ORDER})) AS first, list(rows ORDER BY {ORDER}) AS members FROM rows "
    "GROUP BY problem_id ORDER BY first",
    "dedupe": "SELECT * FROM rows QUALIFY row_number() OVER "
    f"(PARTITION BY md5(completion) ORDER BY {ORDER}) = 1 ORDER BY {ORDER}",
}


def make(folder: Path, rows: int) -> None:
    """Write samples in parts; those that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    draw, numbers = random.Random(0), np.random.default_rng(0)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 10))) for _ in range(30_000)]
    ranks = list(itertools.accumulate(1 / (i + 20) for i in range(len(words))))
    pool = pl.Series([" ".join(draw.choices(words, cum_weights=ranks, k=37))[:188] for _ in range(400_000)])
    whole = schema(Sampled)
    for start in range(len(part_files(folder)) * PART, rows, PART):
        at = np.arange(start, start + PART)
        said = {str(i): pool.gather(numbers.integers(0, len(pool), PART)) for i in range(5)}
        own = pl.Series(numbers.integers(0, 2**31, PART)).cast(pl.String).alias("own")
        text = pl.DataFrame({"own": own, **said}).select(pl.concat_str(pl.all(), separator=" ")).to_series()
        text = pl.select(pl.when(pl.Series(at % 10 == 9)).then(text.shift(1)).otherwise(text)).to_series()
        frame = pl.DataFrame({"problem": at % (rows // 10), "at": at, "completion": text})
        verdict = {"outcome": "correct", "score": 1.0, "extracted": "7", "rule": "equal", "detail": ""}
        frame = frame.select(
            id=pl.format("p{}/{}", "problem", "at"),
            problem_id=pl.format("p{}", "problem"),
            index=pl.col("at") // (rows // 10),
            problem=pl.format("How much is {} and {}?", "problem", "problem"),
            answer=pl.lit("7"),
            messages=pl.lit([], dtype=whole["messages"]),
            completion="completion",
            finish_reason=pl.lit("stop"),
            prompt_tokens=pl.lit(40),
            completion_tokens=pl.Series(numbers.integers(1, 1000, PART)),
            verdict=pl.struct(**{name: pl.lit(value) for name, value in verdict.items()}),
            scores=pl.lit([], dtype=whole["scores"]),
            model=pl.lit(None, pl.String),
            meta=pl.lit("{}"),
            reasoning=pl.lit(""),
            reasoning_tokens=pl.lit(0),
        )
        path = folder / f"part-{start // PART:05d}.parquet"
        path.write_bytes(encode(frame.cast(dict(whole))))  # type: ignore[arg-type]


def ours(stage: Any, folder: Path, out: Path, share: int | None) -> None:
    """The stage as a run runs it."""
    columns = dict(dry_run("stage", stage, Sampled))
    for name in (REJECTED_REASON, REJECTED_DETAIL):
        columns.pop(name, None)
    node: Any = SimpleNamespace(name="stage", table_stage=stage, writes=record_of(columns, [Sampled]))
    rows = PART if node.writes is Sampled else PART // 10
    writer = Parts(StageDir(out, "stage"), node.writes, rows)
    write_table(node, [Table(folder, Sampled)], 0, writer, rows, share=share)


def queried(query: str, folder: Path, out: Path, memory: str) -> None:
    """The same by DuckDB, with its files in ``out``."""
    import duckdb  # type: ignore[import-not-found, unused-ignore]

    base = duckdb.connect(str(out / "base"))
    base.execute(f"SET memory_limit='{memory}'; SET threads=2; SET temp_directory='{out / 'spilled'}'")
    parts = f"read_parquet('{folder}/part-*.parquet', file_row_number=true, filename=true)"
    base.execute(f"CREATE VIEW rows AS SELECT * FROM {parts}")
    base.execute(f"COPY ({query}) TO '{out / 'rows.parquet'}' (FORMAT parquet, COMPRESSION zstd)")


def measure(way: str, name: str, folder: Path, out: Path, memory: str) -> None:
    """Run one stage one way, and print a row of the table."""
    begun = time.perf_counter()
    if way == "polars":
        STREAMED[name](pl.scan_parquet(part_files(folder))).sink_parquet(out / "rows.parquet")
    elif way == "duckdb":
        queried(QUERIES[name], folder, out, memory)
    else:
        ours(STAGES[name], folder, out, 2**60 if way == "memory" else None)
    used = resource.getrusage(resource.RUSAGE_SELF)
    rows = len(part_files(folder)) * PART
    seconds = f"{used.ru_utime + used.ru_stime:.0f} | {time.perf_counter() - begun:.0f}"
    peak, load = used.ru_maxrss * 1024 / 1e9, os.getloadavg()[0]
    print(f"| {rows:,} | {name} | {way} | {peak:.2f} | {seconds} | {load:.1f} |", flush=True)


def main() -> None:
    """Print a line of a table for each stage and way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--ways", nargs="+", choices=["disk", "memory", "polars", "duckdb"], default=["disk"])
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        return measure(args.ways[0], args.stages[0], *args.measure, args.memory)
    print("| rows | stage | way | peak, GB | processor, s | seconds | load |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=args.folder and args.folder.parent) as name:
        folder = args.folder or Path(name) / "samples"
        make(folder, args.rows)
        for stage, way in itertools.product(args.stages, args.ways):
            if way in ("polars", "duckdb") and stage not in QUERIES:
                continue
            with tempfile.TemporaryDirectory(dir=name) as out:
                own = [f"--ways={way}", f"--stages={stage}", f"--memory={args.memory}"]
                command = [sys.executable, __file__, *own, "--measure", str(folder), out]
                environment = os.environ | {"GRISTMILL_TABLE_MEMORY": args.memory}
                done = subprocess.run(command, env=environment, check=False)
                if done.returncode:
                    print(f"| {args.rows:,} | {stage} | {way} | ended with status {done.returncode} |")
    return None


if __name__ == "__main__":
    main()
