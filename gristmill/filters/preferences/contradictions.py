"""``contradictions``: pairs with a score that the critique of the same answer contradicts.

The known fault of UltraFeedback (arXiv 2310.01377; its issue 8): a parser made scores of 10 of about two
thousand that were 1, and their answers were chosen although their critiques find them bad.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.core.prompts import fields
from gristmill.core.records import Pair
from gristmill.core.stages import Filter
from gristmill.filters.preferences.critiques import stance
from gristmill.filters.preferences.scores import SIDES, curated, read_scores, side_score

if TYPE_CHECKING:
    import polars as pl

    from gristmill.filters.preferences.scores import Numbers


class Contradictions(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reject pairs in which an answer has a high score and a critique that blames it, or a low one and
    praise.

    Critiques are in ``meta``, under ``chosen_critique`` and ``rejected_critique``; how they are understood is
    in ``gristmill.filters.preferences.critiques``. An answer without a score or a critique, or whose critique
    neither praises nor blames, is never a reason to reject.
    """

    reads: ClassVar[type[Struct]] = Pair

    scorer: str = ""
    """Whose scores of the sides; by default ``chosen`` and ``rejected``, which sources write."""
    lowest: float = 1.0
    """The lowest score that there is."""
    highest: float = 10.0
    """The highest score that there is."""
    low: Annotated[float, Meta(ge=0, le=1)] = 0.25
    """Up to which part of the way from the lowest to the highest a score is low."""
    high: Annotated[float, Meta(ge=0, le=1)] = 0.75
    """From which part on it is high."""
    stance: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """How clear a critique must be, from 0 to 1 (only praise, or only blame)."""
    critique: str = "critique"
    """The key in ``meta``, behind ``chosen_`` and ``rejected_``."""

    def __post_init__(self) -> None:
        if self.lowest >= self.highest or self.low >= self.high:
            raise RecipeError(
                f"contradictions: lowest {self.lowest:g} and highest {self.highest:g}, low {self.low:g} and "
                f"high {self.high:g} are not in order.",
                remedy="Give the lower number first in both.",
            )

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        """All rows, with the reason for those to reject."""
        import numpy as np

        found = read_scores(frame, [self.scorer], "contradictions")
        metas = [fields(meta) for meta in frame.select("meta").collect()["meta"]]
        reasons = []
        for side in SIDES:
            score = (found.values[side_score(side, self.scorer)] - self.lowest) / (self.highest - self.lowest)
            told = self._stances([meta.get(f"{side}_{self.critique}") for meta in metas])
            blamed = (score >= self.high) & (told <= -self.stance)
            praised = (score <= self.low) & (told >= self.stance)
            reasons += [
                (blamed, f"contradictions: the critique of the {side} side blames it, and its score is high"),
                (
                    praised,
                    f"contradictions: the critique of the {side} side praises it, and its score is low",
                ),
            ]
        return curated(frame, reasons=[(np.asarray(mark, bool), text) for mark, text in reasons])

    @staticmethod
    def _stances(critiques: list[object]) -> Numbers:
        import numpy as np

        told = (stance(one) if isinstance(one, str) else None for one in critiques)
        return np.array([np.nan if one is None else one for one in told], float)
