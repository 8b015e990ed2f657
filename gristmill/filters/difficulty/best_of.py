"""``best_of`` keeps the best sample of each problem by a score, ``recompose`` orders them into batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.records import Sampled
from gristmill.core.stages import REJECTED_REASON, Filter, Relation
from gristmill.filters.difficulty.pass_rate import OWN, outcome_of, value_of
from gristmill.filters.tables import PROBLEM, key_column, with_rejected

if TYPE_CHECKING:
    import polars as pl


class BestOf(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keep the sample with the highest score of each problem: Alignment Resampling (arXiv 2506.04462).

    The score is an external reward model's, not the policy's own. The paper gets back what a watermark cost
    with 2 to 4 samples; with many, the best is more and more what the reward model gets wrong. Of equal
    scores the first sample stays.
    """

    marks_only: ClassVar[bool] = True

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Sampled

    score: Annotated[str, Meta(min_length=1)]
    """The name of the score; ``verdict`` is a sample's own. A sample without it is rejected."""
    draws: Annotated[int, Meta(ge=1)] | None = 4
    """How many samples of a problem are compared, the first ones; ``null`` compares all."""
    by: str = PROBLEM
    """The column of the problem; ``problem`` is the problem of a sample."""

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        """All samples, with the reason for those that are not the best."""
        import polars as pl

        key = key_column(frame.collect_schema(), self.by, "best_of")
        place = pl.int_range(pl.len()).over(key)
        late = place >= (self.draws if self.draws is not None else pl.len())
        rows = frame.with_columns(value_of(self.score).alias("\x1fvalue"), late.alias("\x1flate"))
        open_value = pl.when(~pl.col("\x1flate")).then(pl.col("\x1fvalue"))
        best = open_value == open_value.max().over(key)
        reason = (
            pl.when(pl.col("\x1flate"))
            .then(pl.lit(f"best_of: not among the first {self.draws}"))
            .when(pl.col("\x1fvalue").is_null())
            .then(pl.lit(f"best_of: no score {self.score!r}"))
            .when(~best)
            .then(pl.lit("best_of: below the best"))
            .when(best.cum_sum().over(key) > 1)
            .then(pl.lit("best_of: as good as an earlier one"))
        )
        return rows.with_columns(reason.alias(REJECTED_REASON)).drop("\x1fvalue", "\x1flate")


def recomposed(
    right: Sequence[bool | None], lengths: Sequence[float], share: float = 0.5
) -> list[str | None]:
    """RoRecomp (arXiv 2509.25958): which answers of a group are in the ``priority`` batch, which in
    ``compensation``; ``None`` for the undecided.

    Priority has the shortest right and the longest wrong answers, ``share`` of either, rounded up. Of equal
    lengths the first are taken. The paper does not give its share; one half is our choice.
    """
    made: list[str | None] = [None if r is None else "compensation" for r in right]
    for side, sign in ((True, 1), (False, -1)):
        places = sorted((i for i, r in enumerate(right) if r is side), key=lambda i: sign * lengths[i])
        for i in places[: math.ceil(round(share * len(places), 9))]:
            made[i] = "priority"
    return made


class Recompose(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """RoRecomp (arXiv 2509.25958): put samples into a ``priority`` and a ``compensation`` batch; see
    ``recomposed``.

    Training on the first alone shortens answers; batches of the second now and then keep what is long and
    right. Undecided samples are in neither, and rejected.
    """

    reads: ClassVar[type[Struct]] = Sampled

    share: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    """The share of the right and of the wrong samples of each problem that has priority."""
    length: Literal["tokens", "characters"] = "tokens"
    """How long a sample is: ``completion_tokens``, or the characters of its completion."""
    by: str = PROBLEM
    """The column of the problem; ``problem`` is the problem of a sample."""
    column: Annotated[str, Meta(min_length=1)] = "batch"
    """The column that the batch is put in."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The samples in order with their batch, then those that are undecided."""
        import polars as pl

        frame = frames[0]
        key = key_column(frame.collect_schema(), self.by, "recompose")
        tokens = self.length == "tokens"
        length = (
            pl.col("completion_tokens") if tokens else pl.col("completion").str.len_chars().cast(pl.Int64)
        )
        right = pl.when(outcome_of(OWN).is_in(["correct", "incorrect"])).then(outcome_of(OWN) == "correct")
        rows = frame.with_columns(right.alias("\x1fright"))
        side = [key, "\x1fright"]
        # The shortest right and the longest wrong ones come first; of equal ones the first.
        signed = pl.when(pl.col("\x1fright")).then(length).otherwise(-length)
        rank = signed.rank("ordinal").over(side)
        most = (pl.len().over(side) * self.share).round(9).ceil()
        batch = pl.when(rank <= most).then(pl.lit("priority")).otherwise(pl.lit("compensation"))
        rows = rows.with_columns(batch.alias(self.column))
        kept = rows.filter(pl.col("\x1fright").is_not_null()).drop("\x1fright")
        reason = pl.lit("recompose: the verdict is not decided").alias(REJECTED_REASON)
        return with_rejected(kept, rows.filter(pl.col("\x1fright").is_null()).with_columns(reason))

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in."""
        return rows[0]
