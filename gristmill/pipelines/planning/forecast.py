"""``plan --rows``: what a recipe will cost at scale, from the completions of a pilot that are in the log.

Nothing is assumed about a stage. The pilot's rows go through the recipe again, over the log alone, and what
each source row made every stage ask for is counted; so an adaptive stage is predicted by what it did.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from gristmill.core.errors import RunError
from gristmill.engines.log.store import CompletionLog
from gristmill.pipelines.planning.memory import Known
from gristmill.pipelines.planning.replay import COUNTS, Replay
from gristmill.pipelines.recipe import recipe as recipes
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.rundir.directory import SUMMARY
from gristmill.pipelines.rundir.results import open_run
from gristmill.pipelines.rundir.summary import Summary, align
from gristmill.pipelines.running.loop import in_own_loop
from gristmill.pipelines.running.rows import read_sources
from gristmill.pipelines.running.sessions import Verifiers, entries, opened

if TYPE_CHECKING:
    import polars as pl

FEWEST = 20
"""Rows of a pilot below which nothing is predicted: a tail of one row in twenty would go unseen."""
RESAMPLES = 1000
LEVEL = 0.95
_TOTAL = "all stages"
"""No stage has this name, for it has a space."""


class Amount(Struct, frozen=True):
    """A predicted number, and the 95 % interval around it."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Amount:
        """The same in another unit."""
        return Amount(self.value * factor, self.low * factor, self.high * factor)


class StageForecast(Struct, frozen=True):
    """A stage. ``rows`` are those that it reads. ``per_row`` are the completions that one row of the source
    made it ask for, in the pilot: median, 95th percentile and maximum."""

    name: str
    rows: Amount
    requests: Amount
    completions: Amount
    tokens_in: Amount
    tokens_out: Amount
    per_row: tuple[int, int, int]


class Speed(Struct, frozen=True):
    """Completion tokens per second of one GPU, and where the number is from."""

    tokens_per_second: float
    source: str


class Forecast(Struct, frozen=True):
    """What ``rows`` problems will need, all of it paid for anew.

    ``pilot_rows`` were measured, ``incomplete`` ones were left out since the log lacks some of their
    completions. ``gpu_hours`` and what follows from it is ``None`` where no speed is known.
    """

    name: str
    rows: int
    gpus: int
    pilot_rows: int
    incomplete: int
    stages: list[StageForecast]
    total: StageForecast
    speed: Speed | None
    gpu_hours: Amount | None
    dollars: Amount | None
    tables: bool


def forecast(
    recipe: Recipe,
    rows: int,
    *,
    pilot_rows: int,
    log: Path,
    gpus: int = 1,
    speed: Speed | None = None,
    dollars_per_gpu_hour: float | None = None,
) -> Forecast:
    """What ``rows`` problems will need, from the first ``pilot_rows`` of the source.

    ``RunError`` where fewer than ``FEWEST`` of them are in the log with all their completions.
    """
    engines = {name: opened(entry) for name, entry in entries(recipe)}
    limits = dict.fromkeys(recipe.graph.sources, pilot_rows)
    with CompletionLog(log) as found, Verifiers(recipe) as verifiers:
        known = Known(recipe, engines, found, verifiers.main, verifiers.named)
        replay = Replay(known, read_sources(recipe, limits))
        in_own_loop(replay.run())
    whole = [cost for i, cost in enumerate(replay.costs) if i not in replay.incomplete]
    if len(whole) < FEWEST:
        raise RunError(
            f"a forecast needs a pilot of {FEWEST} rows or more: of the first {len(replay.costs):,} rows of "
            f"the source, the log {log} has all completions of {len(whole):,} under this recipe.",
            remedy=_remedy(recipe),
        )
    names = [n.name for n in recipe.stages]
    stages, total = _predicted(whole, names, rows, recipe.seed)
    gpu_hours = dollars = None
    if speed is not None:
        gpu_hours = total.tokens_out.times(1 / speed.tokens_per_second / 3600)
        dollars = None if dollars_per_gpu_hour is None else gpu_hours.times(dollars_per_gpu_hour)
    return Forecast(
        name=recipe.name,
        rows=rows,
        gpus=gpus,
        pilot_rows=len(whole),
        incomplete=len(replay.incomplete),
        stages=stages,
        total=total,
        speed=speed,
        gpu_hours=gpu_hours,
        dollars=dollars,
        tables=any(n.table_stage for n in recipe.stages),
    )


def _remedy(recipe: Recipe) -> str:
    name = f"{recipe.name}-pilot"
    return (
        f"Make one: gristmill run RECIPE --limit 200 --set name={name}; then: "
        f"gristmill plan RECIPE --rows N --pilot {name}"
    )


class Pilot(NamedTuple):
    """How many rows of the source were tried, and how fast that went."""

    rows: int
    speed: Speed | None


def find_pilot(recipe: Recipe, run: Path | None, runs: Path, gpus: int) -> Pilot:
    """The pilot that is the complete run at ``run`` (default: the recipe's own) on ``gpus`` GPUs.

    ``RunError`` where there is none.
    """
    if run is None and not (runs / recipe.name / SUMMARY).exists():
        raise RunError("a forecast needs a pilot: nothing is measured yet.", remedy=_remedy(recipe))
    summary = open_run(run or runs / recipe.name).summary
    return Pilot(summary.stages[0].rows_out, _speed(summary, gpus))


def _speed(summary: Summary, gpus: int) -> Speed | None:
    seconds, tokens = summary.timing.get("seconds", 0.0), summary.spent.tokens_out
    if not (seconds and tokens):  # it was answered by the log
        return None
    of = f"the pilot's {tokens:,} completion tokens in {seconds:,.0f} s on {gpus} GPU{'s' * (gpus > 1)}"
    return Speed(tokens / seconds / gpus, of)


def predict(
    path: Path,
    rows: float,
    *,
    overrides: Sequence[str] = (),
    gpus: int = 1,
    pilot: Path | None = None,
    pilot_rows: int | None = None,
    pilot_gpus: int = 1,
    tokens_per_second: float | None = None,
    dollars_per_gpu_hour: float | None = None,
    runs: Path,
    log: Path,
) -> Forecast:
    """The forecast for the recipe at ``path``: from the run ``pilot``, from the first ``pilot_rows`` of the
    source (of which the log must have the completions), or from the recipe's own complete run."""
    recipe = recipes.load(path, overrides)
    tried = Pilot(pilot_rows, None) if pilot_rows else find_pilot(recipe, pilot, runs, pilot_gpus)
    given = None if tokens_per_second is None else Speed(tokens_per_second, "as given")
    return forecast(
        recipe,
        round(rows),
        pilot_rows=tried.rows,
        log=log,
        gpus=gpus,
        speed=given or tried.speed,
        dollars_per_gpu_hour=dollars_per_gpu_hour,
    )


def _predicted(
    costs: list[list[list[int]]], names: list[str], rows: int, seed: int
) -> tuple[list[StageForecast], StageForecast]:
    """Means over the pilot's rows times ``rows``, with percentile intervals of a bootstrap over the rows
    (Efron and Tibshirani 1993, section 13.3), to which the chance in ``rows`` new draws is added."""
    import polars as pl

    keys = [f"{name}\x1f{count}" for name in (*names, _TOTAL) for count in COUNTS]
    table = [
        [*(c for stage in row for c in stage), *(sum(s[k] for s in row) for k in range(len(COUNTS)))]
        for row in costs
    ]
    frame = pl.DataFrame(table, schema=dict.fromkeys(keys, pl.Float64), orient="row")
    mean, spread = frame.mean().row(0), frame.std().row(0)
    draw = random.Random(seed)
    resampled: list[list[float]] = [[] for _ in keys]
    for i in range(RESAMPLES):
        again = frame.sample(fraction=1.0, with_replacement=True, seed=seed + i).mean().row(0)
        chance = draw.gauss(0.0, 1.0) * math.sqrt(rows)
        for draws, value, width in zip(resampled, again, spread, strict=True):
            draws.append(max(0.0, rows * value + chance * width))
    amounts = {key: _amount(rows * m, draws) for key, m, draws in zip(keys, mean, resampled, strict=True)}
    made = []
    for name in (*names, _TOTAL):
        found = {count: amounts[f"{name}\x1f{count}"] for count in COUNTS}
        made.append(StageForecast(name=name, per_row=_quantiles(frame[f"{name}\x1fcompletions"]), **found))
    return made[:-1], made[-1]


def _amount(value: float, found: list[float]) -> Amount:
    found.sort()
    cut = int(len(found) * (1 - LEVEL) / 2)
    return Amount(value, found[cut], found[-1 - cut])


def _quantiles(column: pl.Series) -> tuple[int, int, int]:
    ordered = sorted(int(v) for v in column)
    last = len(ordered) - 1
    return ordered[last // 2], ordered[math.ceil(last * 0.95)], ordered[last]


def table(forecast: Forecast) -> str:
    """The forecast as plain text."""
    head = ("stage", "rows", "completions", "tokens in", "tokens out", "per row: median, 95 %, most")
    lines: list[tuple[str, ...]] = [head]
    for s in (*forecast.stages, forecast.total):
        rows = "" if s is forecast.total else _shown(s.rows)
        counts = (_shown(s.completions), _shown(s.tokens_in), _shown(s.tokens_out))
        lines.append((s.name, rows, *counts, ", ".join(f"{n:,}" for n in s.per_row)))
    text = [
        f"{forecast.name}: {forecast.rows:,} problems, predicted from a pilot of {forecast.pilot_rows:,} "
        "(expected, and in brackets the 95 % interval):",
        "",
        *align(lines),
        "",
        f"requests   {_shown(forecast.total.requests)}",
    ]
    if forecast.speed and forecast.gpu_hours:
        hours = forecast.gpu_hours.times(1 / forecast.gpus)
        text.append(f"GPU-hours  {_shown(forecast.gpu_hours)}")
        text.append(f"hours      {_shown(hours)} on {forecast.gpus:,} GPUs, all of them busy to the end")
    if forecast.dollars:
        text.append(f"dollars    {_shown(forecast.dollars)}")
    return "\n".join([*text, "", *_notes(forecast)])


def _notes(forecast: Forecast) -> Iterator[str]:
    yield "From the pilot's completions in the log; the interval is a bootstrap over its rows, and takes them"
    yield "for a random part of the source. The completions that the log has already are counted again."
    if forecast.speed:
        yield f"{forecast.speed.tokens_per_second:,.0f} tokens/s of a GPU: {forecast.speed.source}."
    else:
        yield "No GPU-hours: the pilot's speed is not known. Give --tokens-per-second."
    if forecast.incomplete:
        yield f"{forecast.incomplete:,} rows of the pilot have gaps in the log, and were left out."
    if forecast.tables:
        yield "Stages behind a table stage: as if it kept the same part of the rows at any size."


def _shown(amount: Amount) -> str:
    return f"{_number(amount.value)} ({_number(amount.low)} to {_number(amount.high)})"


def _number(value: float) -> str:
    if value < 100 and value != int(value):
        return f"{value:.3g}"
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value:,.0f}"
