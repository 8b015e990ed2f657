"""Balance between the kinds of demonstrations, such as "sure" and "unsure"."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core.records import Demonstration
from gristmill.core.stages import REJECTED_REASON, Filter
from gristmill.filters.order import seeded_order

if TYPE_CHECKING:
    import polars as pl


class BalanceKinds(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keep at most ``ratio`` rows of each ``kind`` for one of the rarest; a seeded hash of ids decides which.

    A model that is tuned on far more "unsure" than "sure" learns to say the former to everything.
    """

    marks_only: ClassVar[bool] = True

    reads: ClassVar[type[Struct]] = Demonstration
    writes: ClassVar[type[Struct]] = Demonstration

    ratio: Annotated[float, Meta(ge=1)] = 1.0
    """Rows of each kind for one of the rarest, at most."""

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        """All rows, with ``REJECTED`` set on those above their share; ids and kinds are held in memory."""
        import polars as pl

        rows = frame.select("id", "kind").collect()
        kinds = rows["kind"].to_list()
        most = int(self.ratio * min(Counter(kinds).values(), default=0))
        seen: Counter[str] = Counter()
        reasons: list[str | None] = [None] * len(kinds)
        for row in seeded_order(seed, rows["id"].to_list()):
            seen[kinds[row]] += 1
            if seen[kinds[row]] > most:
                reasons[row] = f"balance: {kinds[row]} above its share"
        column = pl.LazyFrame({REJECTED_REASON: pl.Series(reasons, dtype=pl.String)})
        return pl.concat([frame, column], how="horizontal")
