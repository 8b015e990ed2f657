"""``balanced_groups``: groups of right and wrong answers that know of the pool they come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.records import Sampled
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.difficulty.pass_rate import OWN, counted, outcome_of
from gristmill.filters.order import seeded_places
from gristmill.filters.rewards.stage import with_values
from gristmill.filters.tables import PROBLEM, key_column, with_rejected

if TYPE_CHECKING:
    import polars as pl


class BalancedGroups(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Down-sample each problem to ``size`` samples, half right and half wrong: Reinforce-Ada (arXiv
    2510.04996).

    A side that has too few is kept whole, and the other fills up. The mean of such a group says nothing of
    the problem, so that every sample carries the scores ``pool_mean`` (right of decided) and ``pool_count``
    (decided) of all that was sampled: the baseline of its advantage is the pool's. Which samples stay follows
    a seeded hash of ids. Undecided samples are rejected.
    """

    reads: ClassVar[type[Struct]] = Sampled

    size: Annotated[int, Meta(ge=2)] = 8
    """Samples of a problem. An odd one more is right."""
    short: Literal["keep", "reject"] = "keep"
    """What becomes of a problem with fewer decided samples than ``size``."""
    alike: Literal["keep", "reject"] = "reject"
    """What becomes of a problem whose decided samples are all right, or all wrong."""
    by: str = PROBLEM
    """The column of the problem; ``problem`` is the problem of a sample."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The samples that stay, in order and with the pool's scores, then the others."""
        import polars as pl

        frame = frames[0]
        key = key_column(frame.collect_schema(), self.by, "balanced_groups")
        outcome = outcome_of(OWN)
        rows = frame.select("id", key, outcome.alias("side")).collect()
        pool = counted(frame, key, OWN).select(key, "right", "decided").collect()
        rows = (
            rows.with_columns(
                pl.when(pl.col("side").is_in(["correct", "incorrect"]))
                .then(pl.col("side") == "correct")
                .alias("side"),
                seeded_places(seed, rows["id"]).alias("place"),
            )
            .drop("id")  # the longest of these columns, and of no more use
            .join(pool, on=key, how="left", maintain_order="left")
        )
        wrong = pl.col("decided") - pl.col("right")
        half = pl.lit(self.size - self.size // 2, pl.Int64)
        # Each side gets its half, and what the other leaves.
        most_right = pl.max_horizontal(half, self.size - wrong)
        most_wrong = pl.max_horizontal(self.size - half, self.size - pl.col("right"))
        rank = pl.col("place").rank("ordinal").over(key, "side")
        alike = (pl.col("right") == 0) | (wrong == 0)
        reason = (
            pl.when(pl.col(key).is_null())
            .then(pl.lit(f"balanced_groups: {key} is null"))
            .when(pl.col("side").is_null())
            .then(pl.lit("balanced_groups: the verdict is not decided"))
            .when(alike & (self.alike == "reject"))
            .then(pl.lit("balanced_groups: the problem has right or wrong samples only"))
            .when((pl.col("decided") < self.size) & (self.short == "reject"))
            .then(pl.lit(f"balanced_groups: the problem has fewer than {self.size} decided samples"))
            .when(rank > pl.when(pl.col("side")).then(most_right).otherwise(most_wrong))
            .then(pl.lit("balanced_groups: above the size of a group"))
        )
        rows = rows.select("decided", reason.alias("reason"), mean=pl.col("right") / pl.col("decided"))
        marked = frame.with_columns(pl.lit(rows["reason"]).alias(REJECTED_REASON))
        stays = rows.filter(pl.col("reason").is_null())
        kept = marked.filter(pl.col(REJECTED_REASON).is_null()).drop(REJECTED_REASON)
        scores = {"pool_mean": stays["mean"], "pool_count": stays["decided"].cast(pl.Float64)}
        return with_rejected(with_values(kept, scores), marked.filter(pl.col(REJECTED_REASON).is_not_null()))

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in."""
        return rows[0]
