"""``shape_steps``: rewards of steps as columns of process rows."""

from __future__ import annotations

from collections.abc import Sequence
from keyword import iskeyword
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.core.steps import ProcessRow
from gristmill.filters.rewards.process import clip_steps, delta_steps, gate_steps, quantile

if TYPE_CHECKING:
    import polars as pl

StepRewards = list[list[float] | None]
"""The rewards of the steps of each row; ``None`` for a row that has none."""


class StepShape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """A reward of steps, made of the values of all rows' steps and of whether each row's answer is right."""

    def __call__(self, rows: Sequence[Sequence[float]], solved: Sequence[bool | None], /) -> StepRewards:
        """As many numbers for each row as it has steps."""
        raise NotImplementedError


class ClipSteps(StepShape, frozen=True, kw_only=True, tag="clip"):
    """Clip (arXiv 2410.15115): min(value - level, 0), so that more good steps add nothing; see
    ``clip_steps``."""

    level: float | None = None
    """What a step must reach to cost nothing; ``null``: the ``quantile`` of the values of all steps."""
    quantile: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """Which share of all steps lies below the level. Our choice: the paper's is not known to us."""

    def __call__(self, rows: Sequence[Sequence[float]], solved: Sequence[bool | None]) -> StepRewards:
        """Numbers of at most 0."""
        values = [value for row in rows for value in row]
        if self.level is None and not values:
            return [[] for _ in rows]
        level = quantile(values, self.quantile) if self.level is None else self.level
        return [clip_steps(row, level) for row in rows]


class DeltaSteps(StepShape, frozen=True, kw_only=True, tag="delta"):
    """Delta (arXiv 2410.15115): each value less the next one, so that the sum is the first one whatever
    follows; see ``delta_steps``."""

    last: bool = True
    """Whether the last step keeps its own value; without it that counts as 0, and the reward for success,
    added separately, speaks for the last step."""

    def __call__(self, rows: Sequence[Sequence[float]], solved: Sequence[bool | None]) -> StepRewards:
        """Numbers that add up to the first step's value."""
        return [delta_steps(row, last=self.last) for row in rows]


class GatedSteps(StepShape, frozen=True, kw_only=True, tag="gated"):
    """PPR's hybrid normalisation (arXiv 2509.25598): value + outcome - 1, where the outcome is
    ``solved`` (1 or 0); see ``gate_steps``. A row whose outcome is not decided has none."""

    def __call__(self, rows: Sequence[Sequence[float]], solved: Sequence[bool | None]) -> StepRewards:
        """Numbers in [0, 1] for right solutions, in [-1, 0] for wrong ones. ``ValueError`` for values outside
        of [0, 1]."""
        return [
            None if right is None else gate_steps(row, float(right))
            for row, right in zip(rows, solved, strict=True)
        ]


class ShapeSteps(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Adds to process rows a column for each reward: a list of numbers, as long as ``steps``.

    The values of ``process_rewards``, ``process_labels``, ``judge_steps`` or ``implicit_rewards`` are what is
    shaped; all columns are of these values, not of one another. No row is rejected. The values of all rows
    are held in memory.
    """

    reads: ClassVar[type[Struct]] = ProcessRow

    rewards: Annotated[dict[str, ClipSteps | DeltaSteps | GatedSteps], Meta(min_length=1)]
    """The rewards by the names of their columns, each with ``kind``: ``clip``, ``delta`` or ``gated``."""

    def __post_init__(self) -> None:
        """Refuses names that cannot be those of new columns."""
        taken = {*ProcessRow.__struct_fields__, REJECTED_REASON}
        for name in self.rewards:
            if name in taken or not name.isidentifier() or iskeyword(name):
                raise RecipeError(
                    f"shape_steps: {name!r} cannot be the name of a reward's column.",
                    remedy="Use letters, digits and '_', and no name that a process row already has.",
                )

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The rows in order, with the columns. ``RecipeError`` for values that a reward cannot be made of."""
        import polars as pl

        rows = frames[0].select("id", "values", "solved").collect()
        values, solved = rows["values"].to_list(), rows["solved"].to_list()
        made = {}
        for name, shape in self.rewards.items():
            try:
                found = shape(values, solved)
            except ValueError as error:
                raise RecipeError(
                    f"shape_steps: {name}: {error}.",
                    remedy="Take values that are chances, such as those of process_labels (soft) or "
                    "process_rewards, or another reward.",
                ) from error
            made[name] = pl.Series(name, found, dtype=pl.List(pl.Float64))
        return frames[0].with_columns(pl.lit(series).alias(name) for name, series in made.items())

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in."""
        return rows[0]
