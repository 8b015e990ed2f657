"""A filter that keeps short answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core import REJECTED_REASON, Filter, Sampled

if TYPE_CHECKING:
    import polars as pl


class Brief(Filter, frozen=True, kw_only=True):
    """Keeps samples of at most ``most`` characters."""

    reads: ClassVar[type[Struct]] = Sampled

    most: Annotated[int, Meta(ge=1)] = 1000
    """The most characters of a completion."""

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        """All rows, with a reason on those that are too long."""
        import polars as pl

        long = pl.col("completion").str.len_chars() > self.most
        reason = pl.when(long).then(pl.lit("too long")).otherwise(pl.lit(None, pl.String))
        return frame.with_columns(reason.alias(REJECTED_REASON))
