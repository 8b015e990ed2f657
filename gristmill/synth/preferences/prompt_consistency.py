"""``prompt_consistency``: whether a reward model or judge tells a prompt from its contrast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core.records import Pair
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.expressions import evaluate

if TYPE_CHECKING:
    import polars as pl


class ConsistencyRow(Struct, frozen=True):
    """How a score fares on a prompt and its contrast: in hundredths, of the two comparisons by response (same
    prompt, its own answer against the other) and of the two by instruction (same answer, its own prompt
    against the other)."""

    id: str
    response: int
    instruction: int


class PromptConsistency(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Measures by the pairs of ``contrast_prompts`` whether a score ranks the right combinations of prompt
    and answer first (Contrast Instructions, arXiv 2309.16155).

    With prompts I and I' and their answers R and R': the response is consistent where the score of (I, R) is
    above that of (I, R'), and that of (I', R') above (I', R); the instruction, where (I, R) is above
    (I', R), and (I', R') above (I, R'). A tie is not consistent. The names and the exact count are this
    project's reading. The means over all rows are the metric, and are shown in the run's summary; guessing
    gives 50. A problem without both pairs, or with a score missing, is rejected.
    """

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct]] = ConsistencyRow

    score: Annotated[str, Meta(min_length=1)]
    """The name of the score, which ``score_pairs`` wrote as ``chosen_NAME`` and ``rejected_NAME``."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """A row for each prompt with its contrast, in order."""
        import polars as pl

        wanted = {
            "set": "meta.contrast",
            "side": "meta.contrast_side",
            "own": f"scores.chosen_{self.score}",
            "other": f"scores.rejected_{self.score}",
        }
        sides = evaluate(frames[0], wanted, "prompt_consistency").filter(pl.col("set").is_not_null())
        values = [pl.col(name).cast(pl.Float64).fill_nan(None) for name in ("own", "other")]
        halves = [
            sides.filter(pl.col("side") == which).select("set", *(v.name.suffix(f"_{which}") for v in values))
            for which in ("original", "changed")
        ]
        both = halves[0].join(halves[1], on="set", how="full", coalesce=True, maintain_order="left")
        own, other = pl.col("own_original"), pl.col("other_original")
        own_there, other_there = pl.col("own_changed"), pl.col("other_changed")

        def hundredths(*right: pl.Expr) -> pl.Expr:
            return pl.sum_horizontal(one.cast(pl.Int64) * 50 for one in right)

        lacks = pl.any_horizontal(v.is_null() for v in (own, other, own_there, other_there))
        reason = pl.when(lacks).then(pl.lit("prompt_consistency: a pair or a score is missing"))
        return both.select(
            pl.col("set").cast(pl.String).alias("id"),
            hundredths(own > other, own_there > other_there).alias("response"),
            hundredths(own > other_there, own_there > other).alias("instruction"),
            reason.alias(REJECTED_REASON),
        )

    def measured(self, kept: pl.DataFrame) -> Mapping[str, Sequence[int]]:
        """Both consistencies, in percent."""
        return {
            f"{what} consistency of {self.score}, %": kept[what].to_list()
            for what in ("response", "instruction")
        }

    def rows_max(self, rows: Sequence[int]) -> int:
        """One for every pair at most."""
        return rows[0]
