"""``split``: train, validation and test, with all rows of a problem in one of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import accumulate
from math import ceil
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, field

from gristmill.core.errors import RecipeError
from gristmill.core.stages import REJECTED_REASON, Relation, derive_seed
from gristmill.filters.duplicates import near_duplicates
from gristmill.filters.tables import PROBLEM, key_column

if TYPE_CHECKING:
    import polars as pl


class SplitParts(Relation, frozen=True, forbid_unknown_fields=True):
    """Say in a column to which part each row belongs; all rows of a key belong to one.

    A seeded hash of the key alone decides, so that rows that are added move no others, and tables with the
    same keys (samples and the pairs made of them) are divided alike. The parts therefore have about their
    shares of the keys, not exactly: of n keys a share p has n p, give or take sqrt(n p (1 - p)).
    """

    shares: Annotated[dict[str, Annotated[float, Meta(ge=0, le=1e9)]], Meta(min_length=1)] = field(
        default_factory=lambda: {"train": 0.8, "validation": 0.1, "test": 0.1}
    )
    """The share of each part, by its name; only their relation counts, 8 to 1 to 1 is the same."""
    by: str = PROBLEM
    """The key: a column, or ``problem``, which is ``problem_id``, or ``id`` where a record has none. A row
    whose key is null is divided by its ``id``."""
    column: str = "part"
    """The column for the part's name."""
    near_duplicates: Annotated[float, Meta(gt=0, le=1)] | None = None
    """Keys whose texts are near-duplicates at this similarity (``filters.near_duplicates``; 0.75 is a good
    start, 1 means equal words) belong to one part too, that of the least of them, so that no question is
    trained on in other words than it is tested in. A row that is added can then move its near-duplicates."""
    text: str = "problem"
    """The column of texts that ``near_duplicates`` compares, of each key the first row's."""

    def __post_init__(self) -> None:
        if not any(self.shares.values()):
            raise RecipeError(
                f"split: shares {self.shares} leave no part for any row.", remedy="Give at least one a share."
            )
        if self.column in ("id", REJECTED_REASON) or not self.column.isidentifier():
            raise RecipeError(
                f"split: {self.column!r} cannot be the name of the column for the part.",
                remedy="Use letters, digits and '_', and not 'id'.",
            )

    def keyed(self, frame: pl.LazyFrame) -> pl.LazyFrame | None:
        """The keys, with the texts where those are compared."""
        key = key_column(frame.collect_schema(), self.by, "split")
        text = () if self.near_duplicates is None else (self.text,)
        return frame.select(*dict.fromkeys(["id", key, *text]))

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The rows in order, with the column."""
        import polars as pl

        frame, name_of = frames[0], self._parts(seed)
        key = pl.col(key_column(frame.collect_schema(), self.by, "split")).cast(pl.String)
        key = key.fill_null(pl.col("id"))
        least = self._alike(frame, key)

        def parts(keys: pl.Series) -> pl.Series:
            known = {key: name_of(least.get(key, key)) for key in keys.unique().to_list()}
            return pl.Series(keys.name, [known[key] for key in keys.to_list()], dtype=pl.String)

        return frame.with_columns(key.map_batches(parts, return_dtype=pl.String).alias(self.column))

    def _alike(self, frame: pl.LazyFrame, key: pl.Expr) -> dict[str, str]:
        """For each key that has a text, the least of the keys with near-duplicates of it."""
        import polars as pl

        if self.near_duplicates is None:
            return {}
        text = pl.col(key_column(frame.collect_schema(), self.text, "split: text", keyword=False))
        rows = frame.select(key=key, text=text.cast(pl.String)).drop_nulls()
        first = rows.unique("key", keep="first", maintain_order=True).sort("key").collect()
        keys = first["key"].to_list()
        groups = near_duplicates(first["text"].to_list(), self.near_duplicates)
        return {own: keys[group] for own, group in zip(keys, groups, strict=True)}

    def _parts(self, seed: int) -> Callable[[str], str]:
        """A function from a key to its part: that in whose share of [0, 2^31) the key's hash lies."""
        # By way of the decimal text: 0.1 is meant to be exactly a tenth.
        ends = list(accumulate(Fraction(str(share)) for share in self.shares.values()))
        bounds = [ceil(end / ends[-1] * 2**31) for end in ends]
        names = list(self.shares)
        # Its own hash: other stages that choose by the hash of ids must not choose by the part.
        return lambda key: names[bisect_right(bounds, derive_seed(seed, f"split\x1f{key}"))]

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in."""
        return rows[0]
