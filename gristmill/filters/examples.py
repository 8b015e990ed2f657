"""``without_examples``: rows whose prompt has lost its worked examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from gristmill.core.errors import RecipeError
from gristmill.core.stages import Relation

if TYPE_CHECKING:
    import polars as pl

_PROMPTS = ("messages", "prompt")
"""The columns in which records keep the turns that were sent."""


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
