"""Which of a source's records are taken, and in which order: ``where``, then ``shuffle``, then ``offset``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from gristmill.core.schema import to_frame
from gristmill.core.stages import Rejection
from gristmill.core.weights import batch
from gristmill.pipelines.sources.options import Source

_BATCH, _BATCH_BYTES = 1000, 16 << 20
"""Records that are looked at together, at most."""
_KEPT = "meets the source's where"
Rows = Iterator[Struct | Rejection]


def picked(source: Source, rows: Rows) -> Rows:
    """The rows that the source asks for, rejections among them."""
    if source.where is not None:
        rows = keep_where(source, rows)
    if source.shuffle is not False:
        rows = _shuffled(rows, int(source.shuffle))
    return _behind(rows, source.offset) if source.offset else rows


def keep_where(source: Source, rows: Rows) -> Rows:
    """The rows whose record meets the source's ``where``, and the rejections."""
    from gristmill.filters.expressions import mask

    assert source.where is not None
    while weighed := batch(rows, _BATCH, _BATCH_BYTES):
        taken = [row for row, _ in weighed]
        records = [row for row in taken if not isinstance(row, Rejection)]
        table = to_frame(records, source.record).lazy()
        frame = mask(table, source.where, _KEPT, "source.where", row_by_row=True).collect()
        kept = iter(frame[_KEPT].to_list())
        yield from (row for row in taken if isinstance(row, Rejection) or next(kept))


def _shuffled(rows: Rows, seed: int) -> Rows:
    """The rejections, then the records by a hash of their ids: the same order for the same records, in
    whatever order they were read."""
    records = []
    for row in rows:
        if isinstance(row, Rejection):
            yield row
        else:
            records.append(row)

    def place(record: Any) -> bytes:
        return hashlib.blake2b(f"{seed}\x1f{record.id}".encode(), digest_size=16).digest()

    yield from sorted(records, key=place)


def _behind(rows: Rows, offset: int) -> Rows:
    """The rows behind the first ``offset`` records."""
    passed = 0
    for row in rows:
        if passed >= offset:
            yield row
        elif not isinstance(row, Rejection):
            passed += 1
