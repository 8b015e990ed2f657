"""Balance between the subsets of self-correction trajectories (arXiv 2502.19613, section 5 and Table 8)."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.records import Subset, Trajectory
from gristmill.core.stages import REJECTED_REASON, Filter
from gristmill.filters.order import kept_of, seeded_order

if TYPE_CHECKING:
    import polars as pl

Mixture = Literal["balanced", "more_incorrect", "more_correct"]

MIXES: dict[Mixture, dict[Subset, float]] = {
    "balanced": {"D1": 125, "D3": 125},
    "more_incorrect": {"D1": 125, "D3": 60},
    "more_correct": {"D1": 125, "D3": 180},
}
"""Table 8's mixtures, in thousands of trajectories."""
CORRECT_TO_CORRECT = 60
"""Table 8's optional part of D2, on the same scale."""

_FIRST_ATTEMPT: dict[Subset, str] = {
    "D1": "first attempt wrong",
    "D2": "first attempt right",
    "D3": "first attempt right",
}


class Balance(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keep the largest set of trajectories with the wanted shares of D1, D2 and D3.

    Give one of ``mix`` (a preset; ``correct_to_correct`` adds its D2), ``ratios`` (relative sizes; a
    subset that is not named has no share) and ``first_attempt: equal`` (as many first attempts right,
    D2 and D3, as wrong, D1: the paper's Qwen run), which is the default. The scarcest part is kept
    whole, and each other part to the nearest whole number. ``cap_per_problem`` is applied before.

    Which rows of a part stay is decided by a seeded hash of their ids, so that more rows change the
    choice only at its edge. A part with a share but no rows would leave nothing to keep: that is an
    error, or with ``missing: ignore`` the other parts are balanced without it.
    """

    marks_only: ClassVar[bool] = True

    reads: ClassVar[type[Struct]] = Trajectory
    writes: ClassVar[type[Struct]] = Trajectory

    mix: Mixture | None = None
    """A preset of Table 8: ``balanced``, ``more_incorrect`` or ``more_correct``."""
    correct_to_correct: bool = False
    """With ``mix``: also the preset's share of D2."""
    ratios: dict[Subset, Annotated[float, Meta(ge=0, le=1e9)]] | None = None
    """Relative sizes by subset, such as {D1: 2, D3: 1}; a subset that is not named has no share."""
    first_attempt: Literal["equal"] | None = None
    """``equal``: as many first attempts right as wrong. The default where neither ``mix`` nor ``ratios`` is
    given."""
    cap_per_problem: Annotated[int, Meta(ge=1)] | None = None
    """Keep at most this many of a problem, before anything else."""
    missing: Literal["error", "ignore"] = "error"
    """What to do about a subset with a share but no rows: end the run, or balance the others."""

    def __post_init__(self) -> None:
        given = [n for n in ("mix", "ratios", "first_attempt") if getattr(self, n) is not None]
        if len(given) > 1:
            raise RecipeError(f"balance: {' and '.join(given)} are both given.", remedy="Keep one of them.")
        if self.ratios is not None and not any(self.ratios.values()):
            raise RecipeError(
                f"balance: ratios {self.ratios} keep nothing.", remedy="Give at least one a positive number."
            )
        if self.correct_to_correct and self.mix is None:
            raise RecipeError(
                "balance: correct_to_correct goes with mix only.",
                remedy="Name a mix, or use 'ratios' with D2.",
            )

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        """All rows, with ``REJECTED`` set on those above their share; ids and subsets are held in memory."""
        import polars as pl

        rows = frame.select("id", "problem_id", "subset").collect()
        order = seeded_order(seed, rows["id"].to_list())
        reasons: list[str | None] = [None] * len(order)
        if self.cap_per_problem is not None:
            _cap(self.cap_per_problem, order, rows["problem_id"].to_list(), reasons)
        self._balance(order, rows["subset"].to_list(), reasons)
        column = pl.LazyFrame({REJECTED_REASON: pl.Series(reasons, dtype=pl.String)})
        return pl.concat([frame, column], how="horizontal")

    def _balance(self, order: list[int], subsets: list[Subset], reasons: list[str | None]) -> None:
        weights = self._weights()
        rows: dict[str, list[int]] = {part: [] for part in weights}
        for row in order:
            if reasons[row] is None:
                part = self._part(subsets[row])
                if part in rows:
                    rows[part].append(row)
                else:
                    reasons[row] = f"balance: {part} has no share"
        if order:
            self._refuse_missing([part for part in weights if not rows[part]], rows)
        for part, most in kept_of({part: len(found) for part, found in rows.items()}, weights).items():
            for row in rows[part][most:]:
                reasons[row] = f"balance: {part} above its share"

    def _weights(self) -> dict[str, Fraction]:
        """The parts of the mixture that have a share, with their relative sizes."""
        if self.mix is not None:
            ratios = dict(MIXES[self.mix])
            if self.correct_to_correct:
                ratios["D2"] = CORRECT_TO_CORRECT
        elif self.ratios is not None:
            ratios = self.ratios
        else:
            return {part: Fraction(1) for part in _FIRST_ATTEMPT.values()}
        # By way of the decimal text: 0.1 to 0.3 is meant to be exactly one to three.
        return {subset: Fraction(str(ratio)) for subset, ratio in sorted(ratios.items()) if ratio > 0}

    def _part(self, subset: Subset) -> str:
        return subset if self.mix or self.ratios else _FIRST_ATTEMPT[subset]

    def _refuse_missing(self, missing: list[str], rows: dict[str, list[int]]) -> None:
        if missing and self.missing == "error":
            there = ", ".join(f"{part}: {len(found)}" for part, found in rows.items())
            raise GristmillError(
                f"balance: there is no trajectory of {' or '.join(missing)} ({there}), so the wanted shares "
                "would leave nothing.",
                remedy="Sample more problems, change the shares, or balance the rest with 'missing: ignore'.",
            )


def _cap(limit: int, order: list[int], problems: list[str], reasons: list[str | None]) -> None:
    seen: Counter[str] = Counter()
    for row in order:
        seen[problems[row]] += 1
        if seen[problems[row]] > limit:
            reasons[row] = f"balance: above {limit} per problem"
