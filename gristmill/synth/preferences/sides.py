"""Rows of samples as the columns of pairs and of labelled rows, without a Python object for each.

Lists are put together as Arrow arrays: Polars takes 30 times as long to gather rows that hold lists of
records (measured with Polars 2.1 on 350,000 rows of messages and scores).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gristmill.core.records import Labelled, Pair
from gristmill.core.schema import message_struct, schema
from gristmill.core.stages import REJECTED_REASON

if TYPE_CHECKING:
    import polars as pl

OWN = {"similarity": "hard", "length_before": "length_matched"}
"""What only the pairs of one rule have among their scores."""


def as_pairs(rows: pl.DataFrame, made: pl.DataFrame) -> pl.DataFrame:
    """Pairs of the places ``row`` and ``row_rejected`` in ``rows``, with their ``kind`` and scores."""
    import polars as pl

    own = [_score_list(made.height, "margin", made["margin"])]
    own += [_score_list(made.height, name, made[name], made["kind"] == kind) for name, kind in OWN.items()]
    found = [scores(rows, f"{side}_") for side in ("chosen", "rejected")]
    spoken = said(rows)
    a, b = (made[column].to_arrow() for column in ("row", "row_rejected"))
    flat = pl.DataFrame(
        {
            "problem_id": rows["problem_id"].gather(made["row"]),
            "kind": made["kind"],
            "prompt": pl.from_arrow(prompts(rows).take(a)),
            "chosen": pl.from_arrow(spoken.take(a)),
            "rejected": pl.from_arrow(spoken.take(b)),
            "scores": pl.from_arrow(joined(found[0].take(a), found[1].take(b), *own)),
            "meta": optional(rows, "meta").gather(made["row"]).fill_null("{}"),
            **{f"chosen_{name}": optional(rows, name).gather(made["row"]) for name in ("id", "model")},
            **{
                f"rejected_{name}": optional(rows, name).gather(made["row_rejected"])
                for name in ("id", "model")
            },
        }
    )
    ids, models = ["chosen_id", "rejected_id"], ["chosen_model", "rejected_model"]
    flat = flat.with_columns(
        (pl.col("chosen_id") + "/over/" + pl.col("rejected_id")).alias("id"),
        pl.lit(1.0).alias("weight"),
        pl.lit(0.0).alias("flip"),
        pl.when(pl.all_horizontal(pl.col(models).is_null()))
        .then(with_keys(pl.col("meta"), pl.struct(ids)))
        .otherwise(with_keys(pl.col("meta"), pl.struct(*ids, *models)))
        .alias("meta"),
    )
    return flat.select(pl.col(name).cast(kind) for name, kind in schema(Pair).items())


def optional(rows: pl.DataFrame, name: str) -> pl.Series:
    """A column of texts, null where the table has none."""
    import polars as pl

    return rows[name] if name in rows.columns else pl.repeat(None, rows.height, dtype=pl.String, eager=True)


def prompts(rows: pl.DataFrame) -> Any:
    """What was sent; the problem alone, where a sample from elsewhere does not say."""
    import polars as pl

    if "problem" not in rows.columns:
        return rows["messages"].to_arrow()
    alone = pl.concat_list(message_struct(Pair, role=pl.lit("user"), content=pl.col("problem")))
    sent = pl.when(pl.col("messages").list.len() > 0).then(pl.col("messages")).otherwise(alone)
    return rows.select(messages=sent)["messages"].to_arrow()


def said(rows: pl.DataFrame) -> Any:
    """The completion as the one message of a side."""
    import polars as pl

    thought = optional(rows, "reasoning").fill_null("")
    side = message_struct(
        Pair, role=pl.lit("assistant"), content=pl.col("completion"), reasoning=pl.lit(thought)
    )
    return _ones(rows.select(side=side)["side"].to_arrow())


def scores(rows: pl.DataFrame, prefix: str) -> Any:
    """The scores with ``prefix`` before their names, then the sample's own verdict as ``verdict``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = []
    if "scores" in rows.columns:
        given = rows["scores"].fill_null([]) if rows["scores"].null_count() else rows["scores"]
        found = given.to_arrow()
        names, values, verdicts = found.flatten().flatten()
        prefixed = pc.binary_join_element_wise(
            pa.scalar(prefix, names.type), names, pa.scalar("", names.type)
        )
        items = pa.StructArray.from_arrays([prefixed, values, verdicts], ["name", "value", "verdict"])
        ends = pc.cumulative_sum(pc.fill_null(pc.list_value_length(found), 0).cast(pa.int64()))
        lists.append(pa.LargeListArray.from_arrays(pa.concat_arrays([pa.array([0]), ends]), items))
    if "verdict" in rows.columns:
        verdict = rows["verdict"]
        lists.append(
            _score_list(
                rows.height,
                f"{prefix}verdict",
                verdict.struct.field("score"),
                verdict.struct.field("outcome").is_not_null(),
                verdict,
            )
        )
    return joined(*lists) if lists else _score_list(rows.height, "", None, optional(rows, "").is_not_null())


def _score_list(
    count: int,
    name: str,
    value: pl.Series | None,
    there: pl.Series | None = None,
    verdict: pl.Series | None = None,
) -> Any:
    """A list of each row with the one score of that name; empty where it is not ``there``."""
    import polars as pl
    import pyarrow as pa

    kind = schema(Pair)["scores"].inner  # type: ignore[attr-defined]
    columns = {"name": pl.repeat(name, count, eager=True), "value": value, "verdict": verdict}
    frame = pl.DataFrame({k: [None] * count if v is None else v for k, v in columns.items()})
    items = frame.select(pl.struct("name", "value", "verdict").cast(kind))["name"].to_arrow()
    if there is None:
        return _ones(items)
    here = there.fill_null(False)
    ends = pl.concat([pl.Series([0]), here.cum_sum().cast(pl.Int64)])
    return pa.LargeListArray.from_arrays(ends.to_arrow(), items.filter(here.to_arrow()))


def _ones(items: Any) -> Any:
    """Each item as a list of its own."""
    import numpy as np
    import pyarrow as pa

    return pa.LargeListArray.from_arrays(pa.array(np.arange(len(items) + 1)), items)


def joined(*lists: Any) -> Any:
    """Lists of equally many rows, put one behind another row by row."""
    import numpy as np
    import pyarrow as pa

    if len(lists) == 1:
        return lists[0]
    lengths = [one.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64) for one in lists]
    ends = np.cumsum(sum(lengths))
    begin = ends - sum(lengths)
    order, base = np.empty(int(ends[-1]) if len(ends) else 0, np.int64), 0
    for length in lengths:
        count = int(length.sum())
        inside = np.arange(count) - np.repeat(np.cumsum(length) - length, length)
        order[np.repeat(begin, length) + inside] = base + np.arange(count)
        begin, base = begin + length, base + count
    values = pa.concat_arrays([one.flatten() for one in lists]).take(pa.array(order))
    return pa.LargeListArray.from_arrays(pa.array(np.concatenate([[0], ends])), values)


def with_keys(meta: pl.Expr, keys: pl.Expr) -> pl.Expr:
    """A JSON object with the fields of a struct behind its own."""
    import polars as pl

    own = meta.str.strip_chars().str.strip_suffix("}")
    between = pl.when(own.str.strip_chars() == "{").then(pl.lit("")).otherwise(pl.lit(","))
    return own + between + keys.struct.json_encode().str.slice(1)


def labelled_samples(rows: pl.DataFrame, taken: pl.DataFrame) -> pl.DataFrame:
    """Labelled rows of the places ``row`` in ``rows``, with the ``label`` of each."""
    import polars as pl

    at = taken["row"].to_arrow()
    found = pl.DataFrame(
        {
            "id": rows["id"].gather(taken["row"]),
            "problem_id": rows["problem_id"].gather(taken["row"]),
            "prompt": pl.from_arrow(prompts(rows).take(at)),
            "completion": pl.from_arrow(said(rows).take(at)),
            "label": taken["label"],
            "weight": pl.repeat(1.0, taken.height, eager=True),
            "scores": pl.from_arrow(scores(rows, "").take(at)),
            "meta": optional(rows, "meta").gather(taken["row"]).fill_null("{}"),
        }
    )
    return found.select(pl.col(name).cast(kind) for name, kind in schema(Labelled).items())


def labelled_sides(pairs: pl.LazyFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both sides of each pair as labelled rows, each text to a prompt once; and the rejected sides.

    Sides have the scores that begin with their name, without it; ``score`` for the side's name alone.
    """
    import polars as pl

    rows = pairs.select("id", "problem_id", "prompt", "chosen", "rejected", "scores", "meta").collect()
    both = [
        pl.DataFrame(
            {
                "pair": pl.int_range(rows.height, eager=True),
                "id": rows["id"] + f"/{side}",
                "problem_id": rows["problem_id"],
                "prompt": rows["prompt"],
                "completion": rows[side],
                "label": pl.repeat(side == "chosen", rows.height, eager=True),
                "weight": pl.repeat(1.0, rows.height, eager=True),
                "scores": pl.from_arrow(_side_scores(rows["scores"], side)),
                "meta": rows["meta"],
            }
        )
        for side in ("chosen", "rejected")
    ]
    found = pl.concat(both).sort("pair", maintain_order=True)
    text = [
        pl.col(name).list.eval(pl.element().struct.json_encode()).list.join("\x1f").alias(f"\x1f{name}")
        for name in ("prompt", "completion")
    ]
    found = found.with_columns(text).with_columns(
        pl.col("label").n_unique().over("\x1fprompt", "\x1fcompletion").alias("labels"),
        pl.int_range(pl.len()).over("\x1fprompt", "\x1fcompletion").alias("earlier"),
    )
    reason = (
        pl.when(pl.col("labels") > 1)
        .then(pl.lit("unpaired: chosen in one pair and rejected in another"))
        .when(pl.col("earlier") > 0)
        .then(pl.lit("unpaired: the same side as in an earlier pair"))
    )
    found = found.with_columns(reason.alias(REJECTED_REASON))
    out = found.filter(pl.col(REJECTED_REASON).is_not_null()).select("id", REJECTED_REASON)
    kept = found.filter(pl.col(REJECTED_REASON).is_null())
    return kept.select(pl.col(name).cast(kind) for name, kind in schema(Labelled).items()), out


def _side_scores(scores: pl.Series, side: str) -> Any:
    """The scores of one side of pairs, under their own names."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = scores.to_arrow()
    names, values, verdicts = lists.flatten().flatten()
    mine = pc.or_(pc.equal(names, side), pc.starts_with(names, f"{side}_"))
    own = pc.utf8_slice_codeunits(names, len(side) + 1)
    own = pc.if_else(pc.equal(names, side), pa.scalar("score", own.type), own)
    items = pa.StructArray.from_arrays([own, values, verdicts], ["name", "value", "verdict"])
    before = np.concatenate([[0], np.cumsum(mine.to_numpy(zero_copy_only=False))]).astype(np.int64)
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return pa.LargeListArray.from_arrays(pa.array(before[ends]), items.filter(mine))
