"""What the stages on tables have in common: keys, ids that stay unique, rejected rows at the end."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gristmill.core.errors import RecipeError
from gristmill.core.stages import REJECTED_DETAIL, REJECTED_REASON

if TYPE_CHECKING:
    import polars as pl

PROBLEM = "problem"
"""As a key: the problem that a row belongs to, ``problem_id``, or ``id`` where a record has none."""

CONVERSATION = "conversation"
"""As a text: all that is said in a row."""


def compared(schema: pl.Schema, name: str, where: str) -> pl.Expr:
    """The text of each row that ``name`` stands for: a column, or ``conversation``, which is all messages and
    the completion, of a pair both sides, and where there are none the problem or the text.

    ``RecipeError`` for a column that is not there, and for rows without a conversation.
    """
    import polars as pl

    if name != CONVERSATION or name in schema:
        return pl.col(key_column(schema, name, f"{where}: text", keyword=False)).cast(pl.String)
    parts = [
        pl.col(column).list.eval(pl.element().struct.field("content")).list.join("\n")
        for column, kind in schema.items()
        if isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct) and "content" in dict(kind.inner)
    ]
    parts += [pl.col("completion")] * (schema.get("completion") == pl.String)
    if parts:
        return pl.concat_str(parts, separator="\n")
    for column in ("problem", "text"):
        if column in schema:
            return pl.col(column)
    raise RecipeError(
        f"{where}: text: these rows have no conversation to compare.",
        remedy=f"Name a column of text. The columns are: {', '.join(schema)}.",
    )


def key_column(schema: pl.Schema, key: str, where: str, *, keyword: bool = True) -> str:
    """The column that ``key`` stands for. ``RecipeError`` for one that is not there or holds lists.

    Without ``keyword``, ``problem`` is the column of that name like any other.
    """
    import polars as pl

    if keyword and key == PROBLEM:
        return "problem_id" if "problem_id" in schema else "id"
    if key not in schema:
        near = difflib.get_close_matches(key, schema, n=1)
        raise RecipeError(
            f"{where}: {key!r} is not a column.",
            remedy=(f"Did you mean {near[0]!r}? " if near else "")
            + f"The columns are: {', '.join(schema)}"
            + (f"; {PROBLEM!r} is the problem of a row." if keyword else "."),
        )
    if isinstance(schema[key], pl.List | pl.Struct):
        raise RecipeError(
            f"{where}: the column {key!r} holds lists or records, which cannot be a key.",
            remedy="Use a column of text or numbers, or make one with the stage 'derive'.",
        )
    return key


def unique_ids(ids: Sequence[str]) -> list[str]:
    """The ids with ``#2``, ``#3`` ... behind one that occurred before; no id that is given is taken away."""
    taken, seen, made = set(ids), dict.fromkeys(ids, 0), []
    for own in ids:
        seen[own] += 1
        found = own
        if seen[own] > 1:
            while (found := f"{own}#{seen[own]}") in taken:
                seen[own] += 1
            taken.add(found)
        made.append(found)
    return made


def with_unique_ids(frame: pl.LazyFrame) -> pl.LazyFrame:
    """The frame with the column ``id`` made unique."""
    import polars as pl

    def rename(ids: pl.Series) -> pl.Series:
        return ids if ids.is_unique().all() else pl.Series(ids.name, unique_ids(ids.to_list()), pl.String)

    return frame.with_columns(pl.col("id").map_batches(rename, return_dtype=pl.String))


def marked(frame: pl.LazyFrame, height: int, said: Mapping[int, tuple[str, str]]) -> pl.LazyFrame:
    """The frame, which has ``height`` rows, with the reason and detail of each row to reject by its place."""
    import polars as pl

    lost = sorted(said)
    columns = []
    for part, name in enumerate((REJECTED_REASON, REJECTED_DETAIL)):
        none = pl.Series(name, [None], dtype=pl.String).new_from_index(0, height)
        columns.append(none.scatter(lost, [said[place][part] for place in lost]))
    return pl.concat([frame, pl.LazyFrame(columns)], how="horizontal")


def with_rejected(kept: pl.LazyFrame, rejected: pl.LazyFrame) -> pl.LazyFrame:
    """The rows of both, with ``REJECTED_REASON`` null for those kept.

    ``rejected`` has that column and ``id``; the others that ``kept`` has are null there.
    """
    import polars as pl

    only = rejected.select("id", REJECTED_REASON)
    rows = kept.with_columns(pl.lit(None, pl.String).alias(REJECTED_REASON))
    return with_unique_ids(pl.concat([rows, only], how="diagonal"))
