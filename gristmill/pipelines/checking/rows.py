"""The rows of a file or of a run's stage as plain data, with what is wrong with a line before it is a row."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from gristmill.core.errors import InputError, RowRejected
from gristmill.core.exports import SUFFIXES, Export
from gristmill.pipelines.checking.typed import Fault
from gristmill.pipelines.exports.writing import pieces_of

_SLICE = 1000


class FileRow(NamedTuple):
    """A row: its number from 1, where it begins in a JSONL file, its values (``None`` where it is not a row),
    and what is wrong with its line."""

    number: int
    start: int
    values: dict[str, Any] | None
    faults: tuple[Fault, ...] = ()


def file_rows(path: Path) -> Iterator[FileRow]:
    """The rows of a JSONL or Parquet file or a folder of ``datasets``. ``InputError`` for what is none."""
    if path.suffix == ".jsonl":
        yield from _lines(path)
        return
    if path.suffix not in SUFFIXES:
        raise InputError("this is not a kind of file that exports write.", path=str(path), remedy=_KNOWN)
    for i, values in enumerate(_tables(path), start=1):
        yield FileRow(i, 0, values)


_KNOWN = f"Give a file that ends in one of {', '.join(SUFFIXES)}, or a run."


def _lines(path: Path) -> Iterator[FileRow]:
    start = 0
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield _line(number, start, line)
                start += len(line)
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror}.", path=str(path)) from error


def _line(number: int, start: int, line: bytes) -> FileRow:
    faults = []
    if line.startswith(codecs.BOM_UTF8):
        line = line.removeprefix(codecs.BOM_UTF8)
        faults.append(Fault("begins with a byte order mark", "save the file as UTF-8 without one"))
    repeated: Counter[str] = Counter()

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(found)
        if len(made) < len(found):
            repeated.update(key for key, count in Counter(k for k, _ in found).items() if count > 1)
        return made

    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return FileRow(number, start, None, (*faults, Fault("not UTF-8", f"at byte {error.start + 1}")))
    try:
        # The standard library's reader, since it alone tells of a key that is there twice.
        values = json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        return FileRow(number, start, None, (*faults, Fault("not JSON", str(error))))
    faults += [Fault("a key that is there twice", key) for key in repeated]
    if not isinstance(values, dict):
        return FileRow(number, start, None, (*faults, Fault("not an object", "each line must be {...}")))
    return FileRow(number, start, values, tuple(faults))


def _tables(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.is_dir():
            for shard in sorted(path.glob("*.arrow")):
                for batch in pa.ipc.open_stream(shard):
                    yield from batch.to_pylist()
            return
        for batch in pq.ParquetFile(path).iter_batches(_SLICE):
            yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"it cannot be read: {str(error).splitlines()[0]}.", path=str(path)) from error


def exported(export: Export, parts: Iterable[Path]) -> Iterator[FileRow]:
    """What ``export`` makes of the records in Parquet ``parts``, and the records that it drops."""
    number = 0
    for records, _ in pieces_of(export, parts):
        for record in records:
            try:
                made = export.rows(record)
            except RowRejected as error:
                number += 1
                dropped = Fault(f"dropped by the format: {error.reason}", error.message)
                yield FileRow(number, 0, None, (dropped,))
                continue
            for row in made:
                number += 1
                yield FileRow(number, 0, msgspec.json.decode(msgspec.json.encode(row)))
