"""``hierarchy``: pairs compared by several scores in order of importance.

HERON (arXiv 2309.02632): of two answers the most important score decides if it tells them apart by more than
its margin, else the next one. ``combine`` with ``mode: hierarchical`` is the same idea for one answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core.records import Pair
from gristmill.core.stages import Relation
from gristmill.filters.preferences.agreement import Against, opposed
from gristmill.filters.preferences.scores import read_scores

if TYPE_CHECKING:
    import polars as pl


class HierarchyLevel(Struct, frozen=True, forbid_unknown_fields=True):
    """One score of the hierarchy."""

    scorer: str
    """Whose scores, as of ``strength``."""
    margin: Annotated[float, Meta(ge=0)] = 0.0
    """The difference up to which two answers are equal here."""
    lower_is_better: bool = False
    """Whether the lower score is the better one, as of a length or a count of faults."""


class Hierarchy(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keep the pairs whose chosen side is better by the first score that tells the sides apart.

    A score that is missing is passed over. A pair that no score tells apart is rejected as a tie. Pairs get
    the score ``hierarchy_margin``: the difference in the score that decided.
    """

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct] | None] = None

    levels: Annotated[list[HierarchyLevel], Meta(min_length=1)]
    """The scores, the most important first."""
    against: Against = "drop"
    """What becomes of pairs whose rejected side is better: ``drop``, ``flip`` or ``keep``."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The pairs, with reasons for those to reject."""
        import numpy as np

        found = read_scores(frames[0], [level.scorer for level in self.levels], "hierarchy")
        margin, scored = np.zeros(found.height), np.zeros(found.height, bool)
        for level in self.levels:
            own = found.margin(level.scorer) * (-1 if level.lower_is_better else 1)
            margin = np.where((margin == 0) & (np.abs(own) > level.margin), own, margin)
            scored |= ~np.isnan(own)
        rejected = margin < 0
        turned = rejected if self.against == "flip" else np.zeros(found.height, bool)
        return opposed(
            frames[0],
            rejected,
            self.against,
            [(~scored, "hierarchy: not scored"), (margin == 0, "hierarchy: a tie in all scores")],
            "hierarchy",
            scores={"hierarchy_margin": np.where(turned, -margin, margin)},
            seen=found.seen,
        )

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in."""
        return rows[0]
