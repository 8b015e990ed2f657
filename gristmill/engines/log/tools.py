"""What ``gristmill log`` does with a whole log. Each function can be used while runs write to it."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from gristmill.core.errors import LogError
from gristmill.engines.log.entry import family, seal
from gristmill.engines.log.file import check_file, log_error, open_log, os_error
from gristmill.engines.log.store import CompletionLog

# What is damaged, or was counted by a server beyond all measure, is no number.
_NUMBER = (
    "sum(CASE WHEN json_valid(completion) THEN"
    " max(0, min(1 << 40, coalesce(json_extract(completion, '$.{}'), 0))) ELSE 0 END)"
)
_PER_MODEL = f"""
SELECT model, count(DISTINCT completion.key), count(*), {_NUMBER.format("prompt_tokens")},
  {_NUMBER.format("completion_tokens")}, min(completion.created), max(completion.created)
FROM completion JOIN request USING (key) GROUP BY model ORDER BY model
"""  # noqa: S608 - two constants
_PRUNE = """
DELETE FROM completion WHERE created < ?1
  AND (?2 IS NULL OR key IN (SELECT key FROM request WHERE model = ?2))
  AND (?3 IS NULL OR CASE WHEN json_valid(completion)
    THEN coalesce(json_extract(completion, '$.finish_reason'), 'stop') = ?3 END)
"""
_BATCH = 20_000
"""Completions that ``merge`` commits at a time: this bounds the loss by a kill and the write-ahead log."""
# The completions of a batch that are wanted: rows ?1 < rowid <= ?2 of the other log, of generation ?3 or
# later, and of one of the models in the JSON list ?4 (NULL: any), unless they are damaged. A log of version
# 1 has neither generations nor seals.
_WANTED = """
other.completion AS theirs JOIN other.request AS asked USING (key)
WHERE theirs.rowid > ?1 AND theirs.rowid <= ?2 AND {generation} >= ?3
  AND (?4 IS NULL OR asked.model IN (SELECT value FROM json_each(?4))) AND {sound}
"""
_SEAL = "seal(theirs.key, theirs.sample, CAST(theirs.completion AS BLOB))"
_COLUMNS = {
    1: {"generation": "0", "sound": "json_valid(theirs.completion)"},
    2: {
        "generation": "theirs.generation",
        "sound": f"iif(theirs.seal IS NULL, json_valid(theirs.completion), theirs.seal = {_SEAL})",
    },
}
_COUNT = f"SELECT count(*) FROM {_WANTED}"  # noqa: S608
_DIFFERENT = f"""
SELECT count(*) FROM main.completion AS ours
JOIN (SELECT theirs.* FROM {_WANTED}) AS theirs USING (key, sample)
WHERE ours.completion != theirs.completion
"""  # noqa: S608
_TAKE_REQUESTS = f"""
INSERT OR IGNORE INTO main.request
SELECT DISTINCT asked.key, asked.model, asked.request, asked.created, family(asked.model, asked.request)
FROM {_WANTED} ORDER BY asked.rowid
"""  # noqa: S608
_TAKE = f"""
INSERT INTO main.completion
SELECT theirs.key, theirs.sample, theirs.completion, theirs.created,
  {_SEAL}, iif(?6, {{generation}}, 0)
FROM {_WANTED} ORDER BY theirs.rowid
ON CONFLICT (key, sample) DO UPDATE SET completion = excluded.completion, created = excluded.created,
  seal = excluded.seal, generation = excluded.generation
WHERE completion.generation < ?5 AND excluded.generation >= ?5
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
    with opened(path) as connection:
        models = tuple(ModelStats(*row) for row in connection.execute(_PER_MODEL))
        return LogStats(str(path), _size(path), models)


def prune(
    path: str | Path,
    *,
    older_than: float | None = None,
    model: str | None = None,
    finish: str | None = None,
) -> Pruned:
    """Delete completions written more than ``older_than`` seconds ago, those of ``model``, or those that
    ended for the reason ``finish``; with several, only those to which all apply. Then return the space to
    the file system. ``LogError`` if none is given."""
    path = Path(path)
    if older_than is None and model is None and finish is None:
        raise LogError(
            f"{path}: it is not said which completions to delete.",
            remedy="Add --older-than, --model or --finish.",
        )
    before = float("inf") if older_than is None else time.time() - older_than
    with opened(path) as connection:
        size = _size(path)
        connection.execute("BEGIN IMMEDIATE")
        completions = connection.execute(_PRUNE, (before, model, finish)).rowcount
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
    kin: bool = False,
    since: int = 0,
    replace_before: int = 0,
) -> Merged:
    """Copy the completions of ``logs`` into the log ``out``, which is created if it does not exist.

    If two logs answer one sample differently, the first wins: ``out`` itself, then ``logs`` in the given
    order. What is damaged is not copied. Merging again adds nothing, so an interrupted merge is simply
    repeated. From a log that a run is writing to, the committed completions are copied.

    What is copied counts as older than every fresh run, unless the logs are ``kin`` (parts of one run), whose
    generations mean the same. ``models`` and ``since`` (a generation) restrict what is copied. Of kin, a
    completion in ``out`` is replaced only if it is of a generation before ``replace_before`` and the other is
    not, which is the rule of a fresh run.

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
    with opened(out) as connection:
        connection.create_function("seal", 3, seal, deterministic=True)
        connection.create_function("family", 2, family, deterministic=True)
        for path in paths:
            counts = _merge_one(connection, path, (since, wanted), (replace_before, kin))
            added, present, different = added + counts[0], present + counts[1], different + counts[2]
    return Merged(added, present, different)


def _merge_one(
    connection: sqlite3.Connection, path: Path, what: tuple[int, str | None], how: tuple[int, bool]
) -> tuple[int, int, int]:
    added = seen = different = 0
    try:
        connection.execute("ATTACH ? AS other", (str(path),))
        try:
            columns = _COLUMNS[connection.execute("PRAGMA other.user_version").fetchone()[0]]
            count, differ, requests, take = (
                query.format(**columns) for query in (_COUNT, _DIFFERENT, _TAKE_REQUESTS, _TAKE)
            )
            last = connection.execute("SELECT coalesce(max(rowid), 0) FROM other.completion").fetchone()[0]
            for begin in range(0, last, _BATCH):
                batch = (begin, min(begin + _BATCH, last), *what)
                connection.execute("BEGIN IMMEDIATE")
                seen += connection.execute(count, batch).fetchone()[0]
                different += connection.execute(differ, batch).fetchone()[0]
                connection.execute(requests, batch)
                added += connection.execute(take, (*batch, *how)).rowcount
                connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.execute("DETACH other")
    except sqlite3.Error as error:
        raise log_error(path, error) from error
    return added, seen - added, different


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a log that exists; ``LogError`` for one that does not, and for SQLite's errors."""
    try:
        check_file(path)
    except OSError as error:
        raise os_error(path, error) from error
    try:
        with contextlib.closing(open_log(path)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise log_error(path, error) from error


def _size(path: Path) -> int:
    files = (path, path.with_name(path.name + "-wal"))
    return sum(f.stat().st_size for f in files if f.exists())
