"""``weak_supervision``: the answers of a tuned model preferred to those of its base model.

From "Optimizing Language Model's Reasoning Abilities with Weak Supervision" (arXiv 2405.04086): a model that
is tuned on few labels is taken to answer better than its base, and the pairs that this gives need no labels.
Where both answers have decided verdicts these have the say: a pair then needs a right answer and a wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core.records import Pair, Sampled
from gristmill.core.schema import message_struct, schema
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.tables import with_rejected

if TYPE_CHECKING:
    import polars as pl


class WeakSupervision(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pair samples of a tuned model (the first table) with those of its base model (the second) by problem.

    Both must have finished, to the same prompt, with different texts. The scores of both become the pair's,
    ``chosen_NAME`` and ``rejected_NAME``. A tuned model's sample that meets none is rejected.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct] | None] = Pair
    inputs: ClassVar[tuple[int, int | None]] = (2, 2)

    per_problem: Annotated[int, Meta(ge=1)] = 1
    """The most pairs of a problem, the first in the order of the samples."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The pairs, then the samples of the tuned model without one."""
        import polars as pl

        tuned, base = (frame.filter(pl.col("finish_reason") == "stop") for frame in frames)
        met = tuned.join(base, on="problem_id", suffix="_base", maintain_order="left_right")
        right, wrong = (pl.col(f"verdict{side}").struct.field("outcome") for side in ("", "_base"))
        decided = right.is_in(["correct", "incorrect"]) & wrong.is_in(["correct", "incorrect"])
        fits = (pl.col("completion") != pl.col("completion_base")) & (
            pl.col("messages") == pl.col("messages_base")
        )
        better = (right == "correct") & (wrong == "incorrect")
        met = met.filter(fits & pl.when(decided.fill_null(False)).then(better).otherwise(True))
        met = met.filter(pl.int_range(pl.len()).over("problem_id") < self.per_problem)
        pairs = met.select(
            (pl.col("id") + ">" + pl.col("id_base")).alias("id"),
            "problem_id",
            pl.lit("tuned over base").alias("kind"),
            pl.col("messages").alias("prompt"),
            _said("").alias("chosen"),
            _said("_base").alias("rejected"),
            pl.lit(1.0).alias("weight"),
            pl.lit(0.0).alias("flip"),
            pl.concat_list(_scores("scores", "chosen"), _scores("scores_base", "rejected")).alias("scores"),
            "meta",
        ).cast(dict(schema(Pair)))  # type: ignore[arg-type]
        used = met.select("id").unique()
        reason = pl.lit("weak_supervision: no answer of the base model to compare with").alias(
            REJECTED_REASON
        )
        return with_rejected(
            pairs, frames[0].join(used, on="id", how="anti", maintain_order="left").with_columns(reason)
        )

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many pairs as samples meet."""
        return rows[0] * rows[1]


def _said(side: str) -> pl.Expr:
    """A completion as the messages of a side."""
    import polars as pl

    said, thought = pl.col(f"completion{side}"), pl.col(f"reasoning{side}")
    return pl.concat_list(message_struct(Pair, role=pl.lit("assistant"), content=said, reasoning=thought))


def _scores(column: str, side: str) -> pl.Expr:
    """Scores with the name of the side before their own."""
    import polars as pl

    named = (pl.lit(f"{side}_") + pl.element().struct.field("name")).alias("name")
    return pl.col(column).list.eval(pl.element().struct.with_fields(named))
