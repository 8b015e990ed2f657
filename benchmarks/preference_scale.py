"""Seconds and memory of ``strength`` on many preference pairs with an ensemble of ten scorers.

    python benchmarks/preference_scale.py [--sizes 100000 500000 1000000] [--sides]

Each size is made anew as Parquet, and curated into another file by a process of its own, with two threads.
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
from pathlib import Path

import numpy as np
import polars as pl

import gristmill.filters.preferences as curating
from gristmill.core.records import Pair
from gristmill.core.schema import schema


def scale_table(folder: Path, pairs: int, sides: bool) -> None:
    """Parquet as a run writes it: texts of about 60 words, and the scores of ten scorers."""
    kinds = schema(Pair)
    rng = np.random.default_rng(0)
    names = (
        [f"{s}_rm{k}" for k in range(10) for s in ("chosen", "rejected")]
        if sides
        else [f"rm{k}_margin" for k in range(10)]
    )
    verdict = {f.name: f.dtype for f in kinds["scores"].inner.fields}["verdict"]  # type: ignore[attr-defined]
    inner = [f.name for f in kinds["prompt"].inner.fields]  # type: ignore[attr-defined]

    def message(role: str, text: pl.Expr) -> pl.Expr:
        parts = {"role": pl.lit(role), "content": text}
        return pl.concat_list(pl.struct(parts.get(name, pl.lit("")).alias(name) for name in inner))

    for start in range(0, pairs, 50_000):
        count = min(50_000, pairs - start)
        values = rng.normal(size=count * len(names)) + np.repeat(rng.normal(size=count), len(names))
        scores = pl.DataFrame(
            {"row": np.repeat(np.arange(count), len(names)), "name": names * count, "value": values}
        )
        score = pl.struct("name", "value", pl.lit(None, verdict).alias("verdict")).alias("scores")
        scores = scores.select("row", score).group_by("row", maintain_order=True).agg("scores")
        texts = pl.Series(
            "text", [f"{i} " + "some words of an answer " * 12 for i in range(start, start + count)]
        )
        ids = pl.Series("id", [f"p{i}" for i in range(start, start + count)])
        text = pl.col("text")
        frame = pl.DataFrame([ids, texts, scores["scores"]]).select(
            "id",
            pl.col("id").alias("problem_id"),
            pl.lit("made").alias("kind"),
            message("user", text).alias("prompt"),
            message("assistant", text + "good").alias("chosen"),
            message("assistant", text + "bad").alias("rejected"),
            pl.lit(1.0).alias("weight"),
            pl.lit(0.0).alias("flip"),
            "scores",
            pl.lit("{}").alias("meta"),
        )
        frame.cast(dict(kinds)).write_parquet(folder / f"part-{start:08}.parquet", row_group_size=10_000)  # type: ignore[arg-type]


def scale_one(folder: Path, sides: bool) -> None:
    """Curate the Parquet of a folder into another file; prints the seconds, CPU seconds and the most
    memory."""
    files = sorted(folder.glob("part-*.parquet"))
    scorers = [f"rm{k}" if sides else f"rm{k}_margin" for k in range(10)]
    stage = curating.Strength(scorers=scorers, drop=0.1, flip=0.2, soften=0.4)
    pl.Config.set_streaming_chunk_size(8192)  # rows in memory at once, of which each has ten scores or more
    began, used = time.perf_counter(), time.process_time()
    stage([pl.scan_parquet(files)], 0).sink_parquet(folder / "out.parquet", row_group_size=20_000)
    rows = pl.scan_parquet(folder / "out.parquet").select(pl.len()).collect().item()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    load = os.getloadavg()[0]
    print(
        json.dumps(
            {
                "pairs": rows,
                "seconds": round(seconds, 1),
                "cpu": round(cpu, 1),
                "MB": round(memory),
                "load": round(load, 1),
            }
        )
    )


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 500_000, 1_000_000])
    parser.add_argument(
        "--sides", action="store_true", help="scores of both sides in place of a margin for each scorer"
    )
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.folder is not None:
        scale_one(given.folder, given.sides)
        return
    for pairs in given.sizes:
        with tempfile.TemporaryDirectory() as name:
            scale_table(Path(name), pairs, given.sides)
            again = [sys.executable, __file__, "--folder", name, *(["--sides"] if given.sides else [])]
            subprocess.run(again, check=True, env={**os.environ, "POLARS_MAX_THREADS": "2"})


if __name__ == "__main__":
    main()
