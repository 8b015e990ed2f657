"""``derive``: columns by expressions. ``without_examples``: prompts that have lost their worked examples."""

from __future__ import annotations

from collections.abc import Sequence
from keyword import iskeyword
from typing import TYPE_CHECKING, ClassVar

import msgspec

from gristmill.core.errors import RecipeError
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.expressions import Expression, evaluate, looks_at_other_rows, plain

if TYPE_CHECKING:
    import polars as pl

_PROMPTS = ("messages", "prompt")
"""The columns in which records keep the turns that were sent."""


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


class WithoutExamples(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Leave out the worked examples of each row's prompt: its system message and its last turn stay.

    A small model samples with examples what a reward model, or the trained model itself, is to read without
    them. Samples, valued solutions, process rows, pairs and labelled answers have a prompt; any other table
    is refused.
    """

    row_by_row: ClassVar[bool] = True

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The rows in order, with shorter prompts. ``RecipeError`` for rows without a prompt."""
        import polars as pl

        names = frames[0].collect_schema().names()
        column = next((name for name in _PROMPTS if name in names), None)
        if column is None:
            raise RecipeError(
                "without_examples: its rows have no prompt.",
                remedy="Put it behind a stage that gives samples, process rows or pairs.",
            )
        turns = pl.col(column)
        system = turns.list.eval(
            pl.element().filter(pl.element().struct.field("role") == "system")
        ).list.head(1)
        # A prompt of one system message alone is that message, not twice.
        last = turns.list.eval(pl.element().filter(pl.element().struct.field("role") != "system")).list.tail(
            1
        )
        return frames[0].with_columns(pl.concat_list(system, last).alias(column))

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in."""
        return rows[0]
