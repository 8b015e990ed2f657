"""``condition_on_reward``: each pair twice, for a goal that its better and one that its worse answer meets.

Reward-augmented relabelling (arXiv 2410.08067): with the reward -(goal - score)^2 the better answer is
preferred for the goal that is its own score, and the worse one for its. So N pairs make 2 N, of which half
prefer the answer of lower score. A model that is trained on them is asked with the highest goal.

Not as in the released code: the two sides of the second pair are exchanged always, and a pair of equal
scores, which would make two rows that contradict each other, is rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct

from gristmill.core.prompts import fill, require
from gristmill.core.records import Pair
from gristmill.core.schema import message_struct
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.preferences.scores import curated, read_scores, side_score
from gristmill.filters.tables import with_rejected

if TYPE_CHECKING:
    import polars as pl

    from gristmill.filters.preferences.scores import Numbers

GOAL = "Write a response whose overall score would be {goal} out of 10. Do not mention the score."
_ROW, _GOAL = "\x1frow", "\x1fgoal"


class ConditionOnReward(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make of each pair two whose system message gives the score that the chosen answer has.

    The ids are the pair's with ``/better`` and ``/worse`` behind it. Pairs without both scores are rejected,
    as are those in which they are equal.
    """

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct] | None] = None

    scorer: str = ""
    """Whose scores of the sides are the goals; by default ``chosen`` and ``rejected``, which sources
    write."""
    system: str = GOAL
    """The system message, before that of the prompt where it has one. ``{goal}`` is the score, a whole number
    without decimals."""

    def __post_init__(self) -> None:
        require("system", self.system, "goal", known={"goal"})

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """Two rows of each pair, next to each other, then the pairs that are rejected."""
        import numpy as np
        import polars as pl

        found = read_scores(frames[0], [self.scorer], "condition_on_reward")
        high, low = (found.values[side_score(side, self.scorer)] for side in ("chosen", "rejected"))
        unknown, tie = np.isnan(high) | np.isnan(low), high == low
        reasons = [
            (unknown, "condition_on_reward: no scores of both sides"),
            (tie, "condition_on_reward: both sides have one score"),
        ]
        numbered = frames[0].with_row_index(_ROW)
        halves = []
        for name, turned in (("better", False), ("worse", True)):
            goal = self._texts(low if turned else high)
            marks = np.full(found.height, turned) & ~unknown & ~tie
            half = curated(numbered, reasons=reasons, turned=marks, columns={_GOAL: goal})
            half = half.with_columns(
                pl.col(_ROW) * 2 + turned, id=pl.col("id") + f"/{name}", prompt=_asked(half)
            )
            halves.append(half.filter(pl.col(REJECTED_REASON).is_null()))
        made = pl.concat(halves).sort(_ROW).drop(_ROW, _GOAL, REJECTED_REASON)
        rejected = curated(frames[0], reasons=reasons).filter(pl.col(REJECTED_REASON).is_not_null())
        return with_rejected(made, rejected)

    def _texts(self, goals: Numbers) -> Any:
        import polars as pl

        return pl.Series([fill(self.system, goal=f"{goal:g}") for goal in goals], dtype=pl.String)

    def rows_max(self, rows: Sequence[int]) -> int:
        """Two for each."""
        return 2 * rows[0]


def _asked(frame: pl.LazyFrame) -> pl.Expr:
    """The prompt with the goal in its system message."""
    import polars as pl

    kind: Any = frame.collect_schema()["prompt"]
    first = pl.col("prompt").list.first()
    has_system = (first.struct.field("role") == "system").fill_null(False)
    text = (
        pl.when(has_system)
        .then(pl.col(_GOAL) + "\n\n" + first.struct.field("content"))
        .otherwise(pl.col(_GOAL))
    )
    message = message_struct(Pair, role=pl.lit("system"), content=text)
    rest = pl.when(has_system).then(pl.col("prompt").list.slice(1)).otherwise(pl.col("prompt"))
    return pl.concat_list(message, rest).cast(kind)


def goal_reward(score: float, goal: float) -> float:
    """-(goal - score)^2: how well an answer of that score meets the goal; 0 is best."""
    return -((goal - score) ** 2)
