"""``peer_review``: pairs that two scorers both find easy, in the order of a curriculum.

CRM, Two Minds Better Than One (arXiv 2505.10597), trains two reward models that choose each other's pairs:
those of small loss, from easy to hard. Of it the abstract was read. What can be done on a table is done here:
each scorer marks the share of the pairs with the smallest loss -log sigmoid(margin), and the pairs that both
mark are kept. The exchange between two models in training, batch by batch, is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.records import Pair
from gristmill.core.stages import Relation
from gristmill.filters.preferences.scores import curated, read_scores
from gristmill.filters.preferences.strength import weakest

if TYPE_CHECKING:
    import polars as pl

    from gristmill.filters.preferences.scores import Numbers

_ORDER = "\x1forder"


class PeerReview(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keep the pairs that both of two scorers, or either, find easy, the easiest first.

    Pairs get the score ``difficulty``: the mean of the places, from 0 to 1, that their losses have among all.
    """

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct] | None] = None

    scorers: Annotated[list[str], Meta(min_length=2, max_length=2)]
    """The two scorers, by name, as of ``strength``."""
    share: Annotated[float, Meta(gt=0, lt=1)] = 0.7
    """The share of the pairs that each scorer marks as easy: about 1 less the share of wrong labels."""
    select: Literal["both", "either"] = "both"
    """Whose mark keeps a pair."""
    curriculum: bool = True
    """Whether the pairs come out from easy to hard; else they stay in order."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The pairs, with reasons for those to reject."""
        import numpy as np

        found = read_scores(frames[0], self.scorers, "peer_review")
        margins = [found.margin(scorer) for scorer in self.scorers]
        unknown = np.any(np.isnan(margins), axis=0)
        easy = [~weakest(np.where(unknown, np.nan, m), 1 - self.share) for m in margins]
        kept = easy[0] & easy[1] if self.select == "both" else easy[0] | easy[1]
        difficulty = np.mean([places(np.where(unknown, np.nan, -m)) for m in margins], axis=0)
        table = curated(
            frames[0],
            reasons=[
                (unknown, "peer_review: not scored by both"),
                (~kept, f"peer_review: hard for {'one of them' if self.select == 'both' else 'both'}"),
            ],
            scores={"difficulty": difficulty},
            columns={_ORDER: np.nan_to_num(difficulty, nan=2.0)},
            seen=found.seen,
        )
        return (table.sort(_ORDER, maintain_order=True) if self.curriculum else table).drop(_ORDER)

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in."""
        return rows[0]


def places(values: Numbers) -> Numbers:
    """The place of each value among all, from 0 (the least) to 1; equals have one place, NaN has none."""
    import numpy as np

    known = np.sort(values[~np.isnan(values)])
    found = np.searchsorted(known, values) / max(1, len(known) - 1)
    return np.where(np.isnan(values), np.nan, np.minimum(found, 1.0))
