"""``head`` and ``take``: the first rows of a table or of each key, or some at random."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from gristmill.core.stages import REJECTED_REASON, Filter
from gristmill.filters.order import seeded_order
from gristmill.filters.tables import key_column

if TYPE_CHECKING:
    import polars as pl


class Take(Filter, frozen=True, forbid_unknown_fields=True):
    """Keep so many rows, in the order they had: the first, or some at random."""

    marks_only: ClassVar[bool] = True

    rows: Annotated[int, Meta(ge=0)]
    """How many rows stay: of the table, or with ``per`` of each key."""
    per: str | None = None
    """A column; ``rows`` of each of its values stay. ``problem`` is the problem of a row (``problem_id``, or
    ``id`` where a record has none)."""
    random: bool = False
    """Whether a seeded hash of the ids chooses the rows, in place of their order. More rows then change the
    choice at its edge only."""

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        """All rows, with a reason for those above the number; ids and keys are held in memory."""
        import polars as pl

        key = None if self.per is None else key_column(frame.collect_schema(), self.per, "take")
        rows = frame.select(
            "id", pl.lit(None).alias("key") if key is None else pl.col(key).alias("key")
        ).collect()
        ids, keys = rows["id"].to_list(), rows["key"].to_list()
        order = seeded_order(seed, ids) if self.random else range(len(ids))
        seen: Counter[object] = Counter()
        reasons: list[str | None] = [None] * len(ids)
        said = f"take: not among {self.rows}" if self.random else f"take: after the first {self.rows}"
        for row in order:
            seen[keys[row]] += 1
            if seen[keys[row]] > self.rows:
                reasons[row] = said if key is None else f"{said} of its {key}"
        column = pl.LazyFrame({REJECTED_REASON: pl.Series(reasons, dtype=pl.String)})
        return pl.concat([frame, column], how="horizontal")
