"""The rows of Parquet files, ``datasets`` folders and data sets of the Hub, a batch of them at a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gristmill.core.errors import InputError, RowRejected
from gristmill.core.registry import suggest
from gristmill.pipelines.sources.splits import Opened
from gristmill.pipelines.sources.text import NoRowsError, Row

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 256
"""Rows of a columnar file that are held as Python objects at a time, at most."""
_BATCH_BYTES = 16 << 20
"""Bytes of a Parquet file's rows that are held at a time, where the file says how large they are."""


def parquet(path: Path) -> Opened:
    """A Parquet file."""
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, buffer_size=1 << 20)
    except (OSError, ValueError) as e:
        raise InputError(
            f"is not a whole Parquet file ({_first_line(e)}).",
            path=str(path),
            remedy="It was cut short, or is another format under this name: write or fetch it again.",
        ) from e
    if not file.metadata.num_rows:
        raise NoRowsError(str(path))
    return Opened(str(path), list(file.schema_arrow.names), _groups(file), file.metadata.num_rows)


def _groups(file: Any) -> Iterator[Row]:
    """Row group by row group: a damaged one is rejected from the damage on, and the next goes on."""
    begin = 0
    for group in range(file.num_row_groups):
        about = file.metadata.row_group(group)
        row, end = begin, begin + about.num_rows
        fitting = _BATCH_BYTES * about.num_rows // max(1, about.total_byte_size)
        batches = file.iter_batches(max(1, min(_BATCH, fitting)), row_groups=[group])
        while row < end:
            try:
                batch = next(batches)
            except (OSError, ValueError) as e:
                detail = f"rows {row + 1} to {end} cannot be read ({_first_line(e)})."
                yield row + 1, RowRejected("damaged row group", detail)
                break
            yield from _plain(batch, row)
            row += batch.num_rows
        begin = end


def _plain(batch: pa.RecordBatch | pa.Table, before: int) -> Iterator[Row]:
    """The rows of a batch as dicts; ``before`` rows came earlier. A value that Python has no place for, such
    as a date in the year 20000, costs its row."""
    try:
        rows: list[dict[str, Any] | RowRejected] = batch.to_pylist()
    except (ValueError, OverflowError):
        rows = [_plain_row(batch, i) for i in range(batch.num_rows)]
    yield from enumerate(rows, before + 1)


def _plain_row(batch: pa.RecordBatch | pa.Table, index: int) -> dict[str, Any] | RowRejected:
    one = batch.slice(index, 1)
    try:
        row: dict[str, Any] = one.to_pylist()[0]
    except UnicodeDecodeError as e:
        return RowRejected("invalid UTF-8", f"{e}.")
    except (ValueError, OverflowError) as e:
        return RowRejected("unreadable value", f"{_odd_column(one)}: {_first_line(e)}.")
    return row


def _odd_column(one: pa.RecordBatch | pa.Table) -> str:
    """The column of a single row whose value cannot be read."""
    for name, column in zip(one.schema.names, one.columns, strict=True):
        try:
            column.to_pylist()
        except (ValueError, OverflowError):
            return f"the column {name!r}"
    return "the row"


def saved(path: Path, split: str) -> Opened:
    """A folder that ``datasets`` wrote; ``split`` matters where it has several."""
    import datasets

    try:
        found = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(
            f"is not a readable 'datasets' folder ({_first_line(e)}).",
            path=str(path),
            remedy="Give a file, or a folder written by save_to_disk.",
        ) from e
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise InputError(f"has no split {split!r}.", path=str(path), remedy=suggest(split, found))
        found = found[split]
    if not len(found):
        raise NoRowsError(str(path))
    rows = _tables(found.with_format("arrow").iter(_BATCH), str(path))
    return Opened(str(path), list(found.column_names), rows, len(found))


def hub(name: str, config: str | None, split: str) -> Opened:
    """A split of a data set of the Hub, streamed. Raises ``InputError`` if it is not there."""
    import datasets

    try:
        found = datasets.load_dataset(name, config, split=split, streaming=True)
        tables = found.with_format("arrow").iter(_BATCH)
        first = next(tables, None)
    except (OSError, ValueError, RuntimeError) as e:
        raise InputError(
            f"cannot be loaded ({_first_line(e)}).",
            path=name,
            remedy="Check the name, 'config', 'split' and the network; a private one needs HF_TOKEN.",
        ) from e
    if first is None:
        raise NoRowsError(f"{name} ({split})")
    stated = (found.info.splits or {}).get(split)
    rows = _tables(chain([first], tables), name)
    return Opened(name, list(first.column_names), rows, stated and stated.num_examples)


def _tables(tables: Iterator[pa.Table], where: str) -> Iterator[Row]:
    row = 0
    while True:
        try:
            table = next(tables, None)
        except (OSError, ValueError, RuntimeError) as e:
            raise InputError(
                f"reading broke off ({_first_line(e)}).",
                path=where,
                row=row + 1,
                remedy="Run the recipe again: what was paid for is in the completion log.",
            ) from e
        if table is None:
            return
        yield from _plain(table, row)
        row += table.num_rows


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
