"""Rows as they stand in JSONL, CSV and Parquet files, ``datasets`` folders and the Hub.

Every reader gives (row number, row), where a row that cannot be read is a ``RowRejected`` in its place. It
holds one line, or one batch of rows, at a time.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections import deque
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import msgspec

from gristmill.core.errors import InputError, RowRejected
from gristmill.core.registry import suggest

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 256
"""Rows of a columnar file that are held as Python objects at a time."""
_LINE = 16 << 20
"""Bytes of a line (or of one CSV row) that are always taken; more only if ``max_chars`` asks for it."""
_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


Row = tuple[int, "dict[str, Any] | RowRejected"]


def local(path: Path, split: str, max_chars: int) -> tuple[list[str] | None, Iterator[Row]]:
    """The columns (``None`` where the format has no header) and the rows of a file or folder."""
    if not path.exists():
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        remedy = suggest(path.name, near) if near else f"There is no folder {str(path.parent)!r} either."
        raise InputError("there is no such file.", path=str(path), remedy=remedy)
    if path.is_dir():
        return _folder(path, split)
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix not in _SUFFIXES:
        raise InputError(
            f"{suffix or 'no suffix'!r} is no known format.",
            path=str(path),
            remedy=f"Known: {', '.join(_SUFFIXES)} (the text formats also with .gz), and 'datasets' folders.",
        )
    try:
        if path.stat().st_size == 0:
            raise InputError(
                "the file is empty.", path=str(path), remedy="Check what wrote it; it has 0 bytes."
            )
        path.open("rb").close()
    except OSError as e:
        raise InputError(f"cannot be read ({e.strerror}).", path=str(path)) from e
    limit = max(_LINE, 8 * max_chars)
    if suffix == ".parquet":
        return _parquet(path)
    if suffix in (".csv", ".tsv"):
        return _table(path, limit, "\t" if suffix == ".tsv" else ",")
    return None, _objects(path, limit)


def _lines(path: Path, limit: int) -> Iterator[tuple[int, bytes | RowRejected]]:
    """The lines of a file, plain or gzip, without a byte order mark; longer ones than ``limit`` refused."""
    with _open(path) as stream:
        number = 0
        while True:
            number += 1
            try:
                line = stream.readline(limit)
                whole = len(line) < limit or line.endswith(b"\n")
                while len(line) == limit and not line.endswith(b"\n"):
                    line = stream.readline(limit)
            except (EOFError, zlib.error, gzip.BadGzipFile) as e:
                if number == 1:
                    raise InputError(f"is no whole gzip file ({e}).", path=str(path)) from e
                yield number, RowRejected("file cut short", f"the gzip data ends or breaks here ({e}).")
                return
            except OSError as e:
                raise InputError(f"cannot be read ({e.strerror}).", path=str(path), row=number) from e
            if not whole:
                yield number, RowRejected("row too long", f"the line has more than {limit:,} bytes.")
                continue
            if not line:
                return
            if number == 1:
                line = _without_mark(line, path)
            yield number, line


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path)) if packed else path.open("rb")


def _without_mark(line: bytes, path: Path) -> bytes:
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(
            "the file is UTF-16; it must be UTF-8.",
            path=str(path),
            remedy="Convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW",
        )
    return line.removeprefix(b"\xef\xbb\xbf")


def _objects(path: Path, limit: int) -> Iterator[Row]:
    begun = False
    for number, line in _lines(path, limit):
        if isinstance(line, RowRejected):
            yield number, line
        elif text := line.strip():
            if not begun and text.startswith(b"["):
                raise InputError(
                    "the file is a JSON array; it must have one object a line.",
                    path=str(path),
                    row=number,
                    remedy="Convert it: jq -c '.[]' FILE > NEW.jsonl",
                )
            begun = True
            yield number, _object(line)


def _object(line: bytes) -> dict[str, Any] | RowRejected:
    try:
        value = msgspec.json.decode(line.decode())
    except UnicodeDecodeError as e:
        return RowRejected("invalid UTF-8", f"byte {e.start + 1} of the line is no UTF-8.")
    except (msgspec.DecodeError, RecursionError) as e:
        return RowRejected("invalid JSON", f"{e}.")
    if not isinstance(value, dict):
        return RowRejected("row is not an object", f"the line holds a JSON {type(value).__name__}.")
    return value


class _Text:
    """Lines as text for ``csv.reader``. Remembers those of the current row, to give them back."""

    def __init__(self, lines: Iterator[tuple[int, bytes | RowRejected]], limit: int) -> None:
        self.lines = lines
        self.limit = limit
        self.row: list[tuple[int, str]] = []
        self.back: deque[tuple[int, str]] = deque()
        self.number = self.size = 0

    def __iter__(self) -> _Text:
        return self

    def __next__(self) -> str:
        if self.back:
            self.number, text = self.back.popleft()
        else:
            self.number, line = next(self.lines)
            if isinstance(line, RowRejected):
                raise line
            # What is no UTF-8 is found again cell by cell, where the whole row is known.
            text = line.decode(errors="surrogateescape")
        self.row.append((self.number, text))
        self.size += len(text)
        if self.size > self.limit:
            raise RowRejected("row too long", f"the row has more than {self.limit:,} characters.")
        return text

    def begin(self) -> None:
        """Forget the last row."""
        self.row, self.size = [], 0

    def give_back(self) -> None:
        """Have all but the first line of the current row read again."""
        self.back.extendleft(reversed(self.row[1:]))


def _table(path: Path, limit: int, delimiter: str) -> tuple[list[str], Iterator[Row]]:
    """A CSV file. A row that breaks off (a quote never closed) costs its first line only."""
    csv.field_size_limit(max(csv.field_size_limit(), limit))
    text = _Text(_lines(path, limit), limit)
    reader = csv.reader(text, strict=True, delimiter=delimiter)
    try:
        header = next(reader)
    except StopIteration:
        header = []
    except (csv.Error, RowRejected) as e:
        detail = e.message if isinstance(e, RowRejected) else f"{e}."
        raise InputError(f"the header cannot be read: {detail}", path=str(path), row=1) from e
    if not any(header):
        raise InputError("the header (names of the columns) is missing.", path=str(path), row=1)
    found = _cells(reader, text, header)
    first = next(found, None)
    if first is None:
        raise no_rows(str(path))
    return header, chain([first], found)


def _cells(reader: Iterator[list[str]], text: _Text, header: list[str]) -> Iterator[Row]:
    while True:
        text.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except RowRejected as e:
            yield (text.row[0][0] if text.row else text.number), e
            text.give_back()
            continue
        except csv.Error as e:
            yield text.row[0][0], RowRejected("malformed CSV row", f"{e}.")
            text.give_back()
            continue
        start = text.row[0][0]
        if not cells:
            continue
        if len(cells) != len(header):
            yield (
                start,
                RowRejected("ragged row", f"it has {len(cells)} cells; the header has {len(header)}."),
            )
            continue
        try:
            "".join(cells).encode()
        except UnicodeEncodeError:
            yield start, RowRejected("invalid UTF-8", "the row holds bytes that are no UTF-8.")
            continue
        yield start, dict(zip(header, cells, strict=True))


def _parquet(path: Path) -> tuple[list[str], Iterator[Row]]:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, buffer_size=1 << 20)
    except (OSError, ValueError) as e:
        raise InputError(
            f"is no whole Parquet file ({_first_line(e)}).",
            path=str(path),
            remedy="It was cut short, or is another format under this name: write or fetch it again.",
        ) from e
    if not file.metadata.num_rows:
        raise no_rows(str(path))
    return list(file.schema_arrow.names), _groups(file)


def _groups(file: Any) -> Iterator[Row]:
    """Row group by row group: a damaged one is refused from the damage on, and the next goes on."""
    begin = 0
    for group in range(file.num_row_groups):
        row, end = begin, begin + file.metadata.row_group(group).num_rows
        batches = file.iter_batches(_BATCH, row_groups=[group])
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
    """The rows of a batch as dicts; ``before`` rows came earlier."""
    try:
        rows: list[dict[str, Any] | RowRejected] = batch.to_pylist()
    except UnicodeDecodeError:
        rows = [_plain_row(batch, i) for i in range(batch.num_rows)]
    yield from enumerate(rows, before + 1)


def _plain_row(batch: pa.RecordBatch | pa.Table, index: int) -> dict[str, Any] | RowRejected:
    try:
        row: dict[str, Any] = batch.slice(index, 1).to_pylist()[0]
    except UnicodeDecodeError as e:
        return RowRejected("invalid UTF-8", f"{e}.")
    return row


def _folder(path: Path, split: str) -> tuple[list[str], Iterator[Row]]:
    import datasets

    try:
        found = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(
            f"is no readable 'datasets' folder ({_first_line(e)}).",
            path=str(path),
            remedy="Give a file, or a folder written by save_to_disk.",
        ) from e
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise InputError(f"has no split {split!r}.", path=str(path), remedy=suggest(split, found))
        found = found[split]
    if not len(found):
        raise no_rows(str(path))
    return list(found.column_names), _tables(found.with_format("arrow").iter(_BATCH), str(path))


def hub(name: str, config: str | None, split: str) -> tuple[list[str], Iterator[Row]]:
    """The columns and rows of a data set of the Hub, streamed. Raises ``InputError`` if it is not there."""
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
        raise no_rows(f"{name} ({split})")
    return list(first.column_names), _tables(chain([first], tables), name)


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


def no_rows(where: str) -> InputError:
    """The error for a source that holds nothing."""
    return InputError("there are no rows in it.", path=where, remedy="Check what wrote it, and its name.")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
