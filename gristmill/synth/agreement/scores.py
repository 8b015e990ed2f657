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
    return _scored(frame, pl.Series(rows, dtype=dtype), sorted({name for row in scores for name in row}))


def with_score_columns(frame: pl.LazyFrame, scores: pl.DataFrame) -> pl.LazyFrame:
    """``frame`` with a score of each column's name, as ``with_scores``; null is the value of a score too."""
    import polars as pl

    dtype: Any = schema(Sampled)["scores"]
    structs = [
        pl.struct(
            pl.lit(name).alias("name"), pl.col(name).alias("value"), pl.lit(None).alias("verdict")
        ).cast(dtype.inner)
        for name in scores.columns
    ]
    return _scored(frame, scores.select(pl.concat_list(structs)).to_series(), scores.columns)


def _scored(frame: pl.LazyFrame, scores: pl.Series, names: Sequence[str]) -> pl.LazyFrame:
    """``frame`` with the lists of ``scores``, in the place of those that have one of ``names``."""
    import polars as pl

    other = pl.element().struct.field("name").is_in(names).not_()
    kept = pl.col("scores").list.eval(pl.element().filter(other)).cast(scores.dtype)
    both = pl.concat([frame, pl.LazyFrame({"vote_scores": scores})], how="horizontal")
    return both.with_columns(pl.concat_list(kept, "vote_scores").alias("scores")).drop("vote_scores")
