"""The rows of text files: JSONL, JSON arrays and CSV, plain or packed with gzip or zstd.

Every reader gives (row number, row), where a row that cannot be read is a ``RowRejected`` in its place. It
holds one line at a time, except of a JSON array, which is read whole.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from gristmill.core.errors import InputError, RowRejected

ARRAY = 1 << 30
"""Bytes of text of the largest JSON array that is read."""
_LINE = 16 << 20
"""Bytes of a line (or of one CSV row) that are always taken; more only if ``max_chars`` asks for it."""
_DELIMITERS = ",;\t|"
_NO_NUMBER = re.compile(r'"(?:[^"\\]|\\.)*+"|-?\b(?:NaN|Infinity)\b')
"""JSON texts, so that what looks like a number in them is passed over, and the numbers JSON does not have."""

Row = tuple[int, "dict[str, Any] | RowRejected"]


class NoRowsError(InputError):
    """A source, or one file of it, that holds nothing."""

    def __init__(self, where: str) -> None:
        super().__init__("there are no rows in it.", path=where, remedy="Check what wrote it, and its name.")


def line_limit(max_chars: int) -> int:
    """The most bytes of a line where texts of ``max_chars`` characters are taken."""
    return max(_LINE, 8 * max_chars)


def _lines(path: Path, limit: int) -> Iterator[tuple[int, bytes | RowRejected]]:
    """The lines of a file, plain or packed, without a byte order mark; ones over ``limit`` rejected."""
    with _open(path) as stream:
        number = 0
        while True:
            number += 1
            try:
                line = stream.readline(limit)
                whole = len(line) < limit or line.endswith(b"\n")
                while len(line) == limit and not line.endswith(b"\n"):
                    line = stream.readline(limit)
            except (EOFError, zlib.error, OSError) as e:
                if isinstance(e, OSError) and e.errno is not None:
                    raise InputError(f"cannot be read ({e.strerror}).", path=str(path), row=number) from e
                if number == 1:
                    raise InputError(f"is not a whole {path.suffix[1:]} file ({e}).", path=str(path)) from e
                yield number, RowRejected("file cut short", f"the packed data ends or breaks here ({e}).")
                return
            if not whole:
                yield number, RowRejected("row too long", f"the line has more than {limit:,} bytes.")
                continue
            if not line:
                return
            if number == 1:
                line = _without_mark(line, path)
            yield number, line


def _open(path: Path) -> IO[bytes]:
    """The file's text, unpacked; what it is packed with is told by its first bytes."""
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic[:2] == b"\x1f\x8b":
        return cast(IO[bytes], gzip.open(path))
    if magic == b"\x28\xb5\x2f\xfd":
        import pyarrow as pa

        return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"), 1 << 18)
    return path.open("rb")


def _without_mark(line: bytes, path: Path) -> bytes:
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(
            "the file is UTF-16; it must be UTF-8.",
            path=str(path),
            remedy="Convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW",
        )
    return line.removeprefix(b"\xef\xbb\xbf")


def objects(path: Path, limit: int) -> Iterator[Row]:
    """The objects of a JSONL file or a JSON array. Raises ``InputError`` for an array that is not JSON."""
    begun = False
    for number, line in _lines(path, limit):
        if isinstance(line, RowRejected):
            yield number, line
        elif text := line.strip():
            if not begun and text.startswith(b"["):
                yield from _array(path)
                return
            begun = True
            yield number, _object(line)


def _array(path: Path) -> Iterator[Row]:
    """The elements of a JSON array. They are decoded one by one; the text is in memory as a whole."""
    try:
        with _open(path) as stream:
            text = _without_mark(stream.read(ARRAY + 1), path)
    except (EOFError, zlib.error, OSError) as e:
        raise InputError(f"cannot be read ({e}).", path=str(path)) from e
    if len(text) > ARRAY:
        raise InputError(
            f"the file is a JSON array of more than {ARRAY >> 20:,} MB.",
            path=str(path),
            remedy="Write it as one object a line, which is read as a stream: jq -c '.[]' FILE > NEW.jsonl",
        )
    try:
        found = msgspec.json.decode(_known_numbers(text), type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise InputError(
            f"the JSON array cannot be read ({e}).",
            path=str(path),
            row=1,
            remedy="It was cut short, or is JSONL that begins with '['; JSONL has one object a line.",
        ) from e
    for number, element in enumerate(found, 1):
        yield number, _object(bytes(element))


def _object(line: bytes) -> dict[str, Any] | RowRejected:
    try:
        value = msgspec.json.decode(_known_numbers(line).decode())
    except UnicodeDecodeError as e:
        return RowRejected("invalid UTF-8", f"byte {e.start + 1} of the line is not valid UTF-8.")
    except (msgspec.DecodeError, RecursionError) as e:
        return RowRejected("invalid JSON", f"{e}.")
    if not isinstance(value, dict):
        return RowRejected("row is not an object", f"the line holds a JSON {type(value).__name__}.")
    return value


def _known_numbers(text: bytes) -> bytes:
    """``text`` with null for ``NaN`` and the infinities, which Python writes and JSON does not have."""
    if b"NaN" not in text and b"Infinity" not in text:
        return text
    return _NO_NUMBER.sub(lambda m: m[0] if m[0][0] == '"' else "null", text.decode()).encode()


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
            # What is not valid UTF-8 is found again cell by cell, where the whole row is known.
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


def table(path: Path, limit: int, delimiter: str | None) -> tuple[list[str], Iterator[Row]]:
    """A CSV file: its header, without spaces round the names, and its rows.

    A row that breaks off (a quote never closed) costs its first line only. ``delimiter`` ``None``: the one of
    comma, semicolon, tab and bar that the header has most of.
    """
    csv.field_size_limit(max(csv.field_size_limit(), limit))
    lines = _lines(path, limit)
    first = list(islice(lines, 1))
    text = _Text(chain(first, lines), limit)
    reader = csv.reader(text, strict=True, delimiter=delimiter or _delimiter(first))
    try:
        header = [name.strip() for name in next(reader)]
    except StopIteration:
        header = []
    except (csv.Error, RowRejected) as e:
        detail = e.message if isinstance(e, RowRejected) else f"{e}."
        raise InputError(f"the header cannot be read: {detail}", path=str(path), row=1) from e
    if not any(header):
        raise InputError("the header (names of the columns) is missing.", path=str(path), row=1)
    found = _cells(reader, text, header)
    row = next(found, None)
    if row is None:
        raise NoRowsError(str(path))
    return header, chain([row], found)


def _delimiter(first: list[tuple[int, bytes | RowRejected]]) -> str:
    """The delimiter of a header: the most frequent outside of quotes, a comma before others."""
    line = first[0][1] if first else b""
    text = "" if isinstance(line, RowRejected) else line.decode(errors="replace")
    bare = re.sub(r'"[^"]*"', "", text)
    return max(_DELIMITERS, key=bare.count)


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
            yield start, RowRejected("invalid UTF-8", "the row holds bytes that are not valid UTF-8.")
            continue
        yield start, dict(zip(header, cells, strict=True))
