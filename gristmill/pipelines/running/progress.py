"""Progress on standard error: a bar in a terminal; plain lines in a pipe, in a file and in CI."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, TextIO

from msgspec import Struct

Mode = Literal["bar", "lines", "quiet"]
_EVERY: dict[Mode, float] = {"bar": 0.25, "lines": 10.0}


class Progress(Struct):
    """Where the run is. ``rows_total`` is ``None`` while the source has not been counted."""

    stage: str = ""
    rows: int = 0
    rows_total: int | None = None
    tokens: int = 0
    in_flight: int = 0


def default_mode(stream: TextIO) -> Mode:
    """A bar in a terminal, else lines; lines too where the environment has ``CI``, whose logs keep a bar's
    every state."""
    return "bar" if stream.isatty() and not os.environ.get("CI") else "lines"


@asynccontextmanager
async def shown(
    read: Callable[[], Progress], mode: Mode | None = None, stream: TextIO | None = None
) -> AsyncIterator[None]:
    """Show what ``read`` returns, again and again, while the body runs."""
    stream = stream or sys.stderr
    mode = mode or default_mode(stream)
    if mode == "quiet":
        yield
        return
    task = asyncio.create_task(_bar(read, stream) if mode == "bar" else _lines(read, stream))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def count_rows(path: Path) -> int | None:
    """About how many rows a local file has, for the time that is left: lines, or a Parquet file's rows.

    ``None`` where finding out would mean reading much more than counting lines does.
    """
    try:
        if path.suffix == ".parquet":
            import polars as pl

            return int(pl.scan_parquet(path).select(pl.len()).collect().item())
        if path.suffix in (".jsonl", ".ndjson", ".csv", ".tsv"):
            with path.open("rb") as file:
                lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
            return max(0, lines - (path.suffix in (".csv", ".tsv")))
    except OSError:
        return None  # whoever reads the rows says what is wrong with the file
    return None


async def _lines(read: Callable[[], Progress], stream: TextIO) -> None:
    start = last = time.monotonic()
    tokens = 0
    while True:
        await asyncio.sleep(_EVERY["lines"])
        now, at = time.monotonic(), read()
        rate = (at.tokens - tokens) / (now - last)
        last, tokens = now, at.tokens
        rows = f"{at.rows:,}" if at.rows_total is None else f"{at.rows:,} of {at.rows_total:,}"
        left = ""
        if at.rows_total and at.rows:
            left = f", {(now - start) / at.rows * (at.rows_total - at.rows):,.0f} s left"
        print(
            f"{at.stage}: {rows} rows, {rate:,.0f} tokens/s, {at.in_flight} requests in flight{left}",
            file=stream,
            flush=True,
        )


async def _bar(read: Callable[[], Progress], stream: TextIO) -> None:
    from tqdm import tqdm

    at = read()
    bar = tqdm(total=at.rows_total, unit="row", file=stream, desc=at.stage, dynamic_ncols=True, smoothing=0.1)
    last, tokens, rate = time.monotonic(), 0, 0.0
    try:
        while True:
            await asyncio.sleep(_EVERY["bar"])
            now, at = time.monotonic(), read()
            rate += 0.2 * ((at.tokens - tokens) / (now - last) - rate)
            last, tokens = now, at.tokens
            if at.stage != bar.desc:
                bar.reset(total=at.rows_total)
                bar.desc = at.stage
            bar.total = at.rows_total
            bar.n = at.rows
            bar.set_postfix_str(f"{rate:,.0f} tokens/s, {at.in_flight} in flight", refresh=True)
    finally:
        bar.close()
