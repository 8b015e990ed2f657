"""The figures of a report: how rows are spread, of one table or two together; and how scorers agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import msgspec

from gristmill.core.records import Pair
from gristmill.pipelines.report import plots
from gristmill.pipelines.report.agreement import cohen
from gristmill.pipelines.report.corpus import (
    RATE_EDGES,
    CorpusStats,
    all_said,
    outcome_column,
    table_stats,
)
from gristmill.pipelines.show.blocks import meanings

if TYPE_CHECKING:
    import polars as pl

Tables = Mapping[str, "pl.LazyFrame"]
"""The tables that are drawn into one figure, by the names of their runs; of one alone the name is empty."""
Figure = dict[str, str]
"""``svg``, and ``told``: what the figure says, in a sentence for those who have not seen one before."""

_COUNTED = (
    (
        "verdicts",
        "Verdicts",
        "What the verifier said of each row's answer. Unparseable (no answer could be read), timeout and "
        "error are undecided: they count neither as right nor as wrong.",
    ),
    (
        "finish_reasons",
        "Why answers ended",
        "'stop' is an answer that the model finished, 'length' one that was cut off by the limit of tokens.",
    ),
    ("languages", "Languages", "As a language detector tells them; '?' is too little text to tell."),
)
"""What is counted of a table: the field of its statistics, a title, and what it means."""
_BINS = 20
_SCORES = 6
"""Scores that are drawn, the first by name."""


def figures(tables: Tables) -> list[Figure]:
    """What the rows are like: lengths, tokens, verdicts, pass rates, scores, kinds."""
    found = {name: table_stats(name, frame) for name, frame in tables.items()}
    made = [*_lengths(tables), *_tokens(tables)]
    for field, title, told in _COUNTED:
        counts = {name: getattr(one, field) for name, one in found.items()}
        if any(set(one) - {"none"} for one in counts.values()):
            made.append({"svg": plots.bars(counts, title=title), "told": told})
    made += _pass_rates(found)
    for name in dict.fromkeys(name for one in found.values() for name in one.classes):
        counts = {run: one.classes.get(name, {}) for run, one in found.items()}
        told = meanings({value for one in counts.values() for value in one})
        made.append({"svg": plots.bars(counts, title=f"Rows by {name}"), "told": told})
    return [*made, *_scores(tables)]


def _lengths(tables: Tables) -> Iterator[Figure]:
    """Characters of what rows say: of pairs each side, of samples the completion, else the whole row."""
    import polars as pl

    values: dict[str, list[float]] = {}
    for run, frame in tables.items():
        schema = frame.collect_schema()
        columns: dict[str, pl.Expr] = {}
        for side in ("chosen", "rejected"):
            kind = schema.get(side)
            if (
                isinstance(kind, pl.List)
                and isinstance(kind.inner, pl.Struct)
                and "content" in dict(kind.inner)
            ):
                columns[side] = pl.col(side).list.eval(pl.element().struct.field("content")).list.join("\n")
            elif kind == pl.String:
                columns[side] = pl.col(side)
        if not columns and schema.get("completion") == pl.String:
            columns["completion"] = pl.col("completion")
        if not columns and (said := all_said(schema)) is not None:
            columns["whole row"] = said
        for name, text in columns.items():
            sizes = frame.select(n=text.str.len_chars()).collect()["n"].drop_nulls().to_list()
            values[f"{run}: {name}" if run else name] = sizes
    told = "Characters of what a row holds, all of its text together."
    if {"chosen", "rejected", "completion"} & {name.rpartition(": ")[2] for name in values}:
        told = "Characters of the answers."
    yield from _histogram(values, "Length", "characters", told)


def _tokens(tables: Tables) -> Iterator[Figure]:
    for column, title in (
        ("completion_tokens", "Tokens of answers"),
        ("reasoning_tokens", "Tokens of reasoning"),
    ):
        values = {
            run: frame.select(column).collect()[column].drop_nulls().to_list()
            for run, frame in tables.items()
            if column in frame.collect_schema()
        }
        if any(any(numbers) for numbers in values.values()):
            yield from _histogram(values, title, "tokens", "As the engine counted them.")


def _pass_rates(found: Mapping[str, CorpusStats]) -> Iterator[Figure]:
    rates = {name: one.pass_rates for name, one in found.items() if one.pass_rates is not None}
    if any(one.problems for one in rates.values()):
        counts = {name: one.bins for name, one in rates.items()}
        svg = plots.histogram(
            counts, RATE_EDGES, title="Pass rate of problems", x="right of decided", y="problems"
        )
        told = "Of each problem, the share of its decided answers that are right: 0 is never, 1 always."
        yield {"svg": svg, "told": told}


def scores_of(frame: pl.LazyFrame) -> pl.DataFrame:
    """All scores of a table, the verifier's verdict too: ``id``, ``name``, ``value``, ``outcome``."""
    import polars as pl

    schema = frame.collect_schema()
    found = []
    kind = schema.get("scores")
    if isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct) and "id" in schema:
        each = frame.select("id", "scores").explode("scores").drop_nulls("scores")
        score = pl.col("scores").struct
        outcome = (
            score.field("verdict").struct.field("outcome") if "verdict" in dict(kind.inner) else pl.lit(None)
        )
        value = score.field("value").cast(pl.Float64)
        found.append(
            each.select("id", name=score.field("name"), value=value, outcome=outcome.cast(pl.String))
        )
    outcome_of = outcome_column(schema)
    if outcome_of is not None and "id" in schema:
        right = pl.when(outcome_of == "correct").then(1.0).when(outcome_of == "incorrect").then(0.0)
        found.append(
            frame.select("id", name=pl.lit("verifier"), value=right, outcome=outcome_of.cast(pl.String))
        )
    empty = pl.DataFrame(
        schema={"id": pl.String, "name": pl.String, "value": pl.Float64, "outcome": pl.String}
    )
    return pl.concat([empty.lazy(), *found]).collect()


def _scores(tables: Tables) -> Iterator[Figure]:
    import polars as pl

    held = {run: scores_of(frame).filter(pl.col("name") != "verifier") for run, frame in tables.items()}
    names = sorted({name for table in held.values() for name in table["name"].unique().to_list()})
    for name in names[:_SCORES]:
        values = {
            run: table.filter(pl.col("name") == name)["value"].drop_nulls().to_list()
            for run, table in held.items()
        }
        yield from _histogram(values, f"Score: {name}", "value", "What this scorer gave the rows.")


def _histogram(values: Mapping[str, Sequence[float]], title: str, unit: str, told: str) -> Iterator[Figure]:
    """A histogram over round edges; nothing where there are no numbers."""
    numbers = [n for one in values.values() for n in one]
    if not numbers:
        return
    whole = all(float(n).is_integer() for n in numbers)
    edges = plots.ticks(min(numbers), max(numbers), _BINS, whole=whole)
    counts = {name: plots.counted(one, edges) for name, one in values.items()}
    if len(counts) == 1:
        counts = {"": next(iter(counts.values()))}
    ordered = sorted(numbers)
    middle = ordered[len(ordered) // 2]
    spread = f"From {plots.number(ordered[0])} to {plots.number(ordered[-1])}, median {plots.number(middle)}."
    yield {"svg": plots.histogram(counts, edges, title=title, x=unit), "told": f"{told} {spread}"}


def agreement(frame: pl.LazyFrame) -> list[dict[str, Any]]:
    """How far each two scorers of a table agree: of pairs on which side is better, else on the rows' scores.

    Of each two: ``rows`` that both scored, ``same`` (the share on which they say the same, of verdicts or
    sides), ``kappa`` (Cohen's, 1960) and ``rank`` (Spearman's correlation of their values); ``None`` where
    there is none. Empty where there are fewer than two scorers.
    """
    schema = frame.collect_schema()
    if all(field.name in schema for field in msgspec.structs.fields(Pair) if field.required):
        return list(_of_pairs(frame))
    table = scores_of(frame)
    names = sorted(table["name"].unique().to_list())
    return [found for pair in combinations(names, 2) if (found := _of_two(table, *pair))["rows"]]


def _of_pairs(frame: pl.LazyFrame) -> Iterator[dict[str, Any]]:
    from gristmill.core.schema import from_frame
    from gristmill.pipelines.report.pairs import report

    columns = [field for field in Pair.__struct_fields__ if field in frame.collect_schema()]
    found = report(from_frame(frame.select(columns).collect(), Pair))
    for one in found.agreement:
        said = {"rows": one.pairs, "same": one.same, "kappa": one.kappa, "rank": None}
        yield {"scorers": list(one.scorers), **said}


def _of_two(table: pl.DataFrame, first: str, second: str) -> dict[str, Any]:
    import polars as pl

    one, other = (table.filter(pl.col("name") == name).drop("name") for name in (first, second))
    both = one.join(other, on="id", how="inner", suffix="_b")
    decided = both.filter(pl.all_horizontal(pl.col("outcome", "outcome_b").is_in(["correct", "incorrect"])))
    said = [
        (float(a == "correct"), float(b == "correct"))
        for a, b in decided.select("outcome", "outcome_b").rows()
    ]
    valued = both.drop_nulls(["value", "value_b"])
    rank = valued.select(pl.corr("value", "value_b", method="spearman")).item() if valued.height > 1 else None
    return {
        "scorers": [first, second],
        "rows": max(len(said), valued.height),
        "same": sum(a == b for a, b in said) / len(said) if said else None,
        "kappa": cohen(said) if said else None,
        "rank": rank if rank is not None and rank == rank else None,
    }
