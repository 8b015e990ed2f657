"""Weights of the tables of a mixture by losses that were measured on their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from gristmill.core.errors import GristmillError
from gristmill.filters.difficulty.domains import excess_weights, replay_weights
from gristmill.filters.expressions import Expression, evaluate

if TYPE_CHECKING:
    import polars as pl

_LOSS = "\x1floss"


class MixtureRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="rule"):
    """How losses become weights. A loss is the mean of an expression over the rows of a table that have a
    number there, such as ``0 - scores.likelihood``."""

    def weigh(self, frames: Sequence[pl.LazyFrame], now: Sequence[float]) -> list[float]:
        """The weights of the tables, which add up to 1; ``now`` are those of the mixture so far.

        ``GristmillError`` for a table of which nothing is measured.
        """
        raise NotImplementedError

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """What is measured on each row."""
        raise NotImplementedError


class ReplayWeights(MixtureRule, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="replay"):
    """RECAP (arXiv 2510.21978): more for a table whose losses lag behind or swing, see ``replay_weights``."""

    losses: Annotated[tuple[Expression, ...], Meta(min_length=2)]
    """The loss at each checkpoint, oldest first: expressions over a row."""
    temperature: Annotated[float, Meta(gt=0)] = 1.0
    """Small: the greatest signal takes nearly all. Large: all tables have as many rows."""

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """The losses."""
        return self.losses

    def weigh(self, frames: Sequence[pl.LazyFrame], now: Sequence[float]) -> list[float]:
        """By the losses alone; ``now`` has no say."""
        histories = {str(at): _means(frame, self.expressions, at) for at, frame in enumerate(frames)}
        try:
            return list(replay_weights(histories, temperature=self.temperature).values())
        except ValueError as error:
            raise GristmillError(
                f"mix: the losses of table {error}.",
                remedy="A loss is above 0: 0 - scores.likelihood, where the score is a mean log-probability.",
            ) from error


class ExcessWeights(MixtureRule, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="excess"):
    """Data Mixing Agent (arXiv 2507.15640), a stated rule in place of its agent: more for a table whose loss
    is above the target, see ``excess_weights``."""

    loss: Expression
    """The loss now: an expression over a row."""
    target: Expression
    """The loss to come back to, such as that of the model before the training."""
    rate: Annotated[float, Meta(gt=0)] = 1.0
    """How fast a table gains by its excess."""
    floor: Annotated[float, Meta(ge=0, lt=1)] = 0.05
    """The share that all tables divide equally, so that none dies out."""

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """The loss and its target."""
        return (self.loss, self.target)

    def weigh(self, frames: Sequence[pl.LazyFrame], now: Sequence[float]) -> list[float]:
        """From the mixture so far, raised by the excess."""
        pairs = [_means(frame, self.expressions, at) for at, frame in enumerate(frames)]
        losses, targets = ({str(at): pair[side] for at, pair in enumerate(pairs)} for side in (0, 1))
        before = {str(at): weight / sum(now) for at, weight in enumerate(now)}
        return list(excess_weights(before, losses, targets, rate=self.rate, floor=self.floor).values())


def evaluated(frame: pl.LazyFrame, losses: Sequence[Expression]) -> pl.LazyFrame:
    """The rows with their losses in further columns. ``RecipeError`` for an expression that is not valid."""
    return evaluate(frame, {f"{_LOSS}{at}": loss for at, loss in enumerate(losses)}, "mix")


def _means(frame: pl.LazyFrame, losses: Sequence[Expression], at: int) -> list[float]:
    import polars as pl

    rows = evaluated(frame, losses)
    names = [name for name in rows.collect_schema() if name.startswith(_LOSS)]
    found = rows.select(pl.col(names).cast(pl.Float64).mean()).collect().row(0)
    if None in found:
        raise GristmillError(
            f"mix: no row of table {at + 1} has a number in {losses[found.index(None)]!r}.",
            remedy="Measure its losses first, for example with {stage: score, scorer: likelihood}.",
        )
    return [float(value) for value in found]
