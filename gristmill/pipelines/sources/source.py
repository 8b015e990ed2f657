"""Records of any type from files, folders, data sets of the Hub and former runs, one row at a time.

Memory does not grow with the number of rows, except for 11 to 22 bytes a row to find duplicate ids, twice
that for problems without ids (and what ``shuffle`` and JSON arrays need). A row that cannot be used becomes a
``Rejection``, and the rest goes on; a file that cannot be read at all raises ``InputError``. ``row`` is the
line in a JSONL or CSV file on which the row begins, and the 1-based number of the row elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from msgspec import Struct

from gristmill.core.errors import InputError
from gristmill.core.records import Conversation, Labelled, Pair, Passage, Problem, Sampled
from gristmill.core.stages import Rejection
from gristmill.pipelines.rundir import parts
from gristmill.pipelines.sources import former, layouts, readers
from gristmill.pipelines.sources.chats import TRACE, from_traces
from gristmill.pipelines.sources.columns import Located, first_columns
from gristmill.pipelines.sources.conversations import Conversations
from gristmill.pipelines.sources.options import Source
from gristmill.pipelines.sources.pairs import LabelledRows, Pairs
from gristmill.pipelines.sources.picking import picked
from gristmill.pipelines.sources.problems import Problems, Samples
from gristmill.pipelines.sources.reading import Reader, Records, required
from gristmill.pipelines.sources.splits import Opened
from gristmill.pipelines.sources.text import NoRowsError

__all__ = ["Source", "describe", "fingerprint", "place_of", "read"]


def describe(source: Source) -> str:
    """The source in one line, for logs and messages."""
    if source.path is not None:
        return source.path
    if source.run is not None:
        return f"{source.run} ({source.stage or 'last stage'})"
    return f"{source.dataset} ({', '.join(filter(None, (source.config, source.split)))})"


def read(source: Source) -> Iterator[Any]:
    """The records of a source (of the type ``source.record``), and a ``Rejection`` for each row that is none.

    Raises ``InputError`` for what cannot be read at all: nothing there, an empty file, no such column, a
    layout that is not known, or another format than the name says; ``RunError`` where a run is not complete.
    """
    if source.run is not None:
        where = former.folder(source.run, source.runs, source.stage)
        return picked(source, parts.read(where, former.record(where, source.record)))
    return picked(source, _opened(source)[1])


def place_of(source: Source, record_id: str) -> tuple[str, int | None]:
    """The file and the row of a record, found by reading the source once more; of a former run its name."""
    if source.run is not None:
        return describe(source), None
    reader, rows = _opened(source)
    for record in rows:
        if not isinstance(record, Rejection) and getattr(record, "id", None) == record_id:
            return reader.at
    return describe(source), None


def fingerprint(source: Source) -> str:
    """What identifies the source's content: a hash of the bytes of its local files.

    A data set of the Hub is identified by its name, configuration and split. Reads the files as a whole, at
    about a gigabyte a second. Raises ``InputError`` if one cannot be read.
    """
    if source.run is not None:
        return former.fingerprint(former.folder(source.run, source.runs, source.stage))
    if source.path is None:
        return f"hub:{describe(source)}"
    path = Path(source.path)
    digest = hashlib.blake2b(digest_size=16)
    try:
        found = readers.files(source.path)
        for file in found:
            if found != [path]:
                name = file.relative_to(path) if path.is_dir() else file
                digest.update(f"{name.as_posix()}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    except OSError as e:
        raise InputError(f"cannot be read ({e.strerror}).", path=source.path) from e
    return f"{path.name}:{digest.hexdigest()}"


def _opened(source: Source) -> tuple[Reader, Iterator[Struct | Rejection]]:
    """What reads a source, and the rows that it makes."""
    where = describe(source)
    found = readers.opened(
        source.path, source.dataset, source.config, source.split, source.max_chars, source.delimiter
    )
    first = next(found, None)
    if first is None:
        raise NoRowsError(where)
    rows = _located([first])
    if first.header is None:
        columns, rows = first_columns(where, rows)
    else:
        columns = first.header
    if source.record is Sampled and set(columns) >= TRACE:
        samples = Samples(source, where)
        return samples, samples.convert(samples.columns.peek(from_traces(chain(rows, _located(found)))))
    reader = _reader(source, where, columns)
    if first.header is not None:
        reader.columns.check_header(first.header, where)
    return reader, reader.convert(
        reader.columns.peek(chain(rows, _located(found, reader.columns.check_header)))
    )


def _located(
    found: Iterator[Opened] | list[Opened], check: Callable[[list[str], str], None] | None = None
) -> Iterator[Located]:
    """The rows of all files; ``check`` is called with each header."""
    for one in found:
        if check is not None and one.header is not None:
            check(one.header, one.where)
        for number, value in one.rows:
            yield Located(one.where, number, value)


def _reader(source: Source, where: str, columns: list[str]) -> Reader:
    """What reads the source's rows, of which the first has these ``columns``."""
    record = source.record
    if record is Problem:
        return Problems(source, where)
    if record is Passage:
        return Records(source, where, record, layouts.PASSAGES)
    if source.layout == "auto" and all(f in columns or f in source.columns for f in required(record)):
        return Records(source, where, record)  # a file of our own
    if record is Sampled:
        return Samples(source, where)
    known: dict[type[Struct], tuple[layouts.Layout, ...]] = {
        Conversation: layouts.CONVERSATIONS,
        Pair: layouts.PAIRS,
        Labelled: layouts.LABELLED,
    }
    if record not in known:
        return Records(source, where, record)
    layout = layouts.recognised(known[record], source.layout, columns, source.columns, where)
    if record is Labelled:
        return LabelledRows(source, where, layout)
    return Conversations(source, where, layout) if record is Conversation else Pairs(source, where, layout)
