"""B-STaR's balance of exploring and exploiting: which temperature and threshold to take next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core.records import Sampled
from gristmill.core.stages import Relation
from gristmill.filters.difficulty.pass_rate import OWN, outcome_of, value_of
from gristmill.filters.tables import PROBLEM, key_column

if TYPE_CHECKING:
    import polars as pl


def balance_score(right: int, selected: int, wanted: float = 6.0) -> float:
    """B-STaR's balance of a problem (arXiv 2412.17256): min(right / wanted, 1) x right / selected.

    ``selected`` responses have a reward above the threshold, ``right`` of these are right. 0 where none is
    selected. The paper wants about 6, its code 8. ``ValueError`` unless 0 <= right <= selected and wanted >
    0.
    """
    if not 0 <= right <= selected or not wanted > 0:
        raise ValueError(f"{right} right of {selected} selected, {wanted} wanted")
    return min(right / wanted, 1) * right / selected if selected else 0.0


class BalanceScore(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """B-STaR (arXiv 2412.17256): one row for each setting and threshold, with its mean balance over problems.

    Sample the problems in several settings, such as engines of several temperatures, and score them; a reward
    is 1 for a right answer plus the ``score``. ``best`` marks the one row with the highest mean (of equal
    ones the lower threshold, then the first setting). A problem of which nothing is selected counts with 0.
    Only what was sampled is counted: no reference solution is slipped in.
    """

    reads: ClassVar[type[Struct]] = Sampled

    setting: str = "model"
    """The column that tells settings apart: ``model`` is the engine's name. Null is a setting too."""
    thresholds: Annotated[tuple[float, ...], Meta(min_length=1)] = (0.0,)
    """The thresholds to try; a response is selected if its reward is greater. Undecided ones never are."""
    score: str | None = None
    """The score that is added to the outcome, such as the least value of a process reward model, in [-1, 1].
    Null, or a missing one, adds nothing."""
    wanted: Annotated[float, Meta(gt=0)] = 6.0
    """How many right responses of a problem are enough (n*)."""
    by: str = PROBLEM
    """The column of the problem; ``problem`` is the problem of a sample."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The rows, by setting in the order of their first samples, then by threshold."""
        import polars as pl

        schema = frames[0].collect_schema()
        key = key_column(schema, self.by, "balance_score")
        setting = pl.col(key_column(schema, self.setting, "balance_score", keyword=False)).cast(pl.String)
        right = outcome_of(OWN) == "correct"
        added = pl.lit(0.0) if self.score is None else value_of(self.score).fill_null(0.0)
        reward = pl.when(outcome_of(OWN).is_in(["correct", "incorrect"])).then(right.cast(pl.Float64) + added)
        rows = frames[0].select(
            setting.fill_null("").alias("setting"),
            pl.col(key).alias("key"),
            right.alias("right"),
            reward.alias("reward"),
        )
        made = []
        for threshold in sorted(set(self.thresholds)):
            chosen = (pl.col("reward") > threshold).fill_null(False)
            n, c = (
                chosen.sum().cast(pl.Float64),
                (chosen & pl.col("right").fill_null(False)).sum().cast(pl.Float64),
            )
            share = pl.min_horizontal(c / self.wanted, 1.0) * c / n
            balances = rows.group_by("setting", "key", maintain_order=True).agg(
                pl.when(n > 0).then(share).otherwise(0.0).alias("balance"), n.alias("selected")
            )
            made.append(
                balances.group_by("setting", maintain_order=True)
                .agg(
                    pl.len().cast(pl.Int64).alias("problems"),
                    pl.col("selected").mean(),
                    pl.col("balance").mean(),
                )
                .with_columns(pl.lit(threshold).alias("threshold"))
            )
        table = pl.concat(made).collect()
        order = {name: at for at, name in enumerate(table["setting"].unique(maintain_order=True))}
        table = table.with_columns(
            pl.col("setting").replace_strict(order, default=0, return_dtype=pl.Int64).alias("at")
        )
        best = table.sort("balance", "threshold", "at", descending=[True, False, False]).head(1)
        table = table.join(
            best.select("setting", "threshold", best=True), on=["setting", "threshold"], how="left"
        )
        name = pl.concat_str([pl.col("setting"), pl.col("threshold").cast(pl.String)], separator="/")
        return (
            table.lazy()
            .sort("at", "threshold")
            .select(
                name.alias("id"),
                "setting",
                "threshold",
                "problems",
                "selected",
                "balance",
                pl.col("best").fill_null(False),
            )
        )
