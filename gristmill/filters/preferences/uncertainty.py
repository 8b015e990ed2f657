"""``uncertainty``: soft labels and weights by the doubt of an estimator, from several passes of it.

UPO (arXiv 2409.11212): T passes with dropout give the probabilities p_t that the chosen side is better. The
doubt B = H(mean p_t) - mean H(p_t) (BALD) is 0 where the passes agree. A pair is sampled in proportion to 1 -
B. The label noise that the paper prints, 1 / (P + 1) with P the sampling probability of the pair, is nearly 1
in any large set and would turn every label round. Here it is half of B / log 2, which is in [0, 0.5].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core.records import Pair
from gristmill.core.stages import Relation
from gristmill.filters.preferences.agreement import Against, opposed
from gristmill.filters.preferences.scores import read_scores
from gristmill.filters.preferences.strength import weakest

if TYPE_CHECKING:
    import polars as pl

    from gristmill.filters.preferences.scores import Numbers


class Uncertainty(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Give each pair a label noise and a weight by how much several passes of an estimator differ.

    A pair gets the score ``uncertainty`` (in nats), as ``flip`` the repaired label noise, and as ``weight``
    its share of the loss, of which the mean over the pairs that are kept is 1.
    """

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct] | None] = None

    passes: Annotated[list[str], Meta(min_length=2)]
    """The names of the scores that the passes gave, as the scorers of ``strength``; a difference of scores
    becomes a probability by the sigmoid."""
    drop: Annotated[float, Meta(gt=0, lt=1)] | None = None
    """The share of the most uncertain pairs to reject."""
    against: Against = "drop"
    """What becomes of pairs whose rejected side is better by the mean of the passes. (In the paper none are:
    pairs are made by the estimator.)"""
    weigh: bool = True
    """Whether ``weight`` is set; else it stays as it is."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The pairs, with reasons for those to reject."""
        import numpy as np

        found = read_scores(frames[0], self.passes, "uncertainty")
        p = np.stack([found.probability(one) for one in self.passes])
        doubt = disagreement(p)
        unknown = np.isnan(doubt)
        uncertain = weakest(-doubt, self.drop)
        opposite = p.mean(axis=0) < 0.5
        columns = {"flip": np.where(unknown, 0.0, label_noise(doubt))}
        kept = ~unknown & ~uncertain & ~(opposite & (self.against == "drop"))
        if self.weigh:
            columns["weight"] = np.where(~kept, 1.0, sampling_weights(np.where(kept, doubt, np.nan)))
        reasons = [
            (unknown, "uncertainty: not scored by all passes"),
            (uncertain, "uncertainty: among the most uncertain"),
        ]
        return opposed(
            frames[0],
            opposite,
            self.against,
            reasons,
            "uncertainty",
            columns=columns,
            scores={"uncertainty": doubt},
            seen=found.seen,
        )

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in."""
        return rows[0]


def entropy(p: Numbers) -> Numbers:
    """The entropy of an event of probability ``p``, in nats, elementwise."""
    import numpy as np

    p = np.asarray(p, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(a == 0, 0.0, -a * np.log(a)) for a in (p, 1 - p)]
    total: Numbers = parts[0] + parts[1]
    return total


def disagreement(p: Numbers) -> Numbers:
    """BALD's mutual information H(mean p) - mean H(p) over the first axis (passes), in [0, log 2] nats."""
    import numpy as np

    # Rounding could make it a little less than 0.
    doubt: Numbers = np.maximum(entropy(p.mean(axis=0)) - entropy(p).mean(axis=0), 0.0)
    return doubt


def label_noise(doubt: Numbers) -> Numbers:
    """Half of ``doubt`` / log 2, in [0, 0.5]."""
    import numpy as np

    noise: Numbers = 0.5 * doubt / np.log(2)
    return noise


def sampling_weights(doubt: Numbers) -> Numbers:
    """1 - ``doubt`` over its mean, without regard to NaN; divided by their number, UPO's sampling
    probabilities."""
    import numpy as np

    certain = 1 - np.asarray(doubt, float)
    known = certain[~np.isnan(certain)]
    # Exactly rounded, so that the order of the rows has no say in the last digit.
    return certain / (math.fsum(known) / len(known)) if len(known) else certain
