"""Scores that a stage on tables gives to samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gristmill.core.records import Sampled
from gristmill.core.schema import schema

if TYPE_CHECKING:
    import polars as pl


def with_scores(frame: pl.LazyFrame, scores: Sequence[dict[str, float | None]]) -> pl.LazyFrame:
    """``frame`` with the ``scores`` of each of its rows, in order, in the place of those of the same
    names."""
    import polars as pl

    dtype: Any = schema(Sampled)["scores"]
    rows = [[{"name": n, "value": v, "verdict": None} for n, v in row.items()] for row in scores]
    names = sorted({name for row in scores for name in row})
    other = pl.element().struct.field("name").is_in(names).not_()
    kept = pl.col("scores").list.eval(pl.element().filter(other)).cast(dtype)
    new = pl.LazyFrame({"vote_scores": pl.Series(rows, dtype=dtype)})
    both = pl.concat([frame, new], how="horizontal")
    return both.with_columns(pl.concat_list(kept, "vote_scores").alias("scores")).drop("vote_scores")
