"""``where``: keep the rows for which an expression is true."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import msgspec

from gristmill.core.stages import REJECTED_REASON, Filter
from gristmill.filters.expressions import Expression, looks_at_other_rows, mask, plain, shown

if TYPE_CHECKING:
    import polars as pl


class Keep(Filter, frozen=True, forbid_unknown_fields=True):
    """Keep the rows for which ``condition`` is true; one that is false or null rejects the row."""

    marks_only: ClassVar[bool] = True

    condition: Expression
    """The expression, as in ``verdict == 'correct' AND LENGTH(completion) < 2000``."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "condition", plain(self.condition))

    @property
    def row_by_row(self) -> bool:
        """Unless the condition looks at other rows."""
        return not looks_at_other_rows(self.condition)

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        """All rows, with the condition as the reason for those where it is false or null."""
        import polars as pl

        said = shown(self.condition)
        kept = pl.col(REJECTED_REASON)
        reason = (
            pl.when(kept)
            .then(pl.lit(None, pl.String))
            .when(kept.is_null())
            .then(pl.lit(f"where: {said} is null"))
            .otherwise(pl.lit(f"where: {said}"))
        )
        return mask(frame, self.condition, REJECTED_REASON).with_columns(reason.alias(REJECTED_REASON))
