"""Which share each domain should have, by what was measured, and ``balance_domains``, which keeps to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.shares import learnability
from gristmill.core.stages import REJECTED_REASON, Filter
from gristmill.filters.difficulty.pass_rate import OWN, counted
from gristmill.filters.expressions import Expression, evaluate
from gristmill.filters.order import kept_of, seeded_places

if TYPE_CHECKING:
    import polars as pl


def excess_weights(
    weights: Mapping[str, float],
    losses: Mapping[str, float],
    targets: Mapping[str, float],
    *,
    rate: float = 1.0,
    floor: float = 0.05,
) -> dict[str, float]:
    """The next mixture of domains from the present one: w x exp(rate x max(loss - target, 0)), made to add up
    to 1.

    A stated rule in place of the trained agent of Data Mixing Agent (arXiv 2507.15640): a domain whose loss
    is above its target, that of the model one began with, gets more, so that what is being forgotten comes
    back. ``floor`` is a share that all domains divide equally, so that none dies out. ``ValueError`` for
    domains that differ between the mappings.
    """
    if not weights or not set(weights) == set(losses) == set(targets):
        raise ValueError(f"domains differ: {sorted(weights)}, {sorted(losses)}, {sorted(targets)}")
    excess = {name: rate * max(losses[name] - targets[name], 0.0) for name in weights}
    top = max(excess.values())
    raised = {name: weight * math.exp(excess[name] - top) for name, weight in weights.items()}
    total = sum(raised.values())
    return {name: (1 - floor) * value / total + floor / len(raised) for name, value in raised.items()}


def replay_weights(histories: Mapping[str, Sequence[float]], *, temperature: float = 1.0) -> dict[str, float]:
    """Weights for replayed objectives, which add up to 1, from the last few losses of each, oldest first.

    After RECAP (arXiv 2510.21978): less for what has converged, more for what lags behind or swings. Its rule
    is written out here as softmax((convergence + instability) / temperature), with convergence = mean of the
    later half / mean of the earlier half, and instability = deviation / mean of all. The stage ``mix`` takes
    these weights. ``ValueError`` for fewer than two losses, or one that is not above 0.
    """
    signals = {}
    for name, losses in histories.items():
        if len(losses) < 2 or not all(loss > 0 for loss in losses):
            raise ValueError(f"{name}: {list(losses)} are not two or more losses above 0")
        half = len(losses) // 2
        signals[name] = fmean(losses[half:]) / fmean(losses[:half]) + pstdev(losses) / fmean(losses)
    top = max(signals.values(), default=0.0)
    raised = {name: math.exp((signal - top) / temperature) for name, signal in signals.items()}
    return {name: value / sum(raised.values()) for name, value in raised.items()}


def measured_weights(
    counts: Mapping[str, tuple[int, int]],
    rule: Literal["equal", "failure", "learnability"],
    floor: float = 0.05,
) -> dict[str, float]:
    """The shares of domains, which add up to 1, by (right, decided) samples of each.

    ``equal``: all the same, as in DR-IRL (arXiv 2503.18991). ``failure``: by 1 - rate. ``learnability``: by
    rate (1 - rate). One half is the rate where nothing is decided. ``floor`` is divided equally.
    """
    rates = {name: right / decided if decided else 0.5 for name, (right, decided) in counts.items()}
    ways = {"equal": lambda _: 1.0, "failure": lambda p: 1 - p, "learnability": learnability}
    raised = {name: ways[rule](rate) for name, rate in rates.items()}
    if not sum(raised.values()):
        raised = dict.fromkeys(raised, 1.0)
    total = sum(raised.values())
    return {name: (1 - floor) * value / total + floor / len(raised) for name, value in raised.items()}


class BalanceDomains(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keep the largest set of rows in which each domain has its share.

    The shares are given, or measured on the verdicts of the rows themselves by a stated rule, see
    ``measured_weights``: ``equal`` is the balance of categories of DR-IRL (arXiv 2503.18991). The domain that
    is scarcest for its share is kept whole. Which rows of a domain stay follows a seeded hash of ids.
    """

    marks_only: ClassVar[bool] = True

    by: Expression
    """What a domain is: a column, or an expression such as ``meta.subject``. Rows where it is null are
    rejected."""
    rule: Literal["equal", "failure", "learnability"] = "equal"
    """How shares are found where ``weights`` are not given. The last two need samples with verdicts."""
    weights: dict[str, Annotated[float, Meta(ge=0, le=1e9)]] | None = None
    """Relative sizes by domain; one that is not named has no share. A share without rows ends the run."""
    floor: Annotated[float, Meta(ge=0, lt=1)] = 0.05
    """With ``rule``: the part that all domains divide equally, so that none dies out."""

    def __post_init__(self) -> None:
        if self.weights is not None and not any(self.weights.values()):
            raise RecipeError(
                "balance_domains: no weight is above 0.", remedy="Give one domain a share at least."
            )

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        """All rows, with the reason for those above their share."""
        import polars as pl

        rows = evaluate(frame, {"gristmill_domain": self.by}, "balance_domains")
        rows = rows.with_columns(pl.col("gristmill_domain").cast(pl.String).alias("\x1fdomain"))
        domains = rows.select("id", "\x1fdomain").collect()
        counts = dict(
            domains.drop_nulls("\x1fdomain").group_by("\x1fdomain", maintain_order=True).len().iter_rows()
        )
        most = kept_of(counts, self._weights(rows, counts))
        place = pl.lit(seeded_places(seed, domains["id"])).alias("place")
        ranked = domains.with_columns(place).with_columns(
            pl.col("place").rank("ordinal").over("\x1fdomain").alias("rank"),
            pl.col("\x1fdomain").replace_strict(most, default=0, return_dtype=pl.Int64).alias("most"),
        )
        name = pl.col("\x1fdomain")
        reason = (
            pl.when(name.is_null())
            .then(pl.lit("balance_domains: the domain is null"))
            .when(pl.col("most") == 0)
            .then(pl.concat_str([pl.lit("balance_domains: "), name, pl.lit(" has no share")]))
            .when(pl.col("rank") > pl.col("most"))
            .then(pl.concat_str([pl.lit("balance_domains: "), name, pl.lit(" above its share")]))
        )
        return frame.with_columns(pl.lit(ranked.select(reason.alias("r"))["r"]).alias(REJECTED_REASON))

    def _weights(self, rows: pl.LazyFrame, counts: Mapping[str, int]) -> dict[str, Fraction]:
        if self.weights is not None:
            missing = [name for name, weight in self.weights.items() if weight and name not in counts]
            if missing and counts:
                raise GristmillError(
                    f"balance_domains: no row is of {' or '.join(missing)} (there are: {', '.join(counts)}).",
                    remedy="Correct the name, or leave it out of 'weights'.",
                )
            # By way of the decimal text: 0.1 to 0.3 is meant to be exactly one to three.
            return {name: Fraction(str(w)) for name, w in self.weights.items() if w and name in counts}
        measured = dict.fromkeys(counts, (0, 0))
        if self.rule != "equal":
            if "verdict" not in rows.collect_schema():
                raise RecipeError(
                    f"balance_domains: the rule {self.rule!r} needs samples, and these rows have no verdict.",
                    remedy="Read samples, give 'weights', or use 'rule: equal'.",
                )
            found = counted(rows, "\x1fdomain", OWN).collect()
            measured |= {n: (right, of) for n, right, of, _ in found.iter_rows()}
        shares = measured_weights(measured, self.rule, self.floor)
        return {name: Fraction(share).limit_denominator(10**6) for name, share in shares.items() if share}
