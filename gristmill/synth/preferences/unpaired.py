"""``unpaired``: rows with a label each, as KTO and BCO read them, out of samples or of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.records import Labelled
from gristmill.core.stages import REJECTED_REASON, Anything, Relation
from gristmill.filters.expressions import Expression, plain
from gristmill.filters.order import seeded_order
from gristmill.filters.tables import with_rejected
from gristmill.synth.preferences.candidates import Candidates, samples_of, valued
from gristmill.synth.preferences.sides import labelled_samples, labelled_sides

if TYPE_CHECKING:
    import polars as pl

Positive = Annotated[float, Meta(gt=0)]


class Unpaired(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes rows of one completion and a label each: of samples by their value, of pairs by their sides.

    Of samples the label is true where the value is at least ``above``, false where it is at most ``below``;
    those between, and samples that could not be in a pair (see ``pairs``), are rejected. Of pairs each
    chosen side is a row with the label true, each rejected side one with false. The same text to the same
    prompt is one row; a text that is wanted in one place and unwanted in another is rejected.

    Losses on such rows need a balance: with n_D rows that are wanted and n_U that are not, and their weights,
    λ_D n_D / (λ_U n_U) should lie in [1, 4/3] (KTO, arXiv 2402.01306, section 4.2; BCO reads the same rows,
    arXiv 2404.04656).
    """

    reads: ClassVar[type[Struct]] = Anything
    writes: ClassVar[type[Struct]] = Labelled

    by: Expression = "verdict"
    """Of samples, what their labels are told by: an expression, such as ``verdict`` (right 1, wrong 0) or
    ``scores.reward``."""
    above: float = 1.0
    """The least value of a sample with the label true."""
    below: float = 0.0
    """The greatest value of a sample with the label false. It is less than ``above``."""
    balance: Literal["weights", "rows", "none"] = "weights"
    """What is done where the ratio of wanted to unwanted rows lies outside of ``ratio``. ``weights``: the
    rarer label gets a weight above 1 that brings the weighted ratio to the nearer end. ``rows``: rows of the
    more frequent label are rejected, by a seeded hash of their ids. ``none``: nothing."""
    ratio: tuple[Positive, Positive] = (1.0, 4 / 3)
    """The least and the greatest λ_D n_D / (λ_U n_U)."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "by", plain(self.by))
        for low, high, names in (
            (self.below, self.above, "below and above"),
            (self.ratio[0], self.ratio[1], "the two ends of ratio"),
        ):
            if low > high or (low == high and names != "the two ends of ratio"):
                raise RecipeError(
                    f"unpaired: {names} are {low:g} and {high:g}.", remedy="Let the first be the smaller one."
                )

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The rows in order, then what gives none."""
        columns = frames[0].collect_schema()
        of_pairs = "chosen" in columns and "rejected" in columns
        made, rejected = labelled_sides(frames[0]) if of_pairs else self._of_samples(frames[0], seed)
        return self._balanced(made, rejected, seed)

    def _of_samples(self, frame: pl.LazyFrame, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows of samples, and the rejected ones."""
        import polars as pl

        samples = valued(samples_of(frame, "unpaired"), [self.by], "unpaired")
        pool = Candidates(samples, 1, seed, win_rate=False)
        found = pool.table.select("row", "value").sort("row")
        wanted, unwanted = pl.col("value") >= self.above, pl.col("value") <= self.below
        taken = found.filter(wanted | unwanted).with_columns(wanted.alias("label"))
        value, row = pl.col("value"), pl.col("row")
        reason = (
            pl.when(~pl.col("usable"))
            .then(pl.lit("unpaired: blank, cut off or undecided"))
            .when(~pl.col("told"))
            .then(pl.lit("unpaired: no value to tell the label by"))
            .when(value.is_null())
            .then(pl.lit("unpaired: the same text as another sample"))
            .otherwise(pl.lit(f"unpaired: its value lies between {self.below:g} and {self.above:g}"))
        )
        others = (
            pool.samples.join(found, on="row", how="left", maintain_order="left")
            .filter(~row.is_in(taken["row"].implode()))
            .select("id", reason.alias(REJECTED_REASON))
        )
        return labelled_samples(pool.rows, taken), others

    def _balanced(self, made: pl.DataFrame, rejected: pl.DataFrame, seed: int) -> pl.LazyFrame:
        """The rows with their weights, and those that are rejected."""
        import polars as pl

        counts = {label: made.filter(pl.col("label") == label).height for label in (True, False)}
        if self.balance == "none" or made.is_empty():
            return with_rejected(made.lazy(), rejected.lazy())
        if not all(counts.values()):
            missing = "wanted (label true)" if not counts[True] else "unwanted (label false)"
            raise GristmillError(
                f"unpaired: none of the {made.height:,} rows is {missing}, so no weight can balance them.",
                remedy="Sample more problems, set 'above' and 'below' otherwise, or set balance: none.",
            )
        if self.balance == "rows":
            keep = rows_kept(counts[True], counts[False], self.ratio)
            surplus = [
                self._surplus(made, label, n, seed) for label, n in zip((True, False), keep, strict=True)
            ]
            out = pl.concat(surplus)
            reason = pl.lit("unpaired: above its label's share").alias(REJECTED_REASON)
            kept = made.join(out, on="id", how="anti", maintain_order="left")
            return with_rejected(kept.lazy(), pl.concat([rejected, out.with_columns(reason)]).lazy())
        wanted, unwanted = weights(counts[True], counts[False], self.ratio)
        weight = pl.when(pl.col("label")).then(wanted).otherwise(unwanted).cast(pl.Float64)
        return with_rejected(made.with_columns(weight.alias("weight")).lazy(), rejected.lazy())

    @staticmethod
    def _surplus(made: pl.DataFrame, label: bool, keep: int, seed: int) -> pl.DataFrame:
        """The ids of the rows of a label beyond the first ``keep`` by a seeded hash."""
        import polars as pl

        ids = made.filter(pl.col("label") == label)["id"]
        return pl.DataFrame({"id": ids.gather(seeded_order(seed, ids.to_list())[keep:])})

    def rows_max(self, rows: Sequence[int]) -> int:
        """Both sides of a pair, at most."""
        return 2 * rows[0]


def weights(wanted: int, unwanted: int, ratio: tuple[float, float] = (1.0, 4 / 3)) -> tuple[float, float]:
    """λ_D and λ_U for so many rows (both at least 1): 1 and 1 where the ratio is within its bounds, else the
    rarer label's is raised until it is (arXiv 2402.01306)."""
    low, high = ratio
    if wanted < low * unwanted:
        return low * unwanted / wanted, 1.0
    return 1.0, max(1.0, wanted / (high * unwanted))


def rows_kept(wanted: int, unwanted: int, ratio: tuple[float, float] = (1.0, 4 / 3)) -> tuple[int, int]:
    """How many rows of each label to keep so that their ratio is within its bounds, and no more is lost than
    must be. At least one of each is kept."""
    low, high = ratio
    return min(wanted, max(1, int(high * unwanted + 1e-9))), min(unwanted, max(1, int(wanted / low + 1e-9)))
