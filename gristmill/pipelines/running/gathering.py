"""Rows of tables on disk in another order, by way of files where memory is short: an external sort.

The order is known before any row is read. Each part is read once, its rows go into a buffer, and a full
buffer is written to a scratch file in the wanted order, cut at the same places as all others. A stretch of
the result is then a stretch of each file. Own code: Polars' streaming sort and DuckDB were measured beside it
(docs/scale.md).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from gristmill.core.schema import schema
from gristmill.pipelines.rundir import parts
from gristmill.pipelines.rundir.directory import disk_errors

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

_TO = "\x1fto"
"""The column with the place of a row in the result."""


class Table(NamedTuple):
    """The rows of a stage, in its folder, and their type."""

    folder: Path
    record: type[Struct]

    def scan(self) -> pl.LazyFrame:
        """The rows, lazily."""
        return parts.scan(self.folder, self.record)

    def pieces(self) -> Iterator[pl.LazyFrame]:
        """The rows of one part after another, each lazily."""
        import polars as pl

        for path in parts.part_files(self.folder):
            yield pl.scan_parquet(path, schema=schema(self.record))


def gathered(
    tables: Sequence[Table],
    columns: Sequence[str],
    rows: NDArray[np.int64],
    *,
    cuts: NDArray[np.int64] | None = None,
    most_bytes: int,
    scratch: Path,
) -> Iterator[tuple[int, pl.DataFrame]]:
    """These ``columns`` of ``rows``, in that order and stretch by stretch, each with the place of its first.

    A row is told by its number among the rows of all tables, one table after another from 0; it may be named
    several times or never. All tables have the columns, in the same types. ``cuts`` are the places,
    ascending, before which a stretch may begin; by default any. A stretch has about ``most_bytes`` at most,
    or more where two cuts are further apart; in memory are up to three times as many, and 32 bytes a row.

    ``scratch`` is a folder that is made for the files, which take as much of the disk as the rows take
    compressed with LZ4. It is removed at the end. ``RunError`` where the disk is full.
    """
    scratch.mkdir()
    files = _Files(scratch, len(rows), cuts, most_bytes)
    try:
        with disk_errors(scratch):
            for piece in _placed(tables, columns, rows):
                files.add(piece)
        yield from files.stretches()
    finally:
        shutil.rmtree(scratch)


def _placed(
    tables: Sequence[Table], columns: Sequence[str], rows: NDArray[np.int64]
) -> Iterator[pl.DataFrame]:
    """The rows that are wanted of each part, with their places in the result."""
    import numpy as np
    import polars as pl

    to = np.argsort(rows, kind="stable")
    wanted = rows[to]
    start = 0
    for table in tables:
        for piece in table.pieces():
            height = int(piece.select(pl.len()).collect().item())
            low, high = np.searchsorted(wanted, [start, start + height])
            if low < high:
                taken = piece.select(columns).collect()[wanted[low:high] - start]
                yield taken.with_columns(pl.Series(_TO, to[low:high]))
            start += height


class _Files:
    """The buffer, and what it was emptied into."""

    def __init__(self, folder: Path, rows: int, cuts: NDArray[np.int64] | None, most_bytes: int) -> None:
        self._folder = folder
        self._rows = rows
        self._cuts = cuts
        self._most = most_bytes
        self._held: list[pl.DataFrame] = []
        self._bytes = 0
        self._count = 0
        self._bounds: list[int] = []
        """The first place of each stretch, and the number of rows."""

    def add(self, piece: pl.DataFrame) -> None:
        """Take rows in, and empty the buffer where it is full."""
        self._held.append(piece)
        self._bytes += int(piece.estimated_size())
        if self._bytes >= self._most:
            self._flush()

    def stretches(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """The rows in order; whole where they never filled the buffer."""

        if not self._count:
            if self._held:
                yield 0, self._ordered().drop(_TO)
            return
        if self._held:
            with disk_errors(self._folder):
                self._flush()
        for number, low in enumerate(self._bounds[:-1]):
            with disk_errors(self._folder):
                self._held = [_batch(self._folder / f"{file}.arrow", number) for file in range(self._count)]
            yield low, self._ordered().drop(_TO)

    def _ordered(self) -> pl.DataFrame:
        """What is in the buffer in order; it is empty then."""
        import polars as pl

        whole = pl.concat(self._held)
        self._held, self._bytes = [], 0
        return whole.sort(_TO)

    def _flush(self) -> None:
        """Write the buffer as a file with a batch for each stretch."""
        import polars as pl
        import pyarrow as pa

        self._bounds = self._bounds or self._cut(sum(frame.height for frame in self._held))
        whole = self._ordered()
        at = whole[_TO].search_sorted(pl.Series(self._bounds)).to_list()
        kind = whole.clear().to_arrow(compat_level=pl.CompatLevel.oldest()).schema
        empty = pa.RecordBatch.from_pylist([], schema=kind)
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_file(str(self._folder / f"{self._count}.arrow"), kind, options=options) as file:
            for low, high in pairwise(at):
                stretch = whole.slice(low, high - low).to_arrow(compat_level=pl.CompatLevel.oldest())
                file.write(stretch.combine_chunks().to_batches()[0] if high > low else empty)
        self._count += 1

    def _cut(self, held: int) -> list[int]:
        """Where stretches begin, by what the rows in the buffer take; ends with the number of rows."""
        import numpy as np

        step = max(1, held * self._most // max(self._bytes, 1))
        bounds = np.arange(0, self._rows, step)
        if self._cuts is not None:
            bounds = self._cuts[np.searchsorted(self._cuts, bounds, side="right") - 1]
        return [*np.unique(bounds).tolist(), self._rows]


def _batch(path: Path, number: int) -> pl.DataFrame:
    """One stretch of a file."""
    import polars as pl
    import pyarrow as pa

    with pa.OSFile(str(path)) as file:
        batch = pa.ipc.open_file(file).get_batch(number)
        return pl.from_arrow(batch)  # type: ignore[return-value]
