"""The files of one stage: Parquet parts of what it put out, and what it dropped and why."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from gristmill.core.schema import from_frame, schema, to_frame
from gristmill.core.stages import Rejection

if TYPE_CHECKING:
    import polars as pl

    from gristmill.pipelines.rundir.directory import StageDir

REJECTED_FILE = "rejected.parquet"
_PART_BYTES = 32 << 20
"""A part is closed early at this many bytes of records (as msgpack), so that long rows fit in memory."""


class Parts:
    """Writes ``part-*.parquet`` and ``rejected.parquet`` of one stage; holds at most one part in memory.

    The bytes are a function of the rows and of ``part_rows`` alone.
    """

    def __init__(self, folder: StageDir, record: type[Struct] | None, part_rows: int) -> None:
        """``record`` is the type of the rows that are kept; ``None`` writes none of them."""
        self.folder = folder
        self._record = record
        self._part_rows = part_rows
        self._kept: list[Struct] = []
        self._kept_bytes = 0
        self.rows = 0
        """The rows of the frames that were added."""
        self._dropped: list[Rejection] = []
        self._parts = 0
        self._spills = 0
        self._size = msgspec.msgpack.Encoder()
        folder.begin()

    async def add(self, kept: Sequence[Struct], dropped: Sequence[Rejection] = ()) -> None:
        """Take rows in; a full part is written in a thread while the event loop goes on."""
        for record in kept if self._record else ():
            self._kept.append(record)
            self._kept_bytes += len(self._size.encode(record))
            if len(self._kept) >= self._part_rows or self._kept_bytes >= _PART_BYTES:
                await asyncio.to_thread(self._flush_kept)
        self._dropped.extend(dropped)
        if len(self._dropped) >= self._part_rows:
            await asyncio.to_thread(self._spill_dropped)

    def add_frame(self, kept: pl.DataFrame) -> None:
        """Write a frame as the next part."""
        self._write_part(kept)
        self.rows += kept.height

    def add_dropped(self, dropped: Sequence[Rejection]) -> None:
        """Take rejected rows in, blocking."""
        self._dropped.extend(dropped)
        if len(self._dropped) >= self._part_rows:
            self._spill_dropped()

    def finish(self) -> None:
        """Write what is left and put the stage's folder in place."""
        if self._record and (self._kept or not self._parts):
            self._flush_kept()
        if self._spills:
            self._spill_dropped()
            self._merge_spills()
        else:
            self.folder.write(REJECTED_FILE, encode(to_frame(self._dropped, Rejection)))
        self.folder.commit()

    def _flush_kept(self) -> None:
        assert self._record is not None
        self._write_part(to_frame(self._kept, self._record))
        self._kept, self._kept_bytes = [], 0

    def _write_part(self, frame: pl.DataFrame) -> None:
        self.folder.write(f"part-{self._parts:05d}.parquet", encode(frame))
        self._parts += 1

    def _spill(self) -> Path:
        return self.folder.new / f".{self._spills:05d}.parquet"

    def _spill_dropped(self) -> None:
        if self._dropped:
            self.folder.write(self._spill().name, encode(to_frame(self._dropped, Rejection)))
            self._spills += 1
            self._dropped = []

    def _merge_spills(self) -> None:
        import polars as pl

        from gristmill.pipelines.rundir.directory import disk_errors

        spills = [self.folder.new / f".{i:05d}.parquet" for i in range(self._spills)]
        with disk_errors(self.folder.path / REJECTED_FILE):
            with (self.folder.new / REJECTED_FILE).open("wb") as file:
                pl.scan_parquet(spills).sink_parquet(file, row_group_size=self._part_rows)
            for path in spills:
                path.unlink()


def encode(frame: pl.DataFrame) -> bytes:
    """A frame as Parquet. Equal frames give equal bytes.

    It goes through memory so that a full disk is Python's ``OSError`` and not an error of the writer's.
    """
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=3, row_group_size=1 << 30)
    return buffer.getvalue()


def part_files(folder: Path) -> list[Path]:
    """The parts of a stage, in order."""
    return sorted(folder.glob("part-*.parquet"))


def fingerprint(folder: Path) -> str:
    """A hash of the bytes of a stage's parts."""
    digest = hashlib.blake2b(digest_size=16)
    for path in part_files(folder):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def scan(folder: Path, record: type[Struct]) -> pl.LazyFrame:
    """A stage's rows, lazily."""
    import polars as pl

    return pl.scan_parquet(part_files(folder), schema=schema(record))


def read(folder: Path, record: type[Struct]) -> Iterator[Struct]:
    """A stage's rows as records, a slice of a part in memory at a time."""
    import polars as pl

    for path in part_files(folder):
        frame = pl.read_parquet(path, memory_map=False)
        for piece in frame.iter_slices(256):
            yield from from_frame(piece, record)
