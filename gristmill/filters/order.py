"""A seeded order of rows that the order of the input has no say in, and how many rows shares leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING

from gristmill.core.stages import derive_seed
from gristmill.filters.words import mixed

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray


def seeded_order(seed: int, ids: Sequence[str]) -> list[int]:
    """The positions of ``ids`` by a seeded hash of each: more rows change a choice at its edge only."""
    # The id settles equal hashes.
    keys = [(derive_seed(seed, record_id), record_id) for record_id in ids]
    return sorted(range(len(keys)), key=keys.__getitem__)


def seeded_places(seed: int, ids: pl.Series) -> pl.Series:
    """For each of ``ids`` its place in a seeded order, from 0, by ``seeded_hashes``: for millions of rows.

    Equal hashes are settled by the id. The order is not that of ``seeded_order``, whose hash is made for each
    id by itself, which takes ten times as long.
    """
    import numpy as np
    import polars as pl

    table = pl.DataFrame({"hash": seeded_hashes(seed, ids), "id": ids})
    order = table.select(pl.arg_sort_by("hash", "id")).to_series().to_numpy()
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return pl.Series("place", places)


def seeded_hashes(seed: int, ids: pl.Series) -> NDArray[np.uint64]:
    """A 64-bit hash of each id with ``seed`` (modulo 2^64): a function of these alone,
    whatever the machine and the version of Polars.

    The UTF-8 bytes are taken 8 at a time as little-endian numbers, the last filled up with zeros, and each is
    added to the hash so far and mixed; the hash begins with the seed and the number of bytes.
    """
    import numpy as np
    import pyarrow as pa

    column = ids.rechunk().to_arrow().cast(pa.large_string())
    _, ends, held = column.buffers()
    places = np.frombuffer(ends, np.int64)[column.offset : column.offset + len(column) + 1]
    # Every 8 bytes that follow one another, as a view; the last text is followed by zeros.
    text = np.concatenate([np.frombuffer(held or b"", np.uint8), np.zeros(8, np.uint8)])
    eights = np.lib.stride_tricks.sliding_window_view(text, 8)
    starts, sizes = places[:-1], np.diff(places)
    made = mixed(mixed(np.full(len(ids), seed % 2**64, np.uint64)) + sizes.astype(np.uint64))
    for at in range(0, int(sizes.max(initial=0)), 8):
        rows = np.flatnonzero(sizes > at)
        word = np.ascontiguousarray(eights[starts[rows] + at]).view("<u8")[:, 0]
        beyond = np.maximum(8 - (sizes[rows] - at), 0).astype(np.uint64) * np.uint64(8)
        word = word & (np.uint64(2**64 - 1) >> beyond)  # without the bytes of the text that follows
        made[rows] = mixed(made[rows] + word)
    return made


def kept_of(counts: Mapping[str, int], weights: Mapping[str, Fraction]) -> dict[str, int]:
    """How many rows of each part make the largest set with these relative sizes.

    The part that is scarcest for its weight is kept whole, each other one to the nearest whole number; parts
    without rows are left out of account.
    """
    scale = min(
        (counts[part] / weight for part, weight in weights.items() if counts[part]), default=Fraction(0)
    )
    return {part: floor(scale * weight + Fraction(1, 2)) for part, weight in weights.items()}
