"""``derive``: columns by expressions."""

from __future__ import annotations

from collections.abc import Sequence
from keyword import iskeyword
from typing import TYPE_CHECKING

import msgspec

from gristmill.core.errors import RecipeError
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.expressions import Expression, evaluate, looks_at_other_rows, plain

if TYPE_CHECKING:
    import polars as pl


class Derive(Relation, frozen=True, forbid_unknown_fields=True):
    """Add columns, or replace them, by expressions over the others."""

    columns: dict[str, Expression]
    """The expression of each column, by its name. All are evaluated on the columns as they were before. A
    column that is there is replaced in its place, a new one is the last; ``id`` stays as it is."""

    def __post_init__(self) -> None:
        for name in self.columns:
            if name in ("id", REJECTED_REASON) or not name.isidentifier() or iskeyword(name):
                raise RecipeError(
                    f"derive: {name!r} cannot be the name of a derived column.",
                    remedy="Use letters, digits and '_', and neither 'id' nor a word of Python's own.",
                )
        kept = {name: plain(expression) for name, expression in self.columns.items()}
        msgspec.structs.force_setattr(self, "columns", kept)

    @property
    def row_by_row(self) -> bool:
        """Unless an expression looks at other rows."""
        return not any(map(looks_at_other_rows, self.columns.values()))

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The rows in order, with the columns."""
        return evaluate(frames[0], self.columns, "derive")

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in."""
        return rows[0]
