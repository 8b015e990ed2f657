"""How often the samples of each problem are right: ``pass_rate`` as rows, ``band`` as a filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.core.records import Problem, Sampled
from gristmill.core.schema import schema as problem_columns
from gristmill.core.shares import pass_at_k, wilson
from gristmill.core.stages import REJECTED_REASON, Filter, Relation
from gristmill.filters.tables import PROBLEM, key_column

if TYPE_CHECKING:
    import polars as pl

Share = Annotated[float, Meta(ge=0, le=1)]
OWN = "verdict"
"""The name of a sample's own verdict."""


def outcome_of(verdict: str) -> pl.Expr:
    """The outcome of a sample's own verdict, or of the one in the score of that name."""

    return _verdict(verdict).struct.field("outcome")


def value_of(score: str) -> pl.Expr:
    """The value of the score of that name; of a verdict, such as a sample's own, its score, or else 1 and 0.
    Null where there is none, or it is not decided."""
    import polars as pl

    outcome = outcome_of(score)
    right = pl.when(outcome.is_in(["correct", "incorrect"])).then((outcome == "correct").cast(pl.Float64))
    judged = pl.when(right.is_not_null()).then(pl.coalesce(_verdict(score).struct.field("score"), right))
    return judged if score == OWN else pl.coalesce(_named(score, "value"), judged)


def _verdict(name: str) -> pl.Expr:
    import polars as pl

    return pl.col("verdict") if name == OWN else _named(name, "verdict")


def _named(score: str, field: str) -> pl.Expr:
    import polars as pl

    item = pl.element().struct
    return (
        pl.col("scores")
        .list.eval(pl.element().filter(item.field("name") == score).struct.field(field))
        .list.first()
    )


def counted(frame: pl.LazyFrame, key: str, verdict: str, *beside: pl.Expr) -> pl.LazyFrame:
    """One row for each key, in the order of the first ones: ``right``, ``decided``, ``undecided``, and others
    that ``beside`` aggregates. A sample without a verdict is undecided."""
    import polars as pl

    outcome = outcome_of(verdict)
    right = (outcome == "correct").fill_null(False)
    decided = outcome.is_in(["correct", "incorrect"]).fill_null(False)
    return (
        frame.filter(pl.col(key).is_not_null())
        .group_by(key, maintain_order=True)
        .agg(
            *beside,
            right.sum().cast(pl.Int64).alias("right"),
            decided.sum().cast(pl.Int64).alias("decided"),
            (pl.len() - decided.sum()).cast(pl.Int64).alias("undecided"),
        )
    )


class PassRate(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row for each problem: how many of its samples are right, and how sure that makes its pass rate.

    ``right`` of ``decided``, and ``undecided`` apart; ``rate`` = right / decided with its Wilson interval
    ``low`` to ``high``; ``learnability`` = rate (1 - rate); ``pass_at_K`` for each K asked for (unbiased,
    arXiv 2107.03374). Rates are null where nothing is decided, ``pass_at_K`` where fewer than K are. Of 8
    samples the interval of 3 right goes from .14 to .69: a band by few samples is a guess.
    """

    reads: ClassVar[type[Struct]] = Sampled

    by: str = PROBLEM
    """The column of the problem; ``problem`` is the problem of a sample. Rows where it is null are left
    out."""
    verdict: Annotated[str, Meta(min_length=1)] = OWN
    """``verdict``, the sample's own, or the name of a score with a verdict."""
    confidence: Annotated[float, Meta(gt=0, lt=1)] = 0.95
    """Of the interval."""
    pass_at: tuple[Annotated[int, Meta(ge=1)], ...] = ()
    """The numbers of draws K."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The problems in the order of their first samples, with the columns that a problem has."""
        import polars as pl

        frame, schema = frames[0], frames[0].collect_schema()
        key = key_column(schema, self.by, "pass_rate")
        beside = [n for n in Problem.__struct_fields__ if n in schema and n not in ("id", key)]
        columns: dict[str, Any] = {
            "low": lambda right, decided: wilson(right, decided, self.confidence)[0] if decided else None,
            "high": lambda right, decided: wilson(right, decided, self.confidence)[1] if decided else None,
        }
        for k in self.pass_at:
            columns[f"pass_at_{k}"] = lambda c, n, k=k: pass_at_k(c, n, k) if n >= k else None
        rate = pl.col("right") / pl.when(pl.col("decided") > 0).then(pl.col("decided"))
        rows = counted(frame, key, self.verdict, pl.col(beside).first())
        rows = rows.with_columns(rate.alias("rate")).with_columns(
            (pl.col("rate") * (1 - pl.col("rate"))).alias("learnability"),
            *(by_counts(what).alias(name) for name, what in columns.items()),
        )
        found = ["right", "decided", "undecided", "rate", "low", "high", "learnability"]
        found += [f"pass_at_{k}" for k in self.pass_at]
        own: list[Any] = [] if key in ("id", "problem_id") else [key]
        if "problem" in beside:
            # Whole problems, which can be sampled from again: samples have no level.
            own += [
                pl.lit(None, d).alias(n)
                for n, d in problem_columns(Problem).items()
                if n not in (*schema, key)
            ]
        return rows.select(pl.col(key).cast(pl.String).alias("id"), *own, *beside, *found)

    def rows_max(self, rows: Sequence[int]) -> int:
        """A problem for each sample, at most."""
        return rows[0]


def by_counts(what: Any) -> pl.Expr:
    """A number for each row of ``counted`` from (right, decided); each pair of counts is worked out once."""
    import polars as pl

    def made(pairs: pl.Series) -> pl.Series:
        known = {tuple(pair.values()): what(*pair.values()) for pair in pairs.unique().to_list()}
        table = pl.DataFrame(
            {
                "right": pl.Series([k[0] for k in known], dtype=pl.Int64),
                "decided": pl.Series([k[1] for k in known], dtype=pl.Int64),
                "value": pl.Series(list(known.values()), dtype=pl.Float64),
            }
        )
        return pairs.struct.unnest().join(table, on=["right", "decided"], how="left", maintain_order="left")[
            "value"
        ]

    return pl.struct("right", "decided").map_batches(made, return_dtype=pl.Float64)


class Band(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keep the samples of problems whose pass rate is in a band, both ends included.

    All samples of a problem stay or go together. A group that is all right or all wrong gives a policy
    gradient nothing; PRIME (arXiv 2502.01456) keeps [.2, .8] of 4 samples. The rate is of decided samples; a
    problem of which none is decided has none.
    """

    marks_only: ClassVar[bool] = True

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = Sampled

    low: Share = 0.2
    """The lowest rate that stays."""
    high: Share = 0.8
    """The highest rate that stays."""
    by: str = PROBLEM
    """The column of the problem; ``problem`` is the problem of a sample."""
    verdict: Annotated[str, Meta(min_length=1)] = OWN
    """``verdict``, the sample's own, or the name of a score with a verdict."""
    truncated: Literal["keep", "reject_group"] = "keep"
    """``reject_group``: a group with a completion that was cut off goes as a whole. With ``keep`` such a
    sample is only undecided."""
    decided: Annotated[int, Meta(ge=1)] = 1
    """The fewest decided samples that a rate is taken of."""

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise RecipeError(
                f"band: low ({self.low:g}) is above high ({self.high:g}).",
                remedy="Give the lower one as 'low'.",
            )

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        """All samples, with the reason for those of problems outside of the band."""
        import polars as pl

        key = key_column(frame.collect_schema(), self.by, "band")
        cut = (pl.col("finish_reason") == "length").any().alias("\x1fcut")
        groups = counted(frame, key, self.verdict, cut)
        # In the decimal numbers that were given: 1 of 5 is not below .2 for being .2 in binary.
        rate = (pl.col("right") / pl.col("decided")).round(12)
        reason = (
            pl.when(pl.col("\x1fcut") & (self.truncated == "reject_group"))
            .then(pl.lit("band: a sample of the problem was cut off"))
            .when(pl.col("decided") < self.decided)
            .then(pl.lit(f"band: fewer than {self.decided} samples of the problem are decided"))
            .when(pl.col("right") == 0, rate < self.low)
            .then(pl.lit("band: the problem is never solved"))
            .when(rate < self.low)
            .then(pl.lit(f"band: the problem is solved in less than {self.low:g}"))
            .when(pl.col("right") == pl.col("decided"), rate > self.high)
            .then(pl.lit("band: the problem is always solved"))
            .when(rate > self.high)
            .then(pl.lit(f"band: the problem is solved in more than {self.high:g}"))
        )
        told = groups.select(key, reason.alias(REJECTED_REASON))
        none = pl.when(pl.col(key).is_null()).then(pl.lit(f"band: {key} is null"))
        return frame.join(told, on=key, how="left", maintain_order="left").with_columns(
            pl.coalesce(REJECTED_REASON, none).alias(REJECTED_REASON)
        )
