"""What the card shows of a table: how many rows, a first row, lengths, pass rates, exact duplicates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.pipelines.publishing.tables import PushTable
from gristmill.pipelines.report.corpus import outcome_column, table_stats
from gristmill.pipelines.rundir.results import Run

_CUT = 300
"""Characters of a text in the example."""
_SEVERAL = 4
"""Elements of a list in the example."""
_BARS = 10
_BATCH = 2_000


class TableMeasures(Struct, frozen=True):
    """Of one table. ``lengths`` and ``pass_rates`` are the names of bars and their counts; ``rated_at`` is
    the stage whose verdicts the rates are of."""

    rows: int
    example: str
    lengths: Sequence[tuple[str, int]]
    duplicates: int | None
    pass_rates: Sequence[tuple[str, int]] = ()
    rated_at: str = ""


def measured(table: PushTable, run: Run | None) -> TableMeasures:
    """The measures of a table; the pass rates are of the last stage before it that holds verdicts."""
    import polars as pl

    frame = pl.scan_parquet(table.path)
    if table.drop_split and table.split is not None:
        frame = frame.drop(table.split)
    first = frame.head(1).collect().to_dicts()
    example = msgspec.json.format(msgspec.json.encode(_cut(first[0])), indent=2).decode() if first else "{}"
    stats = table_stats(table.config, frame)
    stage, rates = _rates(run) if run is not None else ("", [])
    return TableMeasures(stats.rows, example, _lengths(table.path), stats.duplicates, rates, stage)


def _cut(value: Any) -> Any:
    """A value with long texts and lists cut."""
    if isinstance(value, str):
        return value if len(value) <= _CUT else f"{value[:_CUT]} ... ({len(value):,} characters)"
    if isinstance(value, Mapping):
        return {key: _cut(held) for key, held in value.items()}
    if isinstance(value, list):
        more = [f"... {len(value) - _SEVERAL} more"] if len(value) > _SEVERAL else []
        return [_cut(held) for held in value[:_SEVERAL]] + more
    return value if isinstance(value, int | float | bool | None) else str(value)


def _lengths(path: Path) -> list[tuple[str, int]]:
    """Rows by the characters of all their texts, in bars of powers of two."""
    import pyarrow.parquet as pq

    counts: dict[int, int] = {}
    for batch in pq.ParquetFile(path).iter_batches(_BATCH):
        for row in batch.to_pylist():
            power = sum(len(text) for text in _texts(row)).bit_length()
            counts[power] = counts.get(power, 0) + 1
    if not counts:
        return []
    return [
        (f"up to {(1 << power) - 1:,}" if power else "none", counts.get(power, 0))
        for power in range(min(counts), max(counts) + 1)
    ]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for held in value.values():
            yield from _texts(held)
    elif isinstance(value, list | tuple):
        for held in value:
            yield from _texts(held)


def _rates(run: Run) -> tuple[str, list[tuple[str, int]]]:
    """Problems by the share of right answers among the decided ones, of the first stage with verdicts on
    several answers to a problem: filters behind it have chosen by them."""
    import polars as pl

    for stage in run.stages:
        frame = run.rows(stage)
        schema = frame.collect_schema()
        outcome = outcome_column(schema)
        if outcome is None or "problem_id" not in schema:
            continue
        rates = (
            frame.select("problem_id", outcome=outcome)
            .filter(pl.col("outcome").is_in(["correct", "incorrect"]))
            .group_by("problem_id")
            .agg((pl.col("outcome") == "correct").mean().alias("rate"))
            .collect()["rate"]
        )
        counts = [0] * (_BARS + 1)
        for rate in rates.to_list():
            counts[_BARS if rate == 1 else int(rate * _BARS)] += 1
        if len(rates):
            names = [f"{at / _BARS:.1f} to {(at + 1) / _BARS:.1f}" for at in range(_BARS)]
            return stage, list(zip([*names, "all right"], counts, strict=True))
    return "", []
