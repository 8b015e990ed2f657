"""``strength``: what to do about pairs by how strongly an ensemble of scorers prefers the chosen side.

Secrets of RLHF II (arXiv 2401.06080): with the margins d of the scorers (a margin is the score of the chosen
side less that of the rejected one), the strength of a pair is their mean, its spread their population
standard deviation. The paper's losses with a strength s as margin and with soft labels are -log
sigmoid(difference - s), inside of the sigmoid (its equation 6 prints s outside), and -(1 - a) log
sigmoid(difference) - a log sigmoid(-difference).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.core.records import Pair
from gristmill.core.stages import Relation
from gristmill.filters.preferences.scores import curated, read_scores

if TYPE_CHECKING:
    import polars as pl

    from gristmill.filters.preferences.scores import Marks, Numbers

Scorers = Annotated[list[str], Meta(min_length=1)]
Weakest = Annotated[float, Meta(gt=0, lt=1)] | Literal["negative"]
"""A share of the pairs, the weakest; or all whose strength is below 0."""


class Strength(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Drop, flip or soften the pairs that an ensemble of scorers supports least, and give each its margin.

    A pair gets the first of ``drop``, ``flip`` and ``soften`` that applies to it. All get the scores
    ``margin`` (the strength, of a flipped pair with the other sign) and ``strength_spread``. A share is of
    all pairs that have a strength, and those of equal strength at its edge are treated alike: rather fewer
    than more.
    """

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct] | None] = None

    scorers: Scorers
    """The scorers, by name: ``rm`` is the difference of the scores ``chosen_rm`` and ``rejected_rm``, or else
    the pair's own score ``rm``; the empty name is the difference of ``chosen`` and ``rejected``."""
    least: Annotated[int, Meta(ge=1)] | None = None
    """The fewest scorers that must have scored a pair; ``null``: all. Other pairs are rejected."""
    drop: Weakest | None = None
    """Which pairs to reject: a share of the weakest, or ``negative``."""
    flip: Weakest | None = None
    """Which pairs to turn round, of those that are not dropped."""
    soften: Weakest | None = None
    """Which pairs to give the label noise ``softness``, of those that are neither dropped nor flipped."""
    softness: Annotated[float, Meta(gt=0, le=0.5)] = 0.1
    """The ``flip`` of softened pairs (the epsilon of conservative DPO)."""
    drop_strongest: Annotated[float, Meta(gt=0, lt=1)] | None = None
    """The share of the strongest pairs to reject; the paper found that the top tenth is over-fitted."""

    def __post_init__(self) -> None:
        if self.least is not None and self.least > len(self.scorers):
            raise RecipeError(
                f"strength: least is {self.least}, and there are {len(self.scorers)} scorers.",
                remedy=f"Set least to {len(self.scorers)} or fewer.",
            )

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The pairs, with reasons for those to drop."""
        import numpy as np

        found = read_scores(frames[0], self.scorers, "strength")
        margins = np.stack([found.margin(scorer) for scorer in self.scorers])
        mean, spread = mean_and_spread(margins)
        few = (~np.isnan(margins)).sum(axis=0) < (self.least or len(self.scorers))
        mean[few] = np.nan
        dropped = weakest(mean, self.drop)
        flipped = weakest(mean, self.flip) & ~dropped
        softened = weakest(mean, self.soften) & ~dropped & ~flipped
        noise = frames[0].select("flip").collect()["flip"].to_numpy()
        return curated(
            frames[0],
            reasons=[
                (few, f"strength: scored by fewer than {self.least or len(self.scorers)} scorers"),
                (dropped, "strength: among the weakest"),
                (weakest(-mean, self.drop_strongest), "strength: among the strongest"),
            ],
            turned=flipped,
            columns={"flip": np.where(softened, self.softness, noise)},
            scores={"margin": np.where(flipped, -mean, mean), "strength_spread": spread},
            seen=found.seen,
        )

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in."""
        return rows[0]


def mean_and_spread(margins: Numbers) -> tuple[Numbers, Numbers]:
    """The mean and the population standard deviation over the first axis, without regard to NaN."""
    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NaN is the right answer for a pair without scores
        return np.nanmean(margins, axis=0), np.nanstd(margins, axis=0)


def weakest(strength: Numbers, which: Weakest | None) -> Marks:
    """The marks of the weakest: a share of those that have a strength, or those below 0."""
    import numpy as np

    known = np.sort(strength[~np.isnan(strength)])
    if which is None or not len(known):
        return np.zeros(len(strength), bool)
    if which == "negative":
        return strength < 0
    count = int(which * len(known))
    # Of equals at the edge none: below the first that is not of the share.
    below: Marks = strength < known[count]
    return below
