"""What can be in a pair: the different answers to each prompt, with the values that they are ranked by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.records import Sampled
from gristmill.core.schema import schema
from gristmill.core.stages import derive_seed
from gristmill.core.verdicts import Outcome
from gristmill.filters import Explode
from gristmill.filters.expressions import Expression, evaluate, shown
from gristmill.filters.group import ROWS

if TYPE_CHECKING:
    import polars as pl

OUTCOMES = {Outcome.CORRECT.value: 1.0, Outcome.INCORRECT.value: 0.0}
"""The values of decided verdicts; the other outcomes have none."""
UNDECIDED = [outcome.value for outcome in Outcome if outcome.value not in OUTCOMES]
_NEEDED = ("id", "problem_id", "messages", "completion")
_WANTED = (*_NEEDED, "problem", "finish_reason", "verdict", "scores", "model", "meta", "reasoning")


def samples_of(frame: pl.LazyFrame, stage: str) -> pl.LazyFrame:
    """The samples of a table of samples, or of what ``group`` made of them.

    ``RecipeError`` where a column that a sample must have is not there.
    """
    import polars as pl

    columns = frame.collect_schema()
    rows = columns.get(ROWS)
    if isinstance(rows, pl.List) and isinstance(rows.inner, pl.Struct) and "completion" not in columns:
        frame = Explode()([frame], 0)
        columns = frame.collect_schema()
    for name in _NEEDED:
        if columns.get(name) != schema(Sampled)[name]:
            raise RecipeError(
                f"{stage}: the rows that it reads are not samples: they have no column {name!r} of the type "
                "that samples have.",
                remedy="Give it samples, or what 'group' made of them. "
                f"The columns are: {', '.join(columns)}.",
            )
    return frame


def valued(frame: pl.LazyFrame, by: Sequence[Expression], stage: str) -> pl.LazyFrame:
    """The frame with the value of each expression in the columns ``value0``, ``value1`` ...

    A number is itself, a truth value 1 or 0, and text the outcome of a verdict: 1 where it is correct, 0
    where it is incorrect, null where it is undecided. ``RecipeError`` for anything else.
    """
    import polars as pl

    keys = {f"\x1fvalue{i}": key for i, key in enumerate(by)}
    frame = evaluate(frame, keys, f"{stage}: by")
    columns, numbers = frame.collect_schema(), []
    for name, key in keys.items():
        value, kind = pl.col(name), columns[name]
        if kind == pl.String:
            value = value.map_batches(_outcomes(shown(key), stage), return_dtype=pl.Float64)
        elif not (kind == pl.Boolean or kind.is_numeric()):
            raise RecipeError(
                f"{stage}: by: {shown(key)!r} is not a number, a truth value or a verdict.",
                remedy="Rank by a verdict or a score: by: verdict, by: scores.NAME.",
            )
        numbers.append(value.cast(pl.Float64).fill_nan(None).alias(name))
    return frame.with_columns(numbers)


def _outcomes(expression: str, stage: str) -> Any:
    """A function from texts that are outcomes to their values."""

    def read(texts: pl.Series) -> pl.Series:
        import polars as pl

        known = [*OUTCOMES, *UNDECIDED]
        strange = texts.filter(texts.is_not_null() & ~texts.is_in(known))
        if strange.len():
            raise GristmillError(
                f"{stage}: by: {expression!r} is {strange[0][:80]!r} in some row, which is not the outcome "
                "of a verdict.",
                remedy="Rank by a verdict or by a number: by: verdict, by: scores.NAME, "
                "by: CAST(meta.KEY AS DOUBLE).",
            )
        return texts.replace_strict(OUTCOMES, default=None, return_dtype=pl.Float64)

    return read


def won(judged: pl.LazyFrame, score: str) -> pl.LazyFrame:
    """The share of its comparisons that each sample won, as ``id`` and ``won``; a tie is half a win.

    ``judged`` are pairs of the stage ``pairs``, with a score that is 1 where the chosen side is better, 0
    where the rejected one is, 0.5 for a tie and null without a verdict, as ``judge_pairs`` writes it. Such
    win rates are what direct Nash optimisation (arXiv 2404.03715) makes its pairs of.
    """
    import polars as pl

    columns = judged.collect_schema()
    if "scores" not in columns or columns.get("meta") != pl.String or "chosen" not in columns:
        raise RecipeError(
            "pairs: the second table is not one of judged pairs.",
            remedy="Name the stage 'judge_pairs' with a 'score' as the second under 'from'.",
        )
    named = pl.col("scores").list.eval(pl.element().filter(pl.element().struct.field("name") == score))
    value = named.list.first().struct.field("value")
    sides = [
        judged.select(pl.col("meta").str.json_path_match(f"$.{side}_id").alias("id"), won.alias("won"))
        for side, won in (("chosen", value), ("rejected", 1 - value))
    ]
    return pl.concat(sides).drop_nulls().group_by("id", maintain_order=True).agg(pl.col("won").mean())


class Candidates:
    """The candidates of all problems, and of each problem how far its samples came.

    ``rows`` are the samples' own columns. ``table`` has a row for each candidate, by group, best first:
    ``group`` (a problem and a prompt), ``problem`` (the place of the problem among all), ``row`` (in
    ``rows``), ``value``, ``chars``, ``at`` (its place in the group), ``size`` (of the group), ``hash``.
    ``problems`` has, by problem in order: ``problem_id``, ``usable``, ``valued``, ``texts``; ``samples`` of
    each sample ``id``, ``row``, ``usable``, and ``told``: whether it has a value besides.
    """

    def __init__(self, samples: pl.LazyFrame, keys: int, seed: int, *, win_rate: bool) -> None:
        import polars as pl

        columns = samples.collect_schema()
        values = [f"\x1fvalue{i}" for i in range(keys)]
        own = [name for name in _WANTED if name in columns]
        rows = samples.select(*own, *values).filter(pl.col("problem_id").is_not_null()).collect()
        texts = _texts(rows).with_row_index("row")
        order = texts.group_by("problem_id", maintain_order=True).agg()
        texts = texts.join(
            order.with_row_index("problem"), on="problem_id", how="left", maintain_order="left"
        )
        has = pl.all_horizontal(pl.col(v).is_not_null() for v in values)
        usable, told = pl.col("usable"), pl.col("usable") & has
        self.samples = texts.select("id", "row", "usable", told.alias("told"))
        self.problems = (
            texts.group_by("problem", maintain_order=True)
            .agg(
                pl.col("problem_id").first(),
                usable.sum(),
                told.sum().alias("valued"),
                pl.col("text").filter(told).n_unique().alias("texts"),
            )
            .sort("problem")
        )
        table = (
            texts.filter(told)
            .group_by("problem", "prompt", "text", maintain_order=True)
            .agg(pl.col("row", "id").first(), pl.col(values).mean(), pl.col("outcome").n_unique())
            .filter(pl.col("outcome") == 1)  # a text found right and wrong is neither
            .with_columns(pl.col("text").str.len_chars().cast(pl.Int64).alias("chars"))
        )
        hashes = [derive_seed(seed, one) for one in table["id"]]
        table = table.with_columns(pl.Series("hash", hashes, pl.UInt64))
        self.rows = rows.select(own)
        self.table = _ranked(table, values, win_rate)


def _texts(rows: pl.DataFrame) -> pl.DataFrame:
    """Of each sample what decides whether it is a candidate, and the same as which."""
    import polars as pl

    usable, outcome = pl.col("completion").str.strip_chars() != "", pl.lit(None, pl.String)
    if "finish_reason" in rows.columns:  # one that was cut off is not an answer
        usable &= pl.col("finish_reason") == "stop"
    if "verdict" in rows.columns:
        outcome = pl.col("verdict").struct.field("outcome")
        usable &= ~outcome.is_in(UNDECIDED).fill_null(False)
    sent = pl.col("messages").list.eval(pl.element().struct.json_encode()).list.join("\x1f")
    return rows.select(
        "id",
        "problem_id",
        usable.alias("usable"),
        outcome.alias("outcome"),
        sent.alias("prompt"),
        pl.col("completion").str.strip_chars().alias("text"),
        pl.col("^\x1fvalue.*$"),
    )


def _ranked(table: pl.DataFrame, values: Sequence[str], win_rate: bool) -> pl.DataFrame:
    """The candidates by group, best first; those that are equal by the hash of their ids, then by the id."""
    import polars as pl

    group = pl.struct("problem", "prompt")
    table = table.sort(
        "problem",
        "prompt",
        *values,
        "hash",
        "id",
        descending=[False, False, *[True] * len(values), False, False],
    ).with_columns(group.rle_id().alias("group"))
    if len(values) > 1:
        # A later key decides where those before are equal: what counts is the place in that order alone.
        differs = pl.any_horizontal(pl.col(v) != pl.col(v).shift(1) for v in values).fill_null(True)
        value = -differs.cast(pl.Int64).cum_sum().cast(pl.Float64)
    else:
        value = pl.col(values[0])
    table = table.with_columns(value.alias("value"))
    if win_rate:
        rank, size = pl.col("value").rank("average").over("group"), pl.len().over("group")
        table = table.with_columns(((rank - 1) / (size - 1)).alias("value"))
    return table.select(
        "group",
        "problem",
        "row",
        "value",
        "chars",
        "hash",
        pl.int_range(pl.len()).over("group").alias("at"),
        pl.len().over("group").cast(pl.Int64).alias("size"),
    )
