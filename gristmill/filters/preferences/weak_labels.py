"""``weak_labels`` and ``weak_against_strong``: labels by a weak model, and where a strong one says otherwise.

"Super(ficial)-alignment" (arXiv 2406.11431), of which the abstract was read: a strong model that learns from
a weak one's labels may do as it is told where the weak one knows, and otherwise where it does not. So labels
of low confidence are left out, and the table of ``weak_against_strong`` shows how confidence and disagreement
go together.
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


class WeakLabels(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keep the pairs of whose winner a weak labeller is confident, with that winner as the chosen side."""

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct] | None] = None

    scorer: str
    """The weak labeller, as of ``strength``."""
    confidence: Annotated[float, Meta(ge=0.5, le=1)] = 0.75
    """The least probability that it must give to its winner; exactly one half is a tie and never enough."""
    against: Against = "flip"
    """What becomes of pairs whose rejected side it prefers. By default they are turned round: the labels are
    its own."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The pairs, with reasons for those to reject."""
        import numpy as np

        p = read_scores(frames[0], [self.scorer], "weak_labels").probability(self.scorer)
        sure = np.maximum(p, 1 - p)
        reasons = [
            (np.isnan(p), "weak_labels: not labelled"),
            (p == 0.5, "weak_labels: a tie"),
            (sure < self.confidence, "weak_labels: not confident"),
        ]
        return opposed(frames[0], p < 0.5, self.against, reasons, "weak_labels")

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in."""
        return rows[0]


class WeakBin(Struct, frozen=True):
    """Pairs on which the weak labeller is about equally confident.

    ``disagree`` is the share of them on which the strong one prefers the other side, ``against`` the share on
    which it does so with a probability of at least 0.75. Both are null of no pairs.
    """

    id: str
    pairs: int
    disagree: float | None
    against: float | None


class WeakAgainstStrong(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of how often a strong scorer prefers another side than a weak one, by the weak one's
    confidence.

    Pairs that either has not scored, or on which either says exactly one half, are in the row ``undecided``.
    """

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct] | None] = WeakBin

    weak: str
    """The weak scorer, as of ``strength``."""
    strong: str
    """The strong scorer."""
    bins: Annotated[int, Meta(ge=1, le=100)] = 5
    """The number of ranges into which confidence, from 0.5 to 1, is divided."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The bins from the least confidence to the most, then the undecided."""
        import numpy as np

        from gristmill.core.schema import to_frame

        found = read_scores(frames[0], [self.weak, self.strong], "weak_against_strong")
        if not found.height:
            return to_frame([], WeakBin).lazy()
        weak, strong = (found.probability(scorer) for scorer in (self.weak, self.strong))
        decided = ~np.isnan(weak + strong) & (weak != 0.5) & (strong != 0.5)
        # The strong one's probability for the side that the weak one prefers.
        sure, supported = np.maximum(weak, 1 - weak), np.where(weak > 0.5, strong, 1 - strong)
        place = np.minimum(((np.nan_to_num(sure, nan=0.5) - 0.5) * 2 * self.bins).astype(int), self.bins - 1)
        rows = []
        for at in range(self.bins):
            inside = supported[decided & (place == at)]
            shares = (
                (float((inside < 0.5).mean()), float((inside <= 0.25).mean()))
                if len(inside)
                else (None, None)
            )
            low, high = (0.5 + edge / (2 * self.bins) for edge in (at, at + 1))
            rows.append(WeakBin(f"{low:.3g} to {high:.3g}", len(inside), *shares))
        rows.append(WeakBin("undecided", int((~decided).sum()), None, None))
        return to_frame(rows, WeakBin).lazy()

    def rows_max(self, rows: Sequence[int]) -> int:
        """The bins, and the undecided."""
        return self.bins + 1
