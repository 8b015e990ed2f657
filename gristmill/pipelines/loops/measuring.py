"""The numbers of a round, from the rows of its runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.knowledge import Response
from gristmill.core.records import Exploration
from gristmill.core.schema import from_frame
from gristmill.core.shares import wilson
from gristmill.filters.expressions import evaluate, mask
from gristmill.pipelines.loops.options import LoopMeasure, LoopValue
from gristmill.pipelines.rundir.results import Run
from gristmill.synth.refusal.compare import METRICS, compare
from gristmill.synth.self_correction.trial import CorrectionMetrics, measure, triple

if TYPE_CHECKING:
    import polars as pl

_OF_TRIALS = CorrectionMetrics.__struct_fields__
_SHARES = ("turn1", "final", "i_to_c", "c_to_i", "no_verdict")
"""Metrics of trials that are shares of all problems."""
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


def measured(run: Run, wanted: LoopMeasure, name: str) -> RoundMeasure:
    """A measure of a run. ``RecipeError`` where its expression does not fit the rows."""
    import polars as pl

    if wanted.stage is not None and wanted.stage not in run.stages:
        run.folder(wanted.stage)  # raises for a stage that there is not
    if not run.stages or (wanted.stage or run.stages[-1]) not in run.stages:
        return RoundMeasure(0.0 if wanted.value is None else None, 0)  # a stage that kept no row has no files
    frame: pl.LazyFrame = run.rows(wanted.stage)
    place = f"measures.{name}"
    if wanted.where is not None:
        frame = mask(frame, wanted.where, "_kept", f"{place}.where").filter(pl.col("_kept"))
    columns = set(frame.collect_schema())
    if wanted.value in _OF_TRIALS and set(Exploration.__struct_fields__) <= columns:
        return _of_trials(from_frame(frame.collect(), Exploration), wanted.value)
    if wanted.value in METRICS and set(Response.__struct_fields__) <= columns:
        return _of_responses(from_frame(frame.collect(), Response), wanted.value)
    if wanted.value is None:
        rows = frame.select("id").collect().height
        return RoundMeasure(float(rows), rows)
    given = evaluate(frame, {"_value": wanted.value}, f"{place}.value").select("_value").collect()["_value"]
    if not (given.dtype.is_numeric() or given.dtype == pl.Boolean):
        raise RecipeError(
            f"{place}.value: {wanted.value!r} is neither a number nor true or false.",
            remedy="Compare it with something: verdict == 'correct'.",
        )
    return mean_of(given.cast(pl.Float64).drop_nulls().drop_nans().to_list())


def found(run: Run, wanted: LoopValue, name: str) -> str | float:
    """The one value of a run that later steps are told. ``RecipeError`` where rows give none, or several."""
    import polars as pl

    place = f"values.{name}"
    stage = wanted.stage or (run.stages[-1] if run.stages else "")
    values: list[Any] = []
    if stage in run.stages:
        frame: pl.LazyFrame = run.rows(stage)
        if wanted.where is not None:
            frame = mask(frame, wanted.where, "_kept", f"{place}.where").filter(pl.col("_kept"))
        frame = evaluate(frame, {"_value": wanted.value}, f"{place}.value").select("_value").drop_nulls()
        values = frame.unique(maintain_order=True).collect()["_value"].to_list()
    if len(values) != 1 or not isinstance(values[0], str | int | float):
        given = ", ".join(map(repr, values[:3])) + (", ..." if len(values) > 3 else "")
        raise RecipeError(
            f"{place}: {wanted.value!r} is to give one number or text, and the rows of {stage!r} give "
            f"{given or 'none'}.",
            remedy="Say with 'where' which rows are meant, or choose another stage.",
        )
    return values[0]


def _of_trials(trials: Sequence[Exploration], name: str) -> RoundMeasure:
    """A metric of self-correction, of one trial for each problem; of shares of all problems and of the gain
    from the first answer to the last with an interval."""
    triples = [triple(trial) for trial in trials]
    metrics = measure(triples)
    value, count = getattr(metrics, name), metrics.problems
    if name == "delta":
        return mean_of([bool(second) - first if said is False else 0.0 for first, said, second in triples])
    if value is None or name not in _SHARES:
        return RoundMeasure(value, count)
    return RoundMeasure(value, count, *wilson(round(value * count), count))


def _of_responses(responses: Sequence[Response], name: str) -> RoundMeasure:
    """A metric of a system that may decline, with the interval that ``compare`` gives it."""
    if not responses:
        return RoundMeasure(None, 0)
    [system] = compare({name: responses}).systems
    low, high = system.intervals.get(name) or (None, None)
    return RoundMeasure(system.measures.values[name], system.measures.questions, low, high)


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
