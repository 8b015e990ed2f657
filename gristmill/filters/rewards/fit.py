"""``filtration_fit``: how far each way to filter answers leaves a reward to be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core.errors import GristmillError
from gristmill.core.records import Sampled
from gristmill.core.stages import Relation
from gristmill.filters.difficulty.pass_rate import OWN, value_of
from gristmill.filters.rewards.scored import Filtration, Name, filtration_fit
from gristmill.filters.tables import PROBLEM, key_column

if TYPE_CHECKING:
    import polars as pl

NONE = "none"
"""The row without a rule: every answer is kept."""
_RULES: dict[str, Filtration | None] = {NONE: None, "bon": "bon", "br": "br", "bw": "bw"}


class FiltrationFit(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row for each rule of PF-PPO (arXiv 2409.06957) with its R^2, to choose one by before training.

    R^2 says how well the rewards of the answers that a rule keeps tell their actual scores, in bins by reward
    (see ``filtration_fit``). ``best`` marks the highest, of equal ones the first. Answers that lack either
    number have no part in it. The shape ``pf_ppo`` then gives the weights of the chosen rule.
    """

    reads: ClassVar[type[Struct]] = Sampled

    of: Name
    """The score with the reward."""
    actual: Name = OWN
    """The score that is known to be right; ``verdict`` is a sample's own, 1 for right and 0 for wrong."""
    bins: Annotated[int, Meta(ge=2)] = 10
    """Of how many parts of equally many answers the means are compared."""
    by: str = PROBLEM
    """The column of the problem; ``problem`` is the problem of a sample."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """Four rows: ``none``, ``bon``, ``br`` and ``bw``. ``GristmillError`` where no answer has both
        numbers."""
        import polars as pl

        key = key_column(frames[0].collect_schema(), self.by, "filtration_fit")
        rows = frames[0].select(
            pl.col(key).alias("key"), value_of(self.of).alias("x"), value_of(self.actual).alias("y")
        )
        there = rows.drop_nulls(["x", "y"]).collect()
        groups: dict[object, list[tuple[float, float]]] = {}
        for problem, reward, score in there.iter_rows():
            groups.setdefault(problem, []).append((reward, score))
        kind = {"id": pl.String, "rule": pl.String, "r_squared": pl.Float64, "answers": pl.Int64}
        schema = pl.Schema(kind | {"best": pl.Boolean})
        if not groups:
            if rows.select(pl.len()).collect().item():
                raise GristmillError(
                    f"filtration_fit: no answer has both {self.of!r} and {self.actual!r}.",
                    remedy="Score and verify the samples first, or correct the names.",
                )
            return pl.LazyFrame(schema=schema)
        fits = {name: filtration_fit(list(groups.values()), rule, self.bins) for name, rule in _RULES.items()}
        best = max(fits, key=fits.__getitem__)
        made = [(name, name, fit, there.height, name == best) for name, fit in fits.items()]
        return pl.LazyFrame(made, schema=schema, orient="row")

    def rows_max(self, rows: Sequence[int]) -> int:
        """One for each rule."""
        return len(_RULES)
