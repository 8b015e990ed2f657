"""``group`` and ``explode``: the rows of a key as one row with a list, and the items of a list as rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gristmill.core.errors import RecipeError
from gristmill.core.records import Problem
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.tables import PROBLEM, key_column, with_rejected

if TYPE_CHECKING:
    import polars as pl

ROWS = "rows"
"""The column in which ``group`` puts the rows of a key."""


class GroupBy(Relation, frozen=True, forbid_unknown_fields=True):
    """One row for each key, with all rows that have it as a list in the column ``rows``.

    The key is its ``id``, and is in its own column too. Keys come in the order of their first rows, and
    so do the rows of each.
    """

    by: str = PROBLEM
    """The key: a column, or ``problem``, which is ``problem_id``, or ``id`` where a record has none. Rows
    where it is null are rejected."""
    columns: list[str] | None = None
    """Columns that are the same in all rows of a key, to stand beside ``rows`` too; where they are not, the
    first row's value does. By default those of a problem (``problem``, ``answer``, ``level``, ``meta``) when
    rows are grouped by problem, and none otherwise."""

    def apart_by(self, schema: pl.Schema) -> str | None:
        """The key."""
        return key_column(schema, self.by, "group")

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The groups, then the rows that have no key."""
        import polars as pl

        frame, schema = frames[0], frames[0].collect_schema()
        key = key_column(schema, self.by, "group")
        beside = [name for name in self._columns(schema) if name not in ("id", key, ROWS)]
        items = pl.struct(schema.names()).alias(ROWS)
        groups = (
            frame.filter(pl.col(key).is_not_null())
            .group_by(pl.col(key).alias("\x1fkey"), maintain_order=True)
            .agg(pl.col(beside).first(), items)
        )
        own = [] if key == "id" else [pl.col("\x1fkey").alias(key)]
        groups = groups.select(pl.col("\x1fkey").cast(pl.String).alias("id"), *own, *beside, ROWS)
        reason = pl.lit(f"group: {key} is null").alias(REJECTED_REASON)
        return with_rejected(groups, frame.filter(pl.col(key).is_null()).with_columns(reason))

    def _columns(self, schema: pl.Schema) -> list[str]:
        if self.columns is None:
            return [n for n in Problem.__struct_fields__ if n in schema] if self.by == PROBLEM else []
        for name in self.columns:
            if name not in schema:
                raise RecipeError(
                    f"group: columns: {name!r} is not a column.",
                    remedy=f"The columns are: {', '.join(schema)}.",
                )
        return self.columns

    def rows_max(self, rows: Sequence[int]) -> int:
        """A group for each row, at most."""
        return rows[0]


class Explode(Relation, frozen=True, forbid_unknown_fields=True):
    """One row for each item of a list: of ``group`` the inverse.

    Items that are records with an ``id`` become rows of their own, with the other columns of the row they
    were in where they have none of that name. Other items stay in the column, in a row of which all else is
    repeated. Ids that occur again have ``#2``, ``#3`` ... behind them.
    """

    column: str = ROWS
    """The column of lists. A row in which it is null or empty is rejected."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The items, then the rows that have none."""
        import polars as pl

        frame, schema = frames[0], frames[0].collect_schema()
        dtype = schema.get(self.column)
        if not isinstance(dtype, pl.List):
            lists = [name for name, kind in schema.items() if isinstance(kind, pl.List)]
            raise RecipeError(
                f"explode: {self.column!r} is not a column of lists.",
                remedy=f"Those are: {', '.join(lists) or 'none'}.",
            )
        some = pl.col(self.column).list.len() > 0
        rows = frame.filter(some).explode(self.column)
        inner = dict(dtype.inner) if isinstance(dtype.inner, pl.Struct) else {}
        if "id" in inner:
            outer = [name for name in schema if name not in inner and name != self.column]
            fields = [pl.col(self.column).struct.field(name) for name in inner]
            rows = rows.select(*fields, *outer)
        reason = pl.lit(f"explode: {self.column} is empty").alias(REJECTED_REASON)
        none = frame.filter(some.not_() | some.is_null()).with_columns(reason)
        return with_rejected(rows, none)
