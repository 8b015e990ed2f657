"""Filters and relations at work: their rows by way of memory, or past it where a stage needs to see less.

A stage says what it needs (``row_by_row``, ``marks_only``, ``keyed``, ``apart_by``). What it needs is in
memory; the rows go from file to file, in their order or by way of ``gathered``. Whichever way is taken, what
is written is the same to the byte.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gristmill.core.contracts import check_table
from gristmill.core.errors import RunStopped
from gristmill.core.machine import shown_bytes, table_memory
from gristmill.core.stages import REJECTED_DETAIL, REJECTED_REASON, Filter, Relation
from gristmill.filters.tables import unique_ids
from gristmill.pipelines.recipe.graph import GraphNode
from gristmill.pipelines.rundir import parts
from gristmill.pipelines.rundir.parts import Parts
from gristmill.pipelines.running.gathering import Table, gathered

if TYPE_CHECKING:
    import polars as pl

Measured = Mapping[str, Sequence[int]]

_ROW = "\x1frow"
"""The number of a row among those of all tables."""
_TIMES = 2
"""What a relation takes in memory at least, in sizes of its tables: it holds them and what it makes."""
_STRETCH = 8
"""What goes into the share of memory so many times: the rows that are gathered at a time."""


class _At(Struct):
    """A stage at work on its tables. ``rejected`` are the rows that it dropped until here."""

    node: GraphNode
    given: Sequence[Table]
    seed: int
    share: int
    writer: Parts
    note: Callable[[str], None]
    rejected: list[Any] = []

    @property
    def stage(self) -> Filter | Relation:
        stage = self.node.table_stage
        assert stage is not None
        return stage

    @property
    def fields(self) -> tuple[str, ...]:
        return self.node.writes.__struct_fields__


def write_table(
    node: GraphNode,
    given: Sequence[Table],
    seed: int,
    writer: Parts,
    part_rows: int,
    *,
    share: int | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> tuple[pl.DataFrame, Measured]:
    """Write what a filter or relation keeps of these tables, ``part_rows`` at a time.

    Gives id, reason and detail of the rows that it rejects, and what it measured. ``share`` is how many bytes
    of memory tables may take (default: ``table_memory``); ``note`` is told where a stage goes past memory for
    it, or cannot. Raises what the stage raises, and ``RunStopped`` where its rows break the contract.
    """
    at = _At(node, given, seed, table_memory() if share is None else share, writer, note)
    measured = defaultdict[str, list[int]](list)
    for piece in _together(_pieces(at), part_rows):
        writer.add_frame(piece)
        for name, values in at.stage.measured(piece).items():
            measured[name].extend(values)
    return _one_after_another(at.rejected), measured


def tabled(node: GraphNode, frames: list[Any], seed: int) -> tuple[Any, Any]:
    """What a filter or relation makes of lazy frames: the rows that it keeps, and of the others id, reason
    and detail.

    Raises what the stage raises, and ``RunStopped`` where its rows break the contract.
    """
    stage = node.table_stage
    assert stage is not None
    frame = _called(stage, frames, seed)
    before = None if isinstance(stage, Relation) else frames[0].select("id").collect()["id"]
    check_table(node.name, stage, before, frame)
    return _kept(frame, node.writes.__struct_fields__), _rejected(frame)


def _called(stage: Filter | Relation, frames: list[Any], seed: int) -> pl.DataFrame:
    """What the stage makes, in memory, with a column of reasons."""
    import polars as pl

    made: Any = stage(frames, seed) if isinstance(stage, Relation) else stage(frames[0], seed)
    # Not the streaming engine: it may add floats up in another order on every run, and is not smaller.
    frame: pl.DataFrame = made.collect(engine="in-memory")
    if isinstance(stage, Relation) and REJECTED_REASON not in frame.columns:
        frame = frame.with_columns(pl.lit(None, pl.String).alias(REJECTED_REASON))
    return frame


def _pieces(at: _At) -> Iterator[pl.DataFrame]:
    """The rows that the stage keeps, in order, in pieces of any size."""
    stage, first = at.stage, at.given[0]
    if stage.row_by_row:
        return _by_parts(at)
    if isinstance(stage, Filter):
        marks = stage.marks_only and at.node.writes is first.record
        return _by_marks(at) if marks else _in_memory(at)
    takes = _TIMES * sum(map(_size, at.given))
    if takes <= at.share:
        return _in_memory(at)
    much = f"{at.node.name}: its tables would take about {shown_bytes(takes)} of memory, and"
    share = f"{shown_bytes(at.share)} are for tables (GRISTMILL_TABLE_MEMORY)"
    way = _by_keys if _has_keys(at) else _apart if _column_apart(at) is not None else _in_memory
    does = "this stage needs them all at once." if way is _in_memory else "they go by way of the disk."
    at.note(f"{much} {share}: {does}")
    return way(at)


def _in_memory(at: _At) -> Iterator[pl.DataFrame]:
    """All that the stage makes at once."""
    kept, rejected = tabled(at.node, [table.scan() for table in at.given], at.seed)
    at.rejected.append(rejected)
    yield kept


def _by_parts(at: _At) -> Iterator[pl.DataFrame]:
    """What the stage makes of one part after another."""
    for piece in at.given[0].pieces():
        frame = piece.collect()
        made = _called(at.stage, [frame.lazy()], at.seed)
        check_table(at.node.name, at.stage, frame["id"] if isinstance(at.stage, Filter) else None, made)
        if not made["id"].equals(frame["id"]):
            raise _breach(at, "'row_by_row' and gives other rows than it got")
        at.rejected.append(_rejected(made))
        yield _kept(made, at.fields)


def _by_marks(at: _At) -> Iterator[pl.DataFrame]:
    """The rows of one part after another without those that a filter marks."""

    table = at.given[0]
    frame = _keys(at, table).lazy() if _has_keys(at) else table.scan()
    made = at.stage(frame, at.seed)  # type: ignore[arg-type]
    names = [REJECTED_REASON, *([REJECTED_DETAIL] if REJECTED_DETAIL in made.collect_schema() else [])]
    said = made.select("id", *names).collect(engine="in-memory")
    check_table(at.node.name, at.stage, frame.select("id").collect()["id"], said)
    at.rejected.append(_rejected(said))
    keep, start = said[REJECTED_REASON].is_null(), 0
    del frame, made, said
    for piece in table.pieces():
        rows = piece.collect()
        yield rows.filter(keep.slice(start, rows.height))
        start += rows.height


def _by_keys(at: _At) -> Iterator[pl.DataFrame]:
    """The rows that a relation takes and orders by their keys, gathered."""
    import polars as pl

    frames, start = [], 0
    for table in at.given:
        keys = _keys(at, table)
        number = pl.int_range(start, start + keys.height, dtype=pl.Int64, eager=True).alias(_ROW)
        frames.append(keys.with_columns(number).lazy())
        start += keys.height
    made = _called(at.stage, frames, at.seed)
    del frames, keys
    if _ROW not in made.columns:
        raise _breach(at, "'keyed' and does not carry a further column along")
    check_table(at.node.name, at.stage, None, made)
    at.rejected.append(_rejected(made))
    kept = _kept(made, [_ROW, *(name for name in at.fields if name in made.columns)])
    del made
    rows = kept.drop_in_place(_ROW).to_numpy()
    others = [name for name in at.fields if name not in kept.columns]
    if not others:
        yield kept.select(at.fields)
        return
    for low, piece in gathered(at.given, others, rows, most_bytes=_stretch(at), scratch=_scratch(at)):
        yield piece.hstack(kept.slice(low, piece.height)).select(at.fields)


def _apart(at: _At) -> Iterator[pl.DataFrame]:
    """What a relation makes of the rows of some values after others, of which each has all its rows."""
    import numpy as np
    import polars as pl

    table, column = at.given[0], _column_apart(at)
    codes = table.scan().select(pl.col(str(column)).rank("dense").fill_null(0)).collect().to_series()
    by_value = np.argsort(codes.to_numpy(), kind="stable")
    sizes = np.unique(codes.to_numpy(), return_counts=True)[1]
    starts = np.cumsum(sizes) - sizes
    order = np.argsort(by_value[starts])  # of the values, by their first rows
    ends = np.cumsum(sizes[order])
    cuts = ends - sizes[order]
    rows = by_value[np.repeat(starts[order] - cuts, sizes[order]) + np.arange(len(by_value))]
    names = list(table.record.__struct_fields__)
    del codes, by_value
    ids = []
    for _, piece in gathered([table], names, rows, cuts=cuts, most_bytes=_stretch(at), scratch=_scratch(at)):
        made = _called(at.stage, [piece.lazy()], at.seed)
        at.rejected.append(_rejected(made))
        kept = _kept(made, at.fields)
        del piece, made
        ids.append(kept["id"])
        yield kept
    check_table(at.node.name, at.stage, None, pl.DataFrame({"id": pl.concat(ids)}))
    gone = _one_after_another(at.rejected)
    told = unique_ids([*pl.concat(ids).to_list(), *gone["id"].to_list()])[-gone.height :] if len(gone) else []
    at.rejected[:] = [gone.with_columns(pl.Series("id", told, dtype=pl.String))]


def _stretch(at: _At) -> int:
    return max(1, at.share // _STRETCH)


def _scratch(at: _At) -> Any:
    return at.writer.folder.new / ".rows"


def _has_keys(at: _At) -> bool:
    return all(at.stage.keyed(table.scan()) is not None for table in at.given)


def _keys(at: _At, table: Table) -> pl.DataFrame:
    """What the stage decides by, made of one part after another."""
    import polars as pl

    found = []
    for piece in table.pieces():
        keyed = at.stage.keyed(piece)
        assert keyed is not None
        found.append(keyed.collect(engine="in-memory"))
    return pl.concat(found, rechunk=True)


def _column_apart(at: _At) -> str | None:
    return at.stage.apart_by(at.given[0].scan().collect_schema()) if isinstance(at.stage, Relation) else None


def _breach(at: _At, what: str) -> RunStopped:
    return RunStopped(
        f"stage {at.node.name!r} says {what}.",
        remedy="Leave it out of the class, or do as its documentation in gristmill.core says.",
    )


def _size(table: Table) -> int:
    """The bytes that a table takes in memory, as its first, middle and last part tell."""
    import polars as pl

    paths = parts.part_files(table.folder)
    if not paths:
        return 0
    looked = sorted({0, len(paths) // 2, len(paths) - 1})
    frames = [pl.scan_parquet(paths[i]).collect() for i in looked]
    rows = sum(frame.height for frame in frames)
    height = int(table.scan().select(pl.len()).collect().item())
    return round(sum(frame.estimated_size() for frame in frames) * height / max(rows, 1))


def _together(pieces: Iterator[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """The same rows, ``rows`` at a time."""
    import polars as pl

    held: list[pl.DataFrame] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += piece.height
        if count < rows:
            continue
        whole = held[0] if len(held) == 1 else pl.concat(held, rechunk=True)
        until = count - count % rows
        yield from whole.slice(0, until).iter_slices(rows)
        held, count = [whole.slice(until)], count - until
    if count:
        yield pl.concat(held, rechunk=True)


def _kept(frame: Any, columns: Sequence[str]) -> Any:
    import polars as pl

    return frame.filter(pl.col(REJECTED_REASON).is_null()).select(columns)


def _one_after_another(frames: list[Any]) -> pl.DataFrame:
    import polars as pl

    told = pl.Schema({"id": pl.String(), "reason": pl.String(), "detail": pl.String()})
    whole: pl.DataFrame = pl.concat([pl.DataFrame(schema=told), *frames])
    return whole


def _rejected(frame: Any) -> Any:
    """Id, reason and detail of the rows that have a reason."""
    import polars as pl

    said = pl.col(REJECTED_DETAIL).fill_null("") if REJECTED_DETAIL in frame.columns else pl.lit("")
    rejected = frame.filter(pl.col(REJECTED_REASON).is_not_null())
    return rejected.select("id", pl.col(REJECTED_REASON).alias("reason"), said.alias("detail"))
