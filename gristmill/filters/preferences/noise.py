"""``label_noise``: labels turned round on purpose, to study what curation and training do about it.

Such as noisy rewards in "The Climb Carves Wisdom Deeper Than the Summit" (arXiv 2505.22653), or the tenth of
labels that SALMON (arXiv 2310.05910) turns round. Which pairs are turned follows from a seeded hash of their
ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field

from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.records import Pair
from gristmill.core.stages import Relation, derive_seed
from gristmill.filters.preferences.scores import curated, read_scores, sigmoid
from gristmill.filters.tables import key_column

if TYPE_CHECKING:
    import polars as pl

    from gristmill.filters.preferences.scores import Numbers

_STEPS = 60
_SHARPEST = 1e9


class LabelNoise(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Turn pairs round at random: all with one chance, close ones more often, or by who labelled them."""

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct] | None] = None

    rate: Annotated[float, Meta(ge=0, le=0.5)] = 0.1
    """The share of pairs to turn round, on the average; with ``annotator`` that of those not in ``rates``."""
    kind: Literal["uniform", "instance", "annotator"] = "uniform"
    """``uniform``: each pair with the chance ``rate``. ``instance``: with the chance sigmoid(-k |margin|) by
    ``scorer``, and k such that the mean is ``rate``. ``annotator``: with the chance that ``rates`` gives."""
    scorer: str | None = None
    """With ``instance``: whose margin, as of ``strength``."""
    by: str | None = None
    """With ``annotator``: the column that names who labelled a pair."""
    rates: dict[str, Annotated[float, Meta(ge=0, le=1)]] = field(default_factory=dict)
    """With ``annotator``: the chance for each, by name."""

    def __post_init__(self) -> None:
        wants = {"instance": "scorer", "annotator": "by"}.get(self.kind)
        for option in ("scorer", "by"):
            if (getattr(self, option) is not None) != (option == wants):
                raise RecipeError(
                    f"label_noise: kind is {self.kind!r}, and {option} is {getattr(self, option)!r}.",
                    remedy=f"{'Set' if option == wants else 'Leave out'} {option!r}.",
                )

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """All pairs."""
        import numpy as np

        ids = frames[0].select("id").collect()["id"].to_list()
        draws = np.array([derive_seed(seed, one) for one in ids], float) / 2**31
        return curated(frames[0], turned=draws < self._chances(frames[0], len(ids)))

    def _chances(self, frame: pl.LazyFrame, height: int) -> Numbers:
        import numpy as np

        if self.scorer is not None:
            distance = np.abs(read_scores(frame, [self.scorer], "label_noise").margin(self.scorer))
            return chances(distance, self.rate)
        if self.by is not None:
            column = key_column(frame.collect_schema(), self.by, "label_noise", keyword=False)
            names = frame.select(column).collect()[column].to_list()
            return np.array([self.rates.get(str(name), self.rate) for name in names], float)
        return np.full(height, self.rate)

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in."""
        return rows[0]


def chances(distance: Numbers, rate: float) -> Numbers:
    """sigmoid(-k ``distance``), with the k >= 0 for which the mean is ``rate``; a pair without a distance
    gets ``rate``. ``GristmillError`` where no k gives it: too many distances are 0."""
    import numpy as np

    known = distance[~np.isnan(distance)]
    low, high = 0.0, 1.0

    def mean(k: float) -> float:
        return float(sigmoid(-k * known).mean())

    if not len(known):
        return np.full(len(distance), rate)
    while mean(high) > rate and high < _SHARPEST:
        high *= 2
    if mean(high) > rate:
        raise GristmillError(
            f"label_noise: a rate of {rate:g} cannot be reached: {(known == 0).mean():.0%} of the pairs have "
            "a margin of 0 and so a chance of one half.",
            remedy="Raise the rate, or use 'kind: uniform'.",
        )
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if mean(middle) > rate else (low, middle)
    return np.where(np.isnan(distance), rate, sigmoid(-high * distance))
