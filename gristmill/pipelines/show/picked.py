"""Which rows of a subject a page holds: all of them where they fit, else some that a seeded hash chooses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from gristmill.filters.order import seeded_places
from gristmill.pipelines.show.blocks import Block, blocks, cut, head, kind_of, telling, verdict_of
from gristmill.pipelines.show.subject import StageRows, Subject

if TYPE_CHECKING:
    import polars as pl

ROWS = 2_000
"""Rows of a page, at most."""
BYTES = 4_000_000
"""Bytes of their JSON, at most; the rest of the page is much smaller."""
SEED = 0
"""Of the choice. It depends on ids alone, so that two runs over the same problems show the same ones."""
_PLACE, _ORDER = "__place", "__order"


class Shown(Struct, frozen=True):
    """A table as the page has it: ``rows`` in the file, ``shown`` of them here."""

    stage: str
    kind: str
    state: str
    rows: int
    shown: int


def picked(
    subject: Subject, rows: int = ROWS, size: int = BYTES, first: int = 0
) -> tuple[list[Shown], list[msgspec.Raw]]:
    """The tables, and as JSON the rows of all of them that are shown, each with the place of its table.

    ``rows`` and ``size`` (bytes of JSON) are shared out evenly; what a small table leaves goes to the others.
    ``first`` is the place of the first table.
    """
    import polars as pl

    heights = [table.frame.select(pl.len()).collect().item() for table in subject.tables]
    made = []
    for place, (table, n) in enumerate(zip(subject.tables, shares(heights, rows), strict=True), first):
        frame = _some(table.frame, n, heights[place - first])
        lost = _lost(subject, table, frame) if table.kind == "rejected" else {}
        made.append(list(_views(table, place, frame, lost, size)))
    limits = shares([sum(len(view) for _, view in views) for views in made], size)
    kept = [_within(views, limit) for views, limit in zip(made, limits, strict=True)]
    shown = [
        Shown(table.stage, table.kind, table.state, height, len(views))
        for table, height, views in zip(subject.tables, heights, kept, strict=True)
    ]
    return shown, [msgspec.Raw(view) for views in kept for view in views]


def shares(wanted: Sequence[int], limit: int) -> list[int]:
    """``limit`` shared out evenly; none gets more than is wanted, and what that leaves goes to the others."""
    given, left = [0] * len(wanted), limit
    for count, at in enumerate(sorted(range(len(wanted)), key=lambda i: wanted[i])):
        given[at] = min(wanted[at], left // (len(wanted) - count))
        left -= given[at]
    return given


def _some(frame: pl.LazyFrame, n: int, height: int) -> pl.DataFrame:
    """``n`` rows by the hash of their ids, with their places in the table and in the order of that hash."""
    import polars as pl

    schema = frame.collect_schema()
    placed = frame.with_row_index(_PLACE)
    if schema.get("id") == pl.String:
        ids = frame.select("id").collect()["id"].fill_null("")
    else:
        ids = pl.Series("id", [str(at) for at in range(1, height + 1)], pl.String)
        name = pl.concat_str(pl.lit("row "), pl.col(_PLACE) + 1)
        placed = placed.with_columns(
            (name if "id" not in schema else pl.col("id").cast(pl.String)).alias("id")
        )
    order = seeded_places(SEED, ids).rename(_ORDER) if height else pl.Series(_ORDER, [], pl.Int64)
    chosen = pl.DataFrame({_PLACE: pl.Series(range(height), dtype=pl.UInt32), _ORDER: order})
    chosen = chosen.filter(pl.col(_ORDER) < n).with_columns(pl.col(_PLACE).cast(pl.get_index_type()))
    return placed.join(chosen.lazy(), on=_PLACE, how="inner").collect()


def _views(
    table: StageRows, place: int, frame: pl.DataFrame, lost: Mapping[str, Mapping[str, Any]], size: int
) -> Iterator[tuple[int, bytes]]:
    """Rows as JSON with their places in the table, in the order of the hash, as many as fit in ``size``."""
    rows = frame.sort(_ORDER).rows(named=True)
    first = telling([lost.get(row["id"], row) for row in rows])
    for row in rows:
        view = msgspec.json.encode(_view(table, place, row, lost, first))
        size -= len(view)
        if size < 0:
            return
        yield row[_PLACE], view


def _within(views: Sequence[tuple[int, bytes]], size: int) -> list[bytes]:
    """The first ones that fit, in the order of their places."""
    fitting = sum(1 for total in accumulate(len(view) for _, view in views) if total <= size)
    return [view for _, view in sorted(views[:fitting])]


def _lost(subject: Subject, table: StageRows, frame: pl.DataFrame) -> Mapping[str, Mapping[str, Any]]:
    """The rows that a stage rejected as they were before it, by id, from the nearest stage that had them."""
    import polars as pl

    at = subject.tables.index(table)
    found: dict[str, Mapping[str, Any]] = {}
    for before in reversed([t for t in subject.tables[:at] if t.kind == "kept" and t.stage != table.stage]):
        ids = [one for one in frame["id"].to_list() if one not in found]
        if not ids or "id" not in before.frame.collect_schema():
            break
        rows = before.frame.filter(pl.col("id").is_in(ids)).collect()
        found |= {row["id"]: row for row in rows.iter_rows(named=True)}
    return found


def _view(
    table: StageRows, place: int, row: dict[str, Any], lost: Mapping[str, Mapping[str, Any]], first: int
) -> Block:
    """What the page knows of a row. ``table`` is the place of its table."""
    row = {name: value for name, value in row.items() if name not in (_PLACE, _ORDER)}
    view: Block = {"table": place, "id": row["id"]}
    was: Mapping[str, Any] | None = row
    if table.kind == "rejected":
        view |= {"reason": row["reason"], "detail": cut(row.get("detail") or "")}
        was = lost.get(row["id"])
    if was is None:
        return view | {"head": cut(row.get("detail") or "")}
    told = {"head": head(was, first), "kind": kind_of(was), "verdict": verdict_of(was), "blocks": blocks(was)}
    return view | {name: value for name, value in told.items() if value}
