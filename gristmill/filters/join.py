"""``join``: rows of several tables side by side, where they have a key in common."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import mul
from typing import TYPE_CHECKING, ClassVar, Literal

from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.tables import PROBLEM, key_column, with_unique_ids

if TYPE_CHECKING:
    import polars as pl

_KEY, _MATCHED = "\x1fkey", "\x1fmatched"


class Sides(Struct, frozen=True, forbid_unknown_fields=True):
    """The key of a join whose columns have two names."""

    left: str
    """The column of the first table, or ``problem``."""
    right: str
    """The column of each further table, or ``problem``."""


class Join(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Join each row of the first table with the rows of the further tables that have the same key.

    Rows come in the order of the first table and, for one row, of the further. A row that matches several
    keeps its id for the first and has ``#2``, ``#3`` ... behind it for the others. Null matches nothing.
    With several further tables they are joined one after another.
    """

    inputs: ClassVar[tuple[int, int | None]] = (2, None)

    by: str | Sides = PROBLEM
    """The key: a column that all tables have, ``{left: COLUMN, right: COLUMN}``, or ``problem``, which is
    ``problem_id`` in a table that has it and ``id`` in one that has not (the problems themselves)."""
    how: Literal["inner", "left", "semi", "anti"] = "inner"
    """``inner``: rows that match, the others are rejected. ``left``: all rows, with nulls where none
    matches. ``semi``: rows that match, as they are. ``anti``: rows that do not match, as they are."""
    columns: dict[str, str] | list[str] | None = None
    """What to bring from the further tables: a list of columns, or ``{NEW: COLUMN}`` to give them names.
    By default all whose names the table does not have yet; a name that it has is left as it is. With
    several further tables a column is taken from the first that has it."""

    def __post_init__(self) -> None:
        if self.columns is not None and self.how in ("semi", "anti"):
            raise RecipeError(
                f"join: 'columns' are brought along, but how: {self.how} brings none.",
                remedy="Leave out 'columns', or use how: inner.",
            )
        for new in self._wanted() or {}:
            if new in ("id", REJECTED_REASON) or not new.isidentifier():
                raise RecipeError(
                    f"join: columns: {new!r} cannot be the name of a column that is brought along.",
                    remedy="Give it another: columns: {NEW: COLUMN}, of letters, digits and '_'.",
                )

    def _wanted(self) -> dict[str, str] | None:
        """Columns to bring by their new names; ``None``: all whose names are free."""
        if isinstance(self.columns, list):
            return dict(zip(self.columns, self.columns, strict=True))
        return None if self.columns is None else dict(self.columns)

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The joined rows, and the rows of the first table that are none, with the reason."""
        import polars as pl

        table = frames[0].with_columns(pl.lit(None, pl.String).alias(REJECTED_REASON))
        missing = self._wanted()
        for number, further in enumerate(frames[1:], 2):
            brought = self._brought(table.collect_schema(), further.collect_schema(), missing)
            if missing is not None:
                missing = {new: column for new, column in missing.items() if new not in brought}
            table = self._joined(table, further, brought, number)
        if missing:
            has = ", ".join(dict.fromkeys(name for frame in frames[1:] for name in frame.collect_schema()))
            raise RecipeError(
                f"join: no further table has the column {next(iter(missing.values()))!r}.",
                remedy=f"They have: {has}.",
            )
        return with_unique_ids(table)

    def _brought(self, table: pl.Schema, further: pl.Schema, wanted: dict[str, str] | None) -> dict[str, str]:
        """The columns that a further table gives, by their new names."""
        if self.how in ("semi", "anti"):
            return {}
        if wanted is None:
            return {name: name for name in further if name not in table}
        brought = {new: column for new, column in wanted.items() if column in further}
        for new in brought:
            if new in table:
                raise RecipeError(
                    f"join: columns: the table has a column {new!r} already.",
                    remedy=f"Give what is brought another name: columns: {{NEW: {brought[new]}}}.",
                )
        return brought

    def _joined(
        self, table: pl.LazyFrame, further: pl.LazyFrame, brought: dict[str, str], number: int
    ) -> pl.LazyFrame:
        """``table`` with the columns of one more; rows that it rejects keep their place."""
        import polars as pl

        sides = Sides(self.by, self.by) if isinstance(self.by, str) else self.by
        have, there = table.collect_schema(), further.collect_schema()
        own = key_column(have, sides.left, "join")
        other = key_column(there, sides.right, f"join: table {number}")
        if have[own] != there[other]:
            raise RecipeError(
                f"join: {own!r} is {have[own]} and {other!r} of table {number} is {there[other]}.",
                remedy="Make them the same type with the stage 'derive' and CAST(... AS ...).",
            )
        reason = pl.col(REJECTED_REASON)
        # A row that is rejected already has no key, so it matches nothing and stays one row.
        keyed = table.with_columns(pl.when(reason.is_null()).then(pl.col(own)).alias(_KEY))
        rows = further.select(
            pl.col(other).alias(_KEY), *(pl.col(column).alias(new) for new, column in brought.items())
        ).with_columns(pl.lit(True).alias(_MATCHED))
        if self.how in ("semi", "anti"):
            rows = rows.unique(maintain_order=True)
        found = keyed.join(rows, on=_KEY, how="left", maintain_order="left_right")
        if self.how != "left":
            bad = pl.col(_MATCHED).is_null() if self.how != "anti" else pl.col(_MATCHED).is_not_null()
            said = f"join: {'a' if self.how == 'anti' else 'no'} row of table {number} has the same {own}"
            found = found.with_columns(
                pl.when(reason.is_null() & bad).then(pl.lit(said)).otherwise(reason).alias(REJECTED_REASON)
            )
        # The reason stays last, so that the columns brought along follow those that were there.
        return found.select(pl.exclude(_KEY, _MATCHED, REJECTED_REASON), reason)

    def rows_max(self, rows: Sequence[int]) -> int | None:
        """Every row with every other, where columns are brought along."""
        if self.how in ("semi", "anti"):
            return rows[0]
        return reduce(mul, (max(n, self.how == "left") for n in rows[1:]), rows[0])
