"""Filters and relations at work: their rows by way of memory, or past it where a filter only marks rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct

from gristmill.core.contracts import check_table
from gristmill.core.schema import schema
from gristmill.core.stages import REJECTED_DETAIL, REJECTED_REASON, Filter, Relation
from gristmill.pipelines.recipe.graph import GraphNode
from gristmill.pipelines.rundir import parts
from gristmill.pipelines.rundir.parts import Parts

if TYPE_CHECKING:
    import polars as pl

Measured = Mapping[str, Sequence[int]]


class Table(NamedTuple):
    """The rows of a stage, in its folder, and their type."""

    folder: Path
    record: type[Struct]


def write_table(
    node: GraphNode, given: Sequence[Table], seed: int, writer: Parts, part_rows: int
) -> tuple[pl.DataFrame, Measured]:
    """Write what a filter or relation keeps of these tables, ``part_rows`` at a time.

    Gives id, reason and detail of the rows that it rejects, and what it measured. Of a filter that only marks
    rows these, their ids and the columns that it looks at are in memory, and besides them the rows of two
    parts; of any other stage all that it makes is. Raises what the stage raises, and ``RunStopped`` where its
    rows break the contract.
    """
    stage = node.table_stage
    assert stage is not None
    frames = [parts.scan(table.folder, table.record) for table in given]
    if isinstance(stage, Filter) and stage.marks_only and node.writes is given[0].record:
        said = _marked(node, stage, frames[0], seed)
        for piece in _together(_kept(given[0], said[REJECTED_REASON].is_null()), part_rows):
            writer.add_frame(piece)
        if not writer.rows:
            writer.add_frame(frames[0].clear().collect())
        return _rejected(said), {}
    kept, rejected = tabled(node, frames, seed)
    for piece in kept.iter_slices(part_rows):
        writer.add_frame(piece)
    return rejected, stage.measured(kept)


def tabled(node: GraphNode, frames: list[Any], seed: int) -> tuple[Any, Any]:
    """What a filter or relation makes of lazy frames: the rows that it keeps, and of the others id, reason
    and detail.

    Raises what the stage raises, and ``RunStopped`` where its rows break the contract.
    """
    import polars as pl

    stage = node.table_stage
    assert stage is not None
    # Not the streaming engine: it may add floats up in another order on every run, and is not smaller.
    if isinstance(stage, Relation):
        frame = stage(frames, seed).collect(engine="in-memory")
        if REJECTED_REASON not in frame.columns:
            frame = frame.with_columns(pl.lit(None, pl.String).alias(REJECTED_REASON))
        check_table(node.name, stage, None, frame)
    else:
        frame = stage(frames[0], seed).collect(engine="in-memory")
        check_table(node.name, stage, frames[0].select("id").collect()["id"], frame)
    kept = frame.filter(pl.col(REJECTED_REASON).is_null()).select(node.writes.__struct_fields__)
    return kept, _rejected(frame)


def _marked(node: GraphNode, stage: Filter, frame: pl.LazyFrame, seed: int) -> pl.DataFrame:
    """Of each row the id and what the filter says of it."""
    made = stage(frame, seed)
    names = [REJECTED_REASON, *([REJECTED_DETAIL] if REJECTED_DETAIL in made.collect_schema() else [])]
    said = made.select("id", *names).collect(engine="in-memory")
    check_table(node.name, stage, frame.select("id").collect()["id"], said)
    return said


def _kept(table: Table, keep: pl.Series) -> Iterator[pl.DataFrame]:
    """The rows to keep, of one part after another."""
    import polars as pl

    start = 0
    for path in parts.part_files(table.folder):
        piece = pl.scan_parquet(path, schema=schema(table.record)).collect()
        yield piece.filter(keep.slice(start, piece.height))
        start += piece.height


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
        whole = pl.concat(held, rechunk=True)
        until = count - count % rows
        yield from whole.slice(0, until).iter_slices(rows)
        held, count = [whole.slice(until)], count - until
    if count:
        yield pl.concat(held, rechunk=True)


def _rejected(frame: pl.DataFrame) -> pl.DataFrame:
    """Id, reason and detail of the rows that have a reason."""
    import polars as pl

    said = pl.col(REJECTED_DETAIL).fill_null("") if REJECTED_DETAIL in frame.columns else pl.lit("")
    rejected = frame.filter(pl.col(REJECTED_REASON).is_not_null())
    return rejected.select("id", pl.col(REJECTED_REASON).alias("reason"), said.alias("detail"))
