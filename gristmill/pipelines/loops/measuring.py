"""The numbers of a round, from the rows of its runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.shares import wilson
from gristmill.filters.expressions import evaluate, mask
from gristmill.pipelines.loops.options import LoopMeasure
from gristmill.pipelines.rundir.results import Run

if TYPE_CHECKING:
    import polars as pl

_Z = 1.959964
"""The 0.975 quantile of the normal distribution."""


class RoundMeasure(Struct, frozen=True):
    """The mean of a measure over ``rows`` rows, and a 95 % interval; ``None`` where there is no row.

    The interval takes the rows for independent: Wilson's where all values are 0 or 1, else 1.96 standard
    errors. A number of rows has none.
    """

    value: float | None
    rows: int
    low: float | None = None
    high: float | None = None


def measured(run: Run, measure: LoopMeasure, name: str) -> RoundMeasure:
    """A measure of a run. ``RecipeError`` where its expression does not fit the rows."""
    import polars as pl

    if measure.stage is not None and measure.stage not in run.stages:
        run.folder(measure.stage)  # raises for a stage that there is not
    if not run.stages or (measure.stage or run.stages[-1]) not in run.stages:
        return RoundMeasure(
            0.0 if measure.value is None else None, 0
        )  # a stage that kept no row has no files
    frame: pl.LazyFrame = run.rows(measure.stage)
    place = f"measures.{name}"
    if measure.where is not None:
        frame = mask(frame, measure.where, "_kept", f"{place}.where").filter(pl.col("_kept"))
    if measure.value is None:
        rows = frame.select("id").collect().height
        return RoundMeasure(float(rows), rows)
    found = evaluate(frame, {"_value": measure.value}, f"{place}.value").select("_value").collect()["_value"]
    if not (found.dtype.is_numeric() or found.dtype == pl.Boolean):
        raise RecipeError(
            f"{place}.value: {measure.value!r} is neither a number nor true or false.",
            remedy="Compare it with something: verdict == 'correct'.",
        )
    return mean_of(found.cast(pl.Float64).drop_nulls().drop_nans().to_list())


def mean_of(values: list[float]) -> RoundMeasure:
    """The mean with its interval; see ``RoundMeasure``."""
    count = len(values)
    if not count:
        return RoundMeasure(None, 0)
    mean = math.fsum(values) / count
    if all(value in (0.0, 1.0) for value in values):
        return RoundMeasure(mean, count, *wilson(round(mean * count), count))
    if count == 1:
        return RoundMeasure(mean, count)
    spread = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = _Z * math.sqrt(spread / count)
    return RoundMeasure(mean, count, mean - half, mean + half)
