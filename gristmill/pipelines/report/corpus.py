"""What a corpus is like, and of a run before and after: ``gristmill stats``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from gristmill.core.errors import InputError, RecipeError
from gristmill.filters.order import seeded_order
from gristmill.filters.quality import language_of
from gristmill.filters.tables import CONVERSATION, PROBLEM, compared, key_column
from gristmill.pipelines.report.plots import counted
from gristmill.pipelines.rundir.directory import run_and_stage
from gristmill.pipelines.rundir.results import open_run
from gristmill.pipelines.rundir.summary import align, printable

if TYPE_CHECKING:
    import polars as pl

_JUDGED = 2_000
"""Texts whose language is looked at, of each table; a seeded hash of their places chooses them."""
_CLASSES = 12
"""A column of at most so many different values, each twice on average, is one of classes."""
_NO_TEXT = frozenset(["id", "problem_id", "meta", "model", "kind", "finish_reason", "verdict"])
"""Columns of text in which nothing is said."""
_NOT_CLASSES = frozenset(["id", "problem_id", "meta", "index", "finish_reason", "verdict", "answer"])
_TOKENS = "tokens"
"""What the names of columns end with that count them."""
_SHOWN = 6


RATE_EDGES = tuple(n / 10 for n in range(11))
"""Pass rates are counted by tenths; 1 belongs to the last."""
_TENTHS = (10, 12.5, 16, 20, 25, 31.5, 40, 50, 63, 80)
SIZE_EDGES = (*map(float, range(10)), *(n * 10.0**k for k in range(8) for n in _TENTHS), 1e9)
"""Lengths are counted in equal steps of their logarithm, ten for a factor of ten (ISO 3, R10), from 10 on."""


class Sizes(Struct, frozen=True):
    """Characters of a column of text: of the rows that have one. ``bins`` are counts by ``SIZE_EDGES``, up to
    the last that is not 0."""

    rows: int
    mean: float
    median: float
    p95: float
    most: int
    bins: list[int]


class PassRates(Struct, frozen=True):
    """Right answers of those that are decided. ``problems`` have one decided answer or more; ``bins`` count
    them by ``RATE_EDGES``."""

    mean: float | None
    problems: int
    all_right: int
    none_right: int
    bins: list[int]


class CorpusStats(Struct, frozen=True):
    """One table. ``duplicates`` are rows that say what an earlier one says, except for case and white space;
    ``languages`` are of ``languages_of`` rows, "?" where there is too little text to tell."""

    name: str
    rows: int
    problems: int
    lengths: dict[str, Sizes]
    verdicts: dict[str, int]
    pass_rates: PassRates | None
    finish_reasons: dict[str, int]
    classes: dict[str, dict[str, int]]
    duplicates: int | None
    languages: dict[str, int]
    languages_of: int


class StageFlow(Struct, frozen=True):
    """What one stage of a run made of its rows, with the rejected ones by reason."""

    name: str
    rows_in: int
    rows_out: int
    rejected: dict[str, int]


class CorpusReport(Struct, frozen=True):
    """Of a file one table; of a run the rows of its first stage and of the one asked for, and all stages.

    ``contaminated`` counts by the way of ``decontaminate``, where that was run.
    """

    tables: list[CorpusStats]
    stages: list[StageFlow]
    contaminated: dict[str, int]


def report(what: str, *, runs: Path = Path("runs"), partial: bool = False) -> CorpusReport:
    """The report on a file, or on a run given as NAME or NAME:STAGE.

    Raises ``InputError`` for a file that cannot be read and ``RunError`` where there is no such run or stage.
    """
    path = Path(what)
    if path.is_file():
        return CorpusReport([table_stats(path.name, scan(path))], [], {})
    place, stage = run_and_stage(what, runs)
    if path.suffix and not place.exists():
        raise InputError(
            "there is no such file.", path=what, remedy="Name a file, or a run: NAME or NAME:STAGE."
        )
    run = open_run(place, partial=partial)
    chosen = stage or run.stages[-1]
    names = dict.fromkeys([run.stages[0], chosen])
    rejected = Counter(
        {
            reason: count
            for one in run.summary.stages
            for reason, count in one.rejected.items()
            if reason.startswith("decontaminate: ")
        }
    )
    return CorpusReport(
        [table_stats(one, run.rows(one)) for one in names],
        [StageFlow(s.name, s.rows_in, s.rows_out, dict(s.rejected)) for s in run.summary.stages],
        {reason.partition(": ")[2]: count for reason, count in rejected.items()},
    )


def scan(path: Path) -> pl.LazyFrame:
    """The rows of a Parquet, CSV, JSONL or JSON file. ``InputError`` for one that cannot be read."""
    import polars as pl

    readers: dict[str, Any] = {
        ".parquet": pl.scan_parquet,
        ".csv": pl.scan_csv,
        ".jsonl": lambda p: pl.scan_ndjson(p, infer_schema_length=None),
        ".json": lambda p: pl.read_json(p, infer_schema_length=None).lazy(),
    }
    if path.suffix not in readers:
        raise InputError(
            f"its ending {path.suffix!r} is not one that can be read.",
            path=str(path),
            remedy=f"Give a file that ends in one of {', '.join(readers)}.",
        )
    try:
        frame: pl.LazyFrame = readers[path.suffix](path)
        frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        if path.is_file() and not path.stat().st_size:
            raise InputError("it is empty.", path=str(path), remedy="Give a file with rows.") from error
        said = str(error).strip().partition("\n")[0]
        raise InputError(f"it cannot be read: {said}.", path=str(path), remedy="Check the file.") from error
    return frame


def table_stats(name: str, frame: pl.LazyFrame) -> CorpusStats:
    """The statistics of one table of any columns; what it has no column for is empty."""
    import polars as pl

    schema = frame.collect_schema()
    text, outcome = all_said(schema), outcome_column(schema)
    key = key_column(schema, PROBLEM, "stats") if {"id", "problem_id"} & set(schema) else None
    counted = frame.select(
        pl.len().alias("rows"), (pl.col(key).n_unique() if key else pl.len()).alias("problems")
    ).collect()
    rows, problems = counted.row(0)
    said = None if text is None else frame.select(text=text).collect()["text"]
    languages, judged = _languages(said)
    return CorpusStats(
        name,
        rows,
        problems,
        dict(_lengths(frame, schema, text)),
        _counts(frame, outcome),
        None if outcome is None or key is None else _pass_rates(frame, outcome, key),
        _counts(frame, pl.col("finish_reason") if "finish_reason" in schema else None),
        _classes(frame, schema),
        None if said is None else _duplicates(said),
        languages,
        judged,
    )


def all_said(schema: pl.Schema) -> pl.Expr | None:
    """What a row says: its conversation, or its columns of text together."""
    import polars as pl

    try:
        return compared(schema, CONVERSATION, "stats")
    except RecipeError:  # rows of no known kind
        texts = [name for name, kind in schema.items() if kind == pl.String and name not in ("id", "meta")]
        return pl.concat_str(texts, separator="\n", ignore_nulls=True) if texts else None


def outcome_column(schema: pl.Schema) -> pl.Expr | None:
    """The outcome of the rows' verdicts; ``None`` for rows without any."""
    import polars as pl

    kind = schema.get("verdict")
    if isinstance(kind, pl.Struct) and "outcome" in dict(kind):
        return pl.col("verdict").struct.field("outcome")
    return pl.col("verdict") if kind == pl.String else None


def _counts(frame: pl.LazyFrame, column: pl.Expr | None) -> dict[str, int]:
    if column is None:
        return {}
    counts = frame.select(value=column).group_by("value").len().collect()
    named = [("none" if value is None else str(value), count) for value, count in counts.rows()]
    return dict(sorted(named, key=lambda one: (-one[1], one[0])))


def _pass_rates(frame: pl.LazyFrame, outcome: pl.Expr | None, key: str) -> PassRates:
    import polars as pl

    rows = frame.select(pl.col(key).alias("key"), value=outcome)
    decided = rows.filter(pl.col("value").is_in(["correct", "incorrect"]))
    rates = decided.group_by("key").agg((pl.col("value") == "correct").mean().alias("rate")).collect()["rate"]
    values = sorted(rates.to_list())  # in an order of its own, so that the mean is the same in every run
    mean = sum(values) / len(values) if values else None
    return PassRates(mean, len(values), values.count(1.0), values.count(0.0), counted(values, RATE_EDGES))


def _lengths(frame: pl.LazyFrame, schema: pl.Schema, text: pl.Expr | None) -> Iterator[tuple[str, Sizes]]:
    import polars as pl

    columns = {n: pl.col(n) for n, kind in schema.items() if kind == pl.String and n not in _NO_TEXT}
    if text is not None and len(columns) != 1:
        columns["in all"] = text
    for name, column in columns.items():
        sizes = frame.select(size=column.str.len_chars()).drop_nulls().collect()["size"]
        if len(sizes) and sizes.sum():
            half, high = (sizes.quantile(q, interpolation="nearest") for q in (0.5, 0.95))
            most, characters = int(sizes.sort()[-1]), int(sizes.sum())
            times = sizes.value_counts(sort=True)
            bins = counted(times["size"].to_list(), SIZE_EDGES, times["count"].to_list())
            last = max(i for i, n in enumerate(bins) if n)
            mean = characters / len(sizes)
            yield name, Sizes(len(sizes), mean, half or 0.0, high or 0.0, most, bins[: last + 1])


def _classes(frame: pl.LazyFrame, schema: pl.Schema) -> dict[str, dict[str, int]]:
    import polars as pl

    names = [
        name
        for name, kind in schema.items()
        if name not in _NOT_CLASSES
        and not name.endswith(_TOKENS)
        and (kind in (pl.String, pl.Boolean) or kind.is_integer())
    ]
    few = frame.select(pl.col(names).n_unique()).collect() if names else pl.DataFrame()
    rows = frame.select(pl.len()).collect().item()
    most = min(_CLASSES, rows // 2)
    return {n: _counts(frame, pl.col(n)) for n in few.columns if 1 < few[n].item() <= most}


def _duplicates(said: pl.Series) -> int:
    plain = said.drop_nulls().str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    return len(plain) - plain.n_unique()


def _languages(said: pl.Series | None) -> tuple[dict[str, int], int]:
    if said is None:
        return {}, 0
    places = sorted(seeded_order(0, [str(at) for at in range(len(said))])[:_JUDGED])
    found = (language_of(text or "") for text in said.gather(places).to_list())
    counts = Counter("?" if one is None else one[0] for one in found)
    return dict(counts.most_common()), len(places)


def as_json(found: CorpusReport) -> str:
    """The report as JSON."""
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()


def table(found: CorpusReport) -> str:
    """The report as text: a column for each table, then the stages of a run."""
    rows = stats_rows(found.tables)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    if found.stages:
        lines += ["", *align([("stage", "rows in", "rows out"), *flow_rows(found.stages)])]
        for stage in found.stages:
            lines += [f"{n:>9,}  {printable(why)}" for why, n in _most(stage.rejected)]
    if found.contaminated:
        lines += ["", f"contaminated: {_listed(found.contaminated)}"]
    return "\n".join(lines)


def stats_rows(tables: Sequence[CorpusStats]) -> list[list[str]]:
    """A head with the tables' names, then a row for each thing that is said of any of them."""
    columns = [dict(_lines(one)) for one in tables]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [["", *(printable(one.name) for one in tables)]]
    return rows + [[printable(name), *(column.get(name, "-") for column in columns)] for name in names]


def _lines(one: CorpusStats) -> Iterator[tuple[str, str]]:
    yield "rows", f"{one.rows:,}"
    yield "problems", f"{one.problems:,}"
    if one.duplicates is not None:
        yield "exact duplicates", f"{one.duplicates:,}"
    for name, s in one.lengths.items():
        yield (
            f"characters of {name}: mean, median, 95 %, most",
            f"{s.mean:,.0f}, {s.median:,.0f}, {s.p95:,.0f}, {s.most:,}",
        )
    if one.pass_rates is not None and one.pass_rates.mean is not None:
        yield "pass rate, mean of problems", f"{one.pass_rates.mean:.3f}"
        yield "problems all right, none right", f"{one.pass_rates.all_right:,}, {one.pass_rates.none_right:,}"
    counts: Sequence[tuple[str, Mapping[str, int]]] = [
        ("verdicts", one.verdicts),
        ("finish reasons", one.finish_reasons),
        *one.classes.items(),
        ("languages", one.languages),
    ]
    for title, named in counts:
        if named:
            shown = _listed(named)
            few = named is one.languages and one.languages_of < one.rows
            yield title, shown + (f" (of {one.languages_of:,} rows)" if few else "")


def flow_rows(stages: Sequence[StageFlow]) -> Iterator[tuple[str, str, str]]:
    """Name, rows in and rows out of each stage."""
    for stage in stages:
        yield printable(stage.name), f"{stage.rows_in:,}", f"{stage.rows_out:,}"


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))


def _listed(counts: Mapping[str, int]) -> str:
    first, rest = _most(counts)[:_SHOWN], _most(counts)[_SHOWN:]
    others = f", others {sum(n for _, n in rest):,}" if rest else ""
    return ", ".join(f"{printable(name)} {n:,}" for name, n in first) + others
