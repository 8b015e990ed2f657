"""What ``gristmill log`` does with a completion log; each function may be used while runs write to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from gristmill.core.errors import LogError
from gristmill.engines.log import check_file, connect, log_error, os_error

_PER_MODEL = """
SELECT model, count(DISTINCT completion.key), count(*),
  sum(coalesce(json_extract(completion, '$.prompt_tokens'), 0)),
  sum(coalesce(json_extract(completion, '$.completion_tokens'), 0)),
  min(completion.created), max(completion.created)
FROM completion JOIN request USING (key) GROUP BY model ORDER BY model
"""
_ALL = """
SELECT model, request, sample, completion, completion.created FROM completion JOIN request USING (key)
ORDER BY request.rowid, sample
"""
_PRUNE = """
DELETE FROM completion WHERE created < ?1
  AND (?2 IS NULL OR key IN (SELECT key FROM request WHERE model = ?2))
"""


class ModelStats(Struct, frozen=True):
    """What the log holds of one model. ``oldest`` and ``newest`` are Unix times in seconds."""

    model: str
    requests: int
    completions: int
    prompt_tokens: int
    completion_tokens: int
    oldest: float
    newest: float


class LogStats(Struct, frozen=True):
    """What a log holds. ``bytes`` counts the file and its write-ahead log."""

    path: str
    bytes: int
    models: tuple[ModelStats, ...]


class Pruned(Struct, frozen=True):
    """What ``prune`` removed. ``freed`` is in bytes, 0 if another program kept the file from shrinking."""

    completions: int
    requests: int
    freed: int


def stats(path: str | Path) -> LogStats:
    """Counts, tokens, bytes and ages, by model. Reads the whole log."""
    path = Path(path)
    with _opened(path) as connection:
        models = tuple(ModelStats(*row) for row in connection.execute(_PER_MODEL))
        return LogStats(str(path), _size(path), models)


def prune(path: str | Path, *, older_than: float | None = None, model: str | None = None) -> Pruned:
    """Delete completions written more than ``older_than`` seconds ago, or of ``model``, or (both) those
    of the model that are as old. Then give the space back to the disk."""
    path = Path(path)
    if older_than is None and model is None:
        raise LogError(
            f"{path}: nothing says which completions to delete.", remedy="Add --older-than or --model."
        )
    before = float("inf") if older_than is None else time.time() - older_than
    with _opened(path) as connection:
        size = _size(path)
        connection.execute("BEGIN IMMEDIATE")
        completions = connection.execute(_PRUNE, (before, model)).rowcount
        requests = connection.execute(
            "DELETE FROM request WHERE key NOT IN (SELECT key FROM completion)"
        ).rowcount
        connection.execute("COMMIT")
        with contextlib.suppress(sqlite3.OperationalError):  # a run is writing: the space is reused instead
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Pruned(completions, requests, max(0, size - _size(path)))


def export(path: str | Path, out: str | Path) -> int:
    """Write every completion as a JSON line to ``out``; returns how many.

    The fields are ``model``, ``request``, ``index``, ``completion`` and ``created`` (Unix seconds), in the
    order in which the requests were first sent. ``out`` appears whole or not at all.
    """
    path, out = Path(path), Path(out)
    count = 0
    try:
        descriptor, part = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    except OSError as error:
        raise os_error(out, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file, _opened(path) as connection:
            for model, request, index, completion, created in connection.execute(_ALL):
                line = {
                    "model": model,
                    "request": msgspec.Raw(request),
                    "index": index,
                    "completion": msgspec.Raw(completion),
                    "created": created,
                }
                file.write(msgspec.json.encode(line) + b"\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        Path(part).replace(out)
    except OSError as error:
        raise os_error(out, error) from error
    finally:
        Path(part).unlink(missing_ok=True)
    return count


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        check_file(path)
    except OSError as error:
        raise os_error(path, error) from error
    try:
        with contextlib.closing(connect(path)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise log_error(path, error) from error


def _size(path: Path) -> int:
    files = (path, path.with_name(path.name + "-wal"))
    return sum(f.stat().st_size for f in files if f.exists())
