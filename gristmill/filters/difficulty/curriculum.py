"""``curriculum``: the order and the phases in which problems are trained on, by how hard they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, field

from gristmill.core.errors import RecipeError
from gristmill.core.registry import suggest
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.tables import key_column, with_rejected

if TYPE_CHECKING:
    import polars as pl


class Curriculum(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sort rows by difficulty, keep the hardest, and divide them into phases.

    Of rows from ``pass_rate`` the difficulty is 1 - ``rate``; ``by`` names another column, such as ``level``,
    of which more is harder. DRIVE (arXiv 2511.06307) trains on a large set and then, in phases, on the
    hardest that remain; Light-R1 (arXiv 2503.10460) fine-tunes on all and then on the hardest. Equal rows are
    ranked by their ids. A problem that was never solved is decided apart: it may be out of reach, or its
    answer wrong, and then all that is spent on it is lost.
    """

    by: str = "rate"
    """The column with the difficulty: ``rate``, of which less is harder, or any other, of which more is. Rows
    without a number there are rejected."""
    order: Literal["easy_first", "hard_first"] = "easy_first"
    """In which order the rows come out."""
    hardest: Annotated[int, Meta(ge=1)] | None = None
    """Keep only so many of the hardest; ``null`` keeps all."""
    unsolved: Literal["apart", "keep", "reject"] = "apart"
    """What becomes of rows with a ``rate`` of 0. ``apart``: they are in the phase ``unsolved``, come last and
    do not count among the ``hardest``. ``keep``: they are the hardest. ``reject``: they go."""
    phases: dict[str, float] | None = None
    """The phases by name, easy ones first, each with the greatest difficulty in it (1 - rate, or the column's
    number); the last may have ``.inf``. Rows beyond all of them are rejected. ``null``: one phase,
    ``all``."""
    copies: dict[str, Annotated[int, Meta(ge=1)]] = field(default_factory=dict)
    """How often the rows of a phase come out, one after the other; once where a phase is not named. DRIVE
    repeats the hard prompts of its fine-tuning."""
    column: Annotated[str, Meta(min_length=1)] = "phase"
    """The column that the phase is put in."""

    def __post_init__(self) -> None:
        bounds = list((self.phases or {}).values())
        if bounds != sorted(set(bounds)):
            raise RecipeError(
                f"curriculum: the bounds of phases, {bounds}, do not rise.",
                remedy="Give the easiest phase first, and each one a greater difficulty than the one before.",
            )

        unknown = set(self.copies) - {*(self.phases or {"all": 0}), "unsolved"}
        if unknown:
            raise RecipeError(
                f"curriculum: copies names {min(unknown)!r}, which is not a phase.",
                remedy=suggest(min(unknown), [*(self.phases or {"all": 0}), "unsolved"]),
            )

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The rows in their new order with their phase, then those rejected."""
        import polars as pl

        frame = frames[0]
        key = key_column(frame.collect_schema(), self.by, "curriculum", keyword=False)
        number = pl.col(key).cast(pl.Float64, strict=False)
        # Rounded, so that 1 - .9 is the .1 that a recipe says.
        hard = (1 - number).round(12) if key == "rate" else number
        never = (hard == 1) & (key == "rate")
        out: Any = pl.when(hard.is_null() | hard.is_nan()).then(pl.lit(f"curriculum: {key} is not a number"))
        if self.unsolved == "reject":
            out = out.when(never).then(pl.lit("curriculum: never solved"))
        apart = never if self.unsolved == "apart" else pl.lit(False)
        bounds = self.phases or {"all": float("inf")}
        phase: Any = pl.when(apart).then(pl.lit("unsolved"))
        for name, most in bounds.items():
            phase = phase.when(hard <= most).then(pl.lit(name))
        rows = frame.with_columns(
            hard.alias("\x1fhard"),
            apart.alias("\x1fapart"),
            phase.alias(self.column),
            out.alias(REJECTED_REASON),
        ).with_columns(
            pl.when(pl.col(REJECTED_REASON).is_not_null())
            .then(pl.col(REJECTED_REASON))
            .when(pl.col(self.column).is_null())
            .then(pl.lit("curriculum: harder than all phases"))
            .alias(REJECTED_REASON)
        )
        kept = rows.filter(pl.col(REJECTED_REASON).is_null()).drop(REJECTED_REASON)
        # By difficulty from the hardest, equals by id: so are the hardest counted, whatever the order.
        kept = kept.sort("\x1fapart", "\x1fhard", "id", descending=[False, True, False], nulls_last=True)
        none = rows.filter(pl.col(REJECTED_REASON).is_not_null())
        if self.hardest is not None:
            easy = kept.filter(~pl.col("\x1fapart")).slice(self.hardest)
            none = pl.concat(
                [
                    none,
                    easy.with_columns(
                        pl.lit(f"curriculum: not of the hardest {self.hardest}").alias(REJECTED_REASON)
                    ),
                ],
                how="diagonal",
            )
            kept = pl.concat(
                [kept.filter(~pl.col("\x1fapart")).head(self.hardest), kept.filter(pl.col("\x1fapart"))]
            )
        if self.order == "easy_first":
            kept = kept.sort("\x1fapart", "\x1fhard", "id")
        if self.copies:
            times = pl.col(self.column).replace_strict(self.copies, default=1, return_dtype=pl.Int64)
            placed = kept.with_row_index("\x1fat")
            parts = [placed.filter(times > i) for i in range(max(self.copies.values()))]
            kept = pl.concat(parts).sort("\x1fat", maintain_order=True).drop("\x1fat")
        return with_rejected(kept.drop("\x1fapart", "\x1fhard"), none)

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in, as often as the phase with the most copies."""
        return rows[0] * max(1, *self.copies.values()) if self.copies else rows[0]
