"""What ``gristmill log`` does with a completion log. Each function can be used while runs write to it."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from gristmill.core.errors import LogError
from gristmill.core.files import atomic
from gristmill.engines.log.store import CompletionLog, check_file, connect, log_error, os_error

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
_BATCH = 20_000
"""Completions that ``merge`` commits at a time: this bounds the loss by a kill and the write-ahead log."""
# The completions of a batch that are wanted: rows ?1 < rowid <= ?2 of the other log, written at ?3 or later,
# and of one of the models in the JSON list ?4 (NULL: any).
_WANTED = """
other.completion AS theirs JOIN other.request AS asked USING (key)
WHERE theirs.rowid > ?1 AND theirs.rowid <= ?2 AND theirs.created >= ?3
  AND (?4 IS NULL OR asked.model IN (SELECT value FROM json_each(?4)))
"""
_COUNT = f"SELECT count(*) FROM {_WANTED}"  # noqa: S608 - two constants
_DIFFERENT = f"""
SELECT count(*) FROM main.completion AS ours
JOIN (SELECT theirs.* FROM {_WANTED}) AS theirs USING (key, sample)
WHERE ours.completion != theirs.completion
"""  # noqa: S608
_TAKE_REQUESTS = f"""
INSERT OR IGNORE INTO main.request
SELECT DISTINCT asked.key, asked.model, asked.request, asked.created FROM {_WANTED} ORDER BY asked.rowid
"""  # noqa: S608
_TAKE = f"""
INSERT INTO main.completion
SELECT theirs.key, theirs.sample, theirs.completion, theirs.created FROM {_WANTED} ORDER BY theirs.rowid
ON CONFLICT (key, sample) DO UPDATE SET completion = excluded.completion, created = excluded.created
WHERE completion.created < ?5 AND excluded.created >= ?5
"""  # noqa: S608


class ModelStats(Struct, frozen=True):
    """What the log holds for one model. ``oldest`` and ``newest`` are Unix times in seconds."""

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
    """What ``prune`` removed. ``freed`` is in bytes; 0 if another program's use kept the file as it was."""

    completions: int
    requests: int
    freed: int


class Merged(Struct, frozen=True):
    """What ``merge`` did: completions ``added`` (or replaced, if outdated), those already ``present``, and
    how many of the present ones had another text (``different``)."""

    added: int
    present: int
    different: int


def stats(path: str | Path) -> LogStats:
    """Counts, tokens, bytes and ages, by model. Reads the whole log."""
    path = Path(path)
    with _opened(path) as connection:
        models = tuple(ModelStats(*row) for row in connection.execute(_PER_MODEL))
        return LogStats(str(path), _size(path), models)


def prune(path: str | Path, *, older_than: float | None = None, model: str | None = None) -> Pruned:
    """Delete completions written more than ``older_than`` seconds ago, or those of ``model``; with both, only
    those of the model that are old enough. Then return the space to the file system."""
    path = Path(path)
    if older_than is None and model is None:
        raise LogError(
            f"{path}: it is not said which completions to delete.", remedy="Add --older-than or --model."
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


def merge(
    out: str | Path,
    logs: Sequence[str | Path],
    *,
    models: Collection[str] | None = None,
    since: float = 0.0,
    replace_before: float = 0.0,
) -> Merged:
    """Copy the completions of ``logs`` into the log ``out``, which is created if it does not exist.

    If two logs answer one sample differently, the first wins: ``out`` itself, then ``logs`` in the given
    order. A completion in ``out`` is replaced only if it was written before ``replace_before`` (Unix
    seconds) and the other was not, which is the rule of a fresh run. ``models`` and ``since`` (Unix
    seconds) restrict what is copied. Merging again adds nothing, so an interrupted merge is simply
    repeated. From a log that a run is writing to, the committed completions are copied.

    Raises ``LogError`` for a file that is not a log (before anything is written) and if ``out`` is one of
    ``logs``.
    """
    out, paths = Path(out), [Path(log) for log in logs]
    for path in paths:
        try:
            check_file(path)
            if out.exists() and out.samefile(path):
                raise LogError(
                    f"{out}: a log cannot be merged into itself.",
                    remedy="Remove it from the logs to be merged.",
                )
        except OSError as error:
            raise os_error(path, error) from error
    CompletionLog(out).close()
    wanted = None if models is None else json.dumps(sorted(models))
    added = present = different = 0
    with _opened(out) as connection:
        for path in paths:
            counts = _merge_one(connection, path, since, wanted, replace_before)
            added, present, different = added + counts[0], present + counts[1], different + counts[2]
    return Merged(added, present, different)


def _merge_one(
    connection: sqlite3.Connection, path: Path, since: float, models: str | None, replace_before: float
) -> tuple[int, int, int]:
    added = seen = different = 0
    try:
        connection.execute("ATTACH ? AS other", (str(path),))
        try:
            last = connection.execute("SELECT coalesce(max(rowid), 0) FROM other.completion").fetchone()[0]
            for begin in range(0, last, _BATCH):
                batch = (begin, min(begin + _BATCH, last), since, models)
                connection.execute("BEGIN IMMEDIATE")
                seen += connection.execute(_COUNT, batch).fetchone()[0]
                different += connection.execute(_DIFFERENT, batch).fetchone()[0]
                connection.execute(_TAKE_REQUESTS, batch)
                added += connection.execute(_TAKE, (*batch, replace_before)).rowcount
                connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.execute("DETACH other")
    except sqlite3.Error as error:
        raise log_error(path, error) from error
    return added, seen - added, different


def export(path: str | Path, out: str | Path) -> int:
    """Write every completion as a JSON line to ``out``; returns how many.

    The fields are ``model``, ``request``, ``index``, ``completion`` and ``created`` (Unix seconds), in the
    order in which the requests were first sent. ``out`` is written completely or not at all.
    """
    path, out = Path(path), Path(out)
    count = 0
    try:
        with atomic(out) as unfinished, unfinished.open("wb") as file, _opened(path) as connection:
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
    except OSError as error:
        raise os_error(out, error) from error
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
