"""Texts that are equal except for case and white space, by a hash of each."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from gristmill.filters.words import lowered, pieces

if TYPE_CHECKING:
    import polars as pl

MARKS = ["\x1fmark0", "\x1fmark1"]
"""The columns with the two halves of a text's hash; null where there is no text."""
_NONE = bytes(16)


def normalised(texts: pl.Series) -> pl.Series:
    """What is compared of texts: NFC in lower case, with one space for any white space."""
    return lowered(texts).str.replace_all(r"\s+", " ").str.strip_chars()


def with_marks(frame: pl.LazyFrame, text: str) -> pl.LazyFrame:
    """The frame with 128 bits of BLAKE2b of each ``normalised`` text in the columns ``MARKS``.

    Of 10^9 different texts two have the same with a chance of 10^-21.
    """
    import polars as pl

    kind = pl.Struct(dict.fromkeys(MARKS, pl.UInt64))
    made = pl.col(text).map_batches(lambda texts: pl.select(pl.struct(marks(texts))).to_series(), kind)
    return frame.with_columns(made.alias("\x1fmarks")).unnest("\x1fmarks")


def marks(texts: pl.Series) -> list[pl.Series]:
    """The columns ``MARKS`` of texts; of what is compared only a piece is held at a time."""
    import numpy as np
    import polars as pl

    said = (text for piece in pieces(texts) for text in normalised(piece))
    digests = b"".join(_NONE if text is None else _digest(text) for text in said)
    halves = np.frombuffer(digests, "<u8").reshape(-1, 2)
    there = texts.is_not_null()
    return [
        pl.select(pl.when(there).then(pl.Series(halves[:, i]))).to_series().alias(name)
        for i, name in enumerate(MARKS)
    ]


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


def firsts(rows: pl.DataFrame, by: Sequence[str]) -> pl.Series:
    """For each row the ``place`` of the first row that is equal to it in the columns ``by``; null where the
    text is."""
    import polars as pl

    first = pl.col("place").first().over(by)
    return rows.select(first=pl.when(pl.col(MARKS[0]).is_not_null()).then(first)).to_series()
