"""A seeded order of rows that the order of the input has no say in, and how many rows shares leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING

from gristmill.core.stages import derive_seed

if TYPE_CHECKING:
    import polars as pl


def seeded_order(seed: int, ids: Sequence[str]) -> list[int]:
    """The positions of ``ids`` by a seeded hash of each: more rows change a choice at its edge only."""
    # The id settles equal hashes.
    keys = [(derive_seed(seed, record_id), record_id) for record_id in ids]
    return sorted(range(len(keys)), key=keys.__getitem__)


def seeded_places(seed: int, ids: pl.Series) -> pl.Series:
    """For each of ``ids`` its place in the seeded order, from 0: ``seeded_order`` for many rows."""
    import polars as pl

    hashes = pl.Series([derive_seed(seed, record_id) for record_id in ids.to_list()], dtype=pl.Int64)
    table = pl.DataFrame({"hash": hashes, "id": ids}).with_row_index("row")
    ordered = table.sort("hash", "id").with_row_index("place")
    return ordered.sort("row")["place"].cast(pl.Int64)


def kept_of(counts: Mapping[str, int], weights: Mapping[str, Fraction]) -> dict[str, int]:
    """How many rows of each part make the largest set with these relative sizes.

    The part that is scarcest for its weight is kept whole, each other one to the nearest whole number; parts
    without rows are left out of account.
    """
    scale = min(
        (counts[part] / weight for part, weight in weights.items() if counts[part]), default=Fraction(0)
    )
    return {part: floor(scale * weight + Fraction(1, 2)) for part, weight in weights.items()}
