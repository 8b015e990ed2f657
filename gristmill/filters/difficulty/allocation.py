"""How many samples each problem should get, where there are so many in all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from gristmill.core.errors import RecipeError
from gristmill.core.stages import Relation

if TYPE_CHECKING:
    import polars as pl


def budgets(weights: Sequence[float], total: int, *, least: int = 0, most: int | None = None) -> list[int]:
    """Whole numbers in [``least``, ``most``] that add up to ``total``, in proportion to ``weights``.

    With w = standard deviation of one draw they minimise the sum of w^2 / n (Neyman 1934): the variance of
    the gradient, in GVM (arXiv 2505.02391). What the bounds hold back goes to the others; remainders go to
    the largest, then to the first. ``ValueError`` where the bounds do not admit the total, or a weight is
    negative.
    """
    high = total if most is None else most
    count = len(weights)
    if any(not w >= 0 for w in weights) or not count * least <= total <= count * high:
        raise ValueError(f"{total} draws for {count} problems of {least} to {high} each")

    def spent(level: float) -> float:
        return sum(min(max(level * w, least), high) for w in weights)

    if not any(weights):
        weights = [1.0] * count
    low, up = 0.0, 1.0
    while spent(up) < total and up < 1e18:
        up *= 2
    for _ in range(200):
        middle = (low + up) / 2
        low, up = (middle, up) if spent(middle) < total else (low, middle)
    exact = [min(max(up * w, least), high) for w in weights]
    made = [math.floor(round(n, 6)) for n in exact]
    # What is left over by rounding, one at a time; weights of 0 come last.
    order = sorted(range(count), key=lambda i: (made[i] - exact[i], -weights[i], i))
    left = total - sum(made)
    while left:
        for i in order:
            step = 1 if left > 0 and made[i] < high else -1 if left < 0 and made[i] > least else 0
            made[i] += step
            left -= step
            if not left:
                break
    return made


def spread(right: int, decided: int, prior: float = 0.5) -> float:
    """The standard deviation of one outcome, sqrt(p (1 - p)), with p = (right + prior) / (decided + 2 prior).

    The prior (Jeffreys' by default) keeps a problem that is unsolved after few draws from counting as
    certain.
    """
    rate = (right + prior) / (decided + 2 * prior) if decided + prior else 0.5
    return math.sqrt(rate * (1 - rate))


class SamplingBudget(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Put on each row of ``pass_rate`` how many samples its problem should get, in the column ``budget``.

    Variance-optimal (GVM, arXiv 2505.02391, without its gradient norms): in proportion to the standard
    deviation of an outcome, see ``spread``, between ``least`` and ``most``. ``sample_balanced`` reads the
    column.
    """

    mean: Annotated[float, Meta(gt=0)] = 8.0
    """Samples of a problem on average; all together they are this times the rows, rounded."""
    least: Annotated[int, Meta(ge=0)] = 1
    """The fewest samples of a problem."""
    most: Annotated[int, Meta(ge=1)] | None = 64
    """The most samples of a problem; ``null`` sets no bound."""
    prior: Annotated[float, Meta(ge=0)] = 0.5
    """Right and wrong samples that are added to the counts."""

    def __post_init__(self) -> None:
        if not self.least <= self.mean <= (math.inf if self.most is None else self.most):
            raise RecipeError(
                f"sampling_budget: a mean of {self.mean:g} is not between least ({self.least}) and most "
                f"({self.most}).",
                remedy="Move the mean or the bounds.",
            )

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The rows in order with their budget. ``RecipeError`` for rows without ``right`` and ``decided``."""
        import polars as pl

        schema = frames[0].collect_schema()
        for name in ("right", "decided"):
            if name not in schema:
                raise RecipeError(
                    f"sampling_budget: there is no column {name!r}.", remedy="Read what 'pass_rate' puts out."
                )
        rows = frames[0].select("right", "decided").collect()
        weights = [spread(right, decided, self.prior) for right, decided in rows.iter_rows()]
        # Between the bounds whatever the rounding of the mean.
        total = min(
            max(round(self.mean * len(weights)), self.least * len(weights)),
            len(weights) * (self.most or 2**31),
        )
        made = budgets(weights, total, least=self.least, most=self.most)
        return frames[0].with_columns(pl.lit(pl.Series(made, dtype=pl.Int64)).alias("budget"))

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in."""
        return rows[0]
