"""A completion log as JSON lines, and back: to look at it, to take it elsewhere, to bring answers from
elsewhere."""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import LogError
from gristmill.core.files import atomic
from gristmill.engines.log.entry import family, key_of, read, request_key, seal, written
from gristmill.engines.log.file import log_error, open_log, os_error
from gristmill.engines.log.tools import opened

_ALL = """
SELECT completion.key, CAST(model AS BLOB), CAST(request AS BLOB), sample, CAST(completion AS BLOB),
  completion.created, seal
FROM completion LEFT JOIN request USING (key) ORDER BY request.rowid, sample
"""
_BATCH = 1000
_SHOWN = 10


class Transferred(Struct, frozen=True):
    """What ``export`` wrote: ``completions``, and how many entries it left out because they are
    ``damaged``."""

    completions: int
    damaged: int


class Imported(Struct, frozen=True):
    """What ``load`` did: completions ``added``, those already ``present``, and how many lines were
    ``refused``, the first of them with their numbers and the reasons."""

    added: int
    present: int
    refused: int
    reasons: tuple[tuple[int, str], ...]


class _Line(Struct):
    model: str
    request: msgspec.Raw
    index: Annotated[int, Meta(ge=0, lt=1 << 53)]
    completion: Completion
    created: Annotated[float, Meta(ge=0)] = field(default_factory=time.time)


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_request = msgspec.json.Decoder(Request).decode


def export(path: str | Path, out: str | Path) -> Transferred:
    """Write every completion as a JSON line to ``out``.

    The fields are ``model``, ``request``, ``index``, ``completion`` and ``created`` (Unix seconds), in the
    order in which the requests were first sent. Damaged entries are left out, so that every line is valid.
    ``out`` is written completely or not at all.
    """
    path, out = Path(path), Path(out)
    count = damaged = 0
    try:
        with atomic(out) as unfinished, unfinished.open("wb") as file, opened(path) as connection:
            for key, model, request, index, completion, created, sealed in connection.execute(_ALL):
                if not sound_request(key, model, request) or read(key, index, completion, sealed) is None:
                    damaged += 1
                    continue
                line = {
                    "model": model.decode(),
                    "request": msgspec.Raw(request),
                    "index": index,
                    "completion": msgspec.Raw(completion),
                    "created": created,
                }
                file.write(msgspec.json.encode(line) + b"\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise os_error(out, error) from error
    return Transferred(count, damaged)


def sound_request(key: bytes, model: bytes | None, request: bytes | None) -> bool:
    """Whether a request's texts are those that its key was made of; ``None`` for texts that are missing."""
    if model is None or request is None:
        return False
    return key_of(model.decode(errors="replace"), request.decode(errors="replace")) == key


def load(path: str | Path, lines: str | Path, *, model: str | None = None) -> Imported:
    """Put the completions of a JSONL file, as ``export`` writes it, into the log at ``path``, which is
    created if it does not exist.

    What the log has already stays. ``model`` takes the place of the model that the lines name: so answers are
    taken over for weights that are known to be the same under another identity. ``created`` may be left out.
    A line that is not such a completion is refused by its number, and the rest goes on.
    """
    path, lines = Path(path), Path(lines)
    added = seen = refused = 0
    reasons: list[tuple[int, str]] = []
    try:
        with lines.open("rb") as file, closing(open_log(path)) as connection:
            numbered = enumerate(file, 1)
            while batch := list(itertools.islice(numbered, _BATCH)):
                rows, faults = _entries(batch, model)
                added += _insert(connection, rows)
                seen += len(rows)
                refused += len(faults)
                reasons += faults[: _SHOWN - len(reasons)]
    except OSError as error:
        raise LogError(
            f"{lines}: this file cannot be read: {error.strerror or error}.", remedy="Check the path."
        ) from error
    except sqlite3.Error as error:
        raise log_error(path, error) from error
    return Imported(added, seen - added, refused, tuple(reasons))


_Rows = tuple[tuple[object, ...], tuple[object, ...]]


def _entries(
    numbered: Iterable[tuple[int, bytes]], model: str | None
) -> tuple[list[_Rows], list[tuple[int, str]]]:
    """The rows of lines, and why others are refused, by their numbers."""
    rows: list[_Rows] = []
    faults: list[tuple[int, str]] = []
    for number, text in numbered:
        try:
            rows.append(_entry(text, model))
        except (msgspec.DecodeError, ValueError) as error:
            faults.append((number, str(error)))
    return rows, faults


def _entry(text: bytes, model: str | None) -> _Rows:
    """The rows of a line in both tables. ``ValueError`` for one that does not hold a completion."""
    line = _decode_line(text)
    fields = msgspec.json.decode(line.request, type=dict)
    if unknown := fields.keys() - set(Request.__struct_fields__):
        raise ValueError(f"the request has a field {min(unknown)!r} that this version does not know")
    key = request_key(line.model if model is None else model, _decode_request(line.request))
    answer = written(line.completion)
    return (
        (*key, line.created, family(key.model, key.request)),
        (key.digest, line.index, answer.decode(), line.created, seal(key.digest, line.index, answer)),
    )


def _insert(connection: sqlite3.Connection, rows: list[_Rows]) -> int:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT OR IGNORE INTO request VALUES (?, ?, ?, ?, ?)", (r for r, _ in rows))
    done = connection.executemany(
        "INSERT OR IGNORE INTO completion VALUES (?, ?, ?, ?, ?, 0)", (c for _, c in rows)
    )
    connection.execute("COMMIT")
    return max(0, done.rowcount)
