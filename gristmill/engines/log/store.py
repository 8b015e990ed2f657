"""The completion log: every completion ever paid for, in one SQLite file that runs and processes share.

A completion is found by the model, the whole request and the sample's index, so a changed prompt,
model or parameter has another key and an outdated answer is never served. Both tables are ordinary rowid
tables with an index on the key: for rows of about a kilobyte under random keys this takes a third of the
processor time and 40 % of the bytes written, compared with ``WITHOUT ROWID`` (5,000 rows in commits of 32).

A cache library such as diskcache also stores values in SQLite, but commits each on its own: here a commit
is shared by all completions that arrived during the one before, and a put returns only when it is durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import queue
import sqlite3
import struct
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import LogError

APPLICATION_ID = 0x67726D6C
"""``grml``, in the SQLite header."""
VERSION = 1
BUSY_SECONDS = 30.0
"""Seconds to wait for another program that keeps the log locked."""
_HEADER = 100
_MAGIC = b"SQLite format 3\x00"
_CHECKPOINT_PAGES = 8192  # 32 MB: a checkpoint waits for the disk, and every request with it

_SCHEMA = (
    "CREATE TABLE request (key BLOB PRIMARY KEY, model TEXT NOT NULL, request TEXT NOT NULL,"
    " created REAL NOT NULL)",
    "CREATE TABLE completion (key BLOB NOT NULL, sample INTEGER NOT NULL, completion TEXT NOT NULL,"
    " created REAL NOT NULL, PRIMARY KEY (key, sample))",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)
_IDENTITY = ("application_id", "user_version")
_PUT_REQUEST = "INSERT OR IGNORE INTO request VALUES (?, ?, ?, ?)"
_PUT_COMPLETION = (
    "INSERT INTO completion VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key, sample) DO UPDATE"
    " SET completion = excluded.completion, created = excluded.created WHERE completion.created < ?5"
)
_RERUN = "Run the same command again; every completion paid for so far is in the log."
_OTHER_PATH = "It was not changed. Give another path for the log, or move the file away."
_GET = (
    "SELECT sample, completion FROM completion WHERE key = ? AND sample >= ? AND sample < ? AND created >= ?"
)

_encode = msgspec.json.Encoder().encode
_decode_completion = msgspec.json.Decoder(Completion).decode


class LogKey(NamedTuple):
    """What finds a completion, with its sample index: a 16-byte digest and the texts that it is made of."""

    digest: bytes
    model: str
    request: str


def request_key(model: str, request: Request) -> LogKey:
    """The key of a request: BLAKE2b-128 of the JSON of ``[model, request]`` in the order of the fields.

    ``UnicodeEncodeError`` for text with lone surrogates, which cannot be sent as JSON either.
    """
    body = _encode(request)
    digest = hashlib.blake2b(b"[%b,%b]" % (_encode(model), body), digest_size=16).digest()
    return LogKey(digest, model, body.decode())


class _Put(NamedTuple):
    done: asyncio.Future[None]
    request: tuple[bytes, str, str, float]
    completions: list[tuple[bytes, int, str, float, float]]


class CompletionLog:
    """The log at ``path``, which is created with its directory if it does not exist.

    One thread writes: it takes everything that is waiting, commits it as one transaction and begins again.
    So a completion survives a kill of the process as soon as its put returns (WAL with
    ``synchronous=NORMAL``; a power failure may lose the last commits), and no put waits for a timer. Reads
    happen in the caller's thread. ``LogError`` whenever the file cannot be used; a file that is not a
    completion log is never modified.
    """

    def __init__(self, path: str | Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = Path(path)
        self._busy_seconds = busy_seconds
        self._writer = _open(self.path, busy_seconds)
        self._reader = connect(self.path, busy_seconds)
        self._queue: queue.SimpleQueue[_Put | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # so that nothing is queued behind the end mark
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="completion-log", daemon=True)
        self._thread.start()

    def get(self, key: LogKey, first: int, n: int, read_after: float | None = None) -> dict[int, Completion]:
        """Those of samples ``first .. first + n - 1`` that are in the log (about 20 µs).

        With ``read_after`` (Unix seconds) only those written at that time or later.
        """
        return look_up(self._reader, self.path, key, first, n, read_after, self._busy_seconds)

    async def put(
        self, key: LogKey, first: int, completions: Sequence[Completion], read_after: float | None = None
    ) -> None:
        """Store completions ``first ...`` of a request; returns when they are committed.

        A sample that is already in the log stays as it is, unless it is older than ``read_after``.
        ``UnicodeEncodeError`` for text with lone surrogates.
        """
        now = time.time()
        rows = [
            (key.digest, first + i, _encode(c).decode(), now, read_after or 0.0)
            for i, c in enumerate(completions)
        ]
        done = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._closed:
                raise LogError(f"{self.path}: the completion log is closed.", remedy="Open it again.")
            self._queue.put(_Put(done, (*key, now), rows))
        await done

    def close(self) -> None:
        """Write what is queued, and close the file. Further calls do nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()
        self._reader.close()
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        puts: list[_Put] = []
        try:
            more = True
            while more:
                puts, more = self._next()
                if puts:
                    _resolve(puts, self._commit(puts))
        finally:
            with self._lock:
                self._closed = True
            if more:  # this thread itself has failed, and no caller may wait for it forever
                while not self._queue.empty():
                    puts += self._next()[0]
                _resolve(puts, LogError(f"{self.path}: the log's writer has failed.", remedy=_RERUN))

    def _next(self) -> tuple[list[_Put], bool]:
        """Everything that is waiting (at least one put), and whether more may come."""
        waiting = [self._queue.get()]
        try:
            while True:
                waiting.append(self._queue.get_nowait())
        except queue.Empty:
            return [put for put in waiting if put is not None], waiting[-1] is not None

    def _commit(self, puts: list[_Put]) -> LogError | None:
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                self._writer.executemany(_PUT_REQUEST, [put.request for put in puts])
                self._writer.executemany(_PUT_COMPLETION, [row for put in puts for row in put.completions])
                self._writer.execute("COMMIT")
            finally:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
        except sqlite3.Error as error:
            return log_error(self.path, error, self._busy_seconds)
        return None


def look_up(
    connection: sqlite3.Connection,
    path: Path,
    key: LogKey,
    first: int,
    n: int,
    read_after: float | None = None,
    busy_seconds: float = BUSY_SECONDS,
) -> dict[int, Completion]:
    """What ``CompletionLog.get`` returns, from an open connection to the log at ``path``."""
    try:
        rows = connection.execute(_GET, (key.digest, first, first + n, read_after or 0.0)).fetchall()
        return {sample: _decode_completion(text) for sample, text in rows}
    except sqlite3.Error as error:
        raise log_error(path, error, busy_seconds) from error
    except msgspec.DecodeError as error:
        raise LogError(
            f"{path}: the completion under key {key.digest.hex()} cannot be read: {error}.",
            remedy=f"Move the file away (mv {path} {path}.bad) and run again.",
        ) from error


def _resolve(puts: list[_Put], error: LogError | None) -> None:
    """Wake all that wait for ``puts``, with one call into each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for put in puts:
        by_loop.setdefault(put.done.get_loop(), []).append(put.done)
    for loop, futures in by_loop.items():
        with contextlib.suppress(RuntimeError):  # that loop is closed, so nothing waits in it
            loop.call_soon_threadsafe(_settle, futures, error)


def _settle(futures: list[asyncio.Future[None]], error: LogError | None) -> None:
    for future in futures:
        if not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)


def _open(path: Path, busy_seconds: float) -> sqlite3.Connection:
    """A connection for writing to the log at ``path``, which is created if it does not exist."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_file(path, new_is_fine=True)
    except OSError as error:
        raise os_error(path, error) from error
    connection: sqlite3.Connection | None = None
    try:
        connection = connect(path, busy_seconds)
        connection.execute("BEGIN IMMEDIATE")
        # In a rollback journal, so that a kill in the middle leaves an empty file and not half a log.
        if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.execute("COMMIT")
        _check_identity(path, *(connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _IDENTITY))
        _to_wal(connection, busy_seconds)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        opened, connection = connection, None
    except sqlite3.Error as error:
        raise log_error(path, error, busy_seconds) from error
    finally:
        if connection is not None:
            connection.close()
    return opened


def _to_wal(connection: sqlite3.Connection, busy_seconds: float) -> None:
    """Switch to WAL. While another process does the same, SQLite reports "busy" without waiting."""
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def connect(path: Path, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """A connection without implicit transactions."""
    return sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)


def check_file(path: Path, *, new_is_fine: bool = False) -> None:
    """Raise ``LogError`` for a file that is not a completion log or not a complete one. Only reads.

    SQLite itself would begin to write into another application's database and create ``-wal`` files next to
    it, so the header is read here. ``OSError`` if the file cannot be read.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except FileNotFoundError:
        if new_is_fine:
            return
        raise LogError(
            f"{path}: this completion log does not exist.", remedy="Give the path of a log with --log."
        ) from None
    if not header and new_is_fine:
        return
    if not header.startswith(_MAGIC):
        raise LogError(
            f"{path}: this file is not an SQLite database, so it is not a completion log.", remedy=_OTHER_PATH
        )
    if len(header) < _HEADER:
        raise _torn(path, size, _HEADER)
    user_version, application_id = struct.unpack_from(">I4xI", header, 60)
    _check_identity(path, application_id, user_version)
    page_size, pages = struct.unpack_from(">H10xI", header, 16)
    whole = (65536 if page_size == 1 else page_size) * pages
    # With a journal next to it the file may be shorter than its header says: SQLite will complete it.
    journals = [path.with_name(path.name + suffix) for suffix in ("-wal", "-journal")]
    if size < whole and not any(j.exists() for j in journals):
        size = path.stat().st_size  # the journal's owner may have completed the file just now
        if size < whole:
            raise _torn(path, size, whole)


def _check_identity(path: Path, application_id: int, version: int) -> None:
    if application_id != APPLICATION_ID:
        raise LogError(
            f"{path}: this SQLite file belongs to another application (application id {application_id:#x}, "
            f"not {APPLICATION_ID:#x}).",
            remedy=_OTHER_PATH,
        )
    if version != VERSION:
        raise LogError(
            f"{path}: this log has version {version}, but this Gristmill reads version {VERSION}.",
            remedy="Update Gristmill (pip install -U gristmill), or give another path.",
        )


def _torn(path: Path, size: int, whole: int) -> LogError:
    return LogError(
        f"{path}: the log is truncated: it has {size} of {whole} bytes. It was not changed.",
        remedy=f"Restore it from a copy; or save what is left (sqlite3 {path} .recover), move it away "
        f"(mv {path} {path}.torn) and run again, which starts a new log.",
    )


def os_error(path: Path, error: OSError) -> LogError:
    """The operating system's error about ``path`` as a ``LogError``."""
    return LogError(
        f"{path}: cannot use this completion log: {error.strerror or error}.",
        remedy="Check the permissions of the file and its directory (ls -l), or give another path.",
    )


_REMEDIES = {
    "SQLITE_FULL": "The disk is full: free some space and run the same command again.",
    "SQLITE_IOERR": "The disk failed or is full (df -h): fix that and run the same command again.",
    "SQLITE_READONLY": "Make the file and its directory writable, or give another path.",
    "SQLITE_CANTOPEN": "Make the file and its directory readable and writable, or give another path.",
    "SQLITE_CORRUPT": "Restore it from a copy, or move it away and run again, which starts a new log.",
    "SQLITE_NOTADB": "Give another path; this file was not changed.",
}


def log_error(path: Path, error: sqlite3.Error, busy_seconds: float = BUSY_SECONDS) -> LogError:
    """SQLite's error as a ``LogError`` that says what to do about it."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return LogError(
            f"{path}: another program has kept the log locked for {busy_seconds:g} s.",
            remedy=f"End that program (fuser {path} shows it) and run the same command again.",
        )
    remedy = next((text for code, text in _REMEDIES.items() if name.startswith(code)), "")
    return LogError(
        f"{path}: the completion log cannot be used: {error} ({name or type(error).__name__}).",
        remedy=remedy or _RERUN,
    )
