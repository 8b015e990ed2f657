"""``agreement``: pairs on whose winner all scorers agree, as SCIR (arXiv 2502.08922) has it of internal
reward models.

Of the paper the abstract and the captions were read. Each scorer gives the probability that the chosen side
is better: an implicit reward by sigmoid(beta x difference of its scores), a judge by what it said in both
orders. Two agree if both are on one side of 0.5; exactly 0.5 agrees with nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.records import Pair
from gristmill.core.stages import Relation
from gristmill.filters.preferences.scores import curated, read_scores

if TYPE_CHECKING:
    import polars as pl

    from gristmill.filters.preferences.scores import Marks, Numbers

Against = Literal["drop", "flip", "keep"]
"""What becomes of a pair whose rejected side is found better: rejected, turned round, or left as it is."""


class Agreement(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keep the pairs on whose winner all scorers agree; the others are rejected."""

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct] | None] = None

    scorers: Annotated[list[str], Meta(min_length=2)]
    """The scorers, by name, as of ``strength``."""
    beta: Annotated[float, Meta(gt=0)] = 1.0
    """What a difference of scores is multiplied with before the sigmoid; of no effect on who wins."""
    against: Against = "drop"
    """What becomes of pairs whose rejected side all find better. ``flip`` is for pairs that have no labels
    yet."""
    most_divergence: Annotated[float, Meta(ge=0, le=0.6931471805599453)] | None = None
    """The largest Jensen-Shannon divergence between two scorers, in nats, with which a pair is still kept."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The pairs, with reasons for those to reject."""
        import numpy as np

        found = read_scores(frames[0], self.scorers, "agreement")
        p = np.stack([found.probability(scorer, self.beta) for scorer in self.scorers])
        chosen, rejected = np.all(p > 0.5, axis=0), np.all(p < 0.5, axis=0)
        reasons = [
            (np.any(np.isnan(p), axis=0), "agreement: not scored by all"),
            (~chosen & ~rejected, "agreement: the scorers disagree"),
        ]
        if self.most_divergence is not None:
            reasons.append((widest(p) > self.most_divergence, "agreement: the scorers diverge"))
        return opposed(frames[0], rejected, self.against, reasons, "agreement")

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in."""
        return rows[0]


def opposed(
    frame: pl.LazyFrame,
    rejected: Marks,
    against: Against,
    reasons: Sequence[tuple[Marks, str]],
    where: str,
    **more: object,
) -> pl.LazyFrame:
    """``frame`` with ``against`` done to the pairs whose ``rejected`` side was found better, after
    ``reasons``.

    ``more`` is as for ``curated``.
    """
    if against == "drop":
        reasons = [*reasons, (rejected, f"{where}: the rejected side is better")]
    return curated(frame, reasons=reasons, turned=rejected if against == "flip" else None, **more)  # type: ignore[arg-type]


def kullback_leibler(p: Numbers, q: Numbers) -> Numbers:
    """KL(p || q) of two events of probabilities ``p`` and ``q``, in nats, elementwise."""
    import numpy as np

    p, q = np.asarray(p, float), np.asarray(q, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(a > 0, a * (np.log(a) - np.log(b)), 0.0) for a, b in ((p, q), (1 - p, 1 - q))]
    total: Numbers = parts[0] + parts[1]
    return total


def jensen_shannon(p: Numbers, q: Numbers) -> Numbers:
    """The Jensen-Shannon divergence of two events of probabilities ``p`` and ``q``, in [0, log 2] nats."""
    import numpy as np

    middle = (np.asarray(p, float) + np.asarray(q, float)) / 2
    mean: Numbers = (kullback_leibler(p, middle) + kullback_leibler(q, middle)) / 2
    return mean


def widest(p: Numbers) -> Numbers:
    """The largest divergence between two of the rows of ``p`` (scorers by pairs): that of the lowest and the
    highest, as it grows with their distance."""
    return jensen_shannon(p.min(axis=0), p.max(axis=0))
