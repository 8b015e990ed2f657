"""The file of a completion log: its tables, how it is opened, waited for and recognised, and what can go
wrong.

Both large tables are ordinary rowid tables with an index on the key: for rows of about a kilobyte under
random keys this takes a third of the processor time and 40 % of the bytes written, compared with ``WITHOUT
ROWID`` (5,000 rows in commits of 32).
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import sqlite3
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gristmill.core.errors import LogError
from gristmill.engines.log.entry import family

APPLICATION_ID = 0x67726D6C
"""``grml``, in the SQLite header."""
VERSION = 2
BUSY_SECONDS = 3600.0
"""Seconds to wait for another program that keeps the log locked."""
PATIENCE = 2.0
"""Seconds that SQLite waits by itself, during which Python cannot be interrupted."""
_OLDEST = 1
_SAY_EVERY = 30.0
_HEADER = 100
_MAGIC = b"SQLite format 3\x00"
_CHECKPOINT_PAGES = 8192  # 32 MB: a checkpoint waits for the disk, and every request with it

# Version 1 had neither the last column of ``request``, the last two of ``completion``, nor the other tables.
_NEW_IN_2 = (
    "CREATE INDEX request_family ON request (family)",
    "CREATE TABLE about (name TEXT PRIMARY KEY, value)",
    "CREATE TABLE owner (id INTEGER PRIMARY KEY, seen REAL NOT NULL, pid INTEGER NOT NULL,"
    " place TEXT NOT NULL)",
    "CREATE TABLE claim (key BLOB NOT NULL, sample INTEGER NOT NULL, owner INTEGER NOT NULL,"
    " PRIMARY KEY (key, sample)) WITHOUT ROWID",
    "INSERT INTO about VALUES ('id', ?), ('generation', 0)",
    f"PRAGMA user_version = {VERSION}",
)
_SCHEMA = (
    "CREATE TABLE request (key BLOB PRIMARY KEY, model TEXT NOT NULL, request TEXT NOT NULL,"
    " created REAL NOT NULL, family INTEGER)",
    "CREATE TABLE completion (key BLOB NOT NULL, sample INTEGER NOT NULL, completion TEXT NOT NULL,"
    " created REAL NOT NULL, seal INTEGER, generation INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (key, sample))",
    f"PRAGMA application_id = {APPLICATION_ID}",
    *_NEW_IN_2,
)
_FROM_1 = (
    "ALTER TABLE request ADD COLUMN family INTEGER",
    "ALTER TABLE completion ADD COLUMN seal INTEGER",
    "ALTER TABLE completion ADD COLUMN generation INTEGER NOT NULL DEFAULT 0",
    "UPDATE request SET family = family(model, request)",
    *_NEW_IN_2,
)
_OTHER_PATH = "It was not changed. Give another path for the log, or move the file away."
RERUN = "Run the same command again; every completion paid for so far is in the log."

_logger = logging.getLogger(__name__)
T = TypeVar("T")


def open_log(path: Path, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """A connection for writing to the log at ``path``, which is created if it does not exist, and brought to
    this version (in one transaction) if it is of an earlier one. ``LogError`` if it cannot be used."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_file(path, new_is_fine=True)
    except OSError as error:
        raise os_error(path, error) from error
    connection: sqlite3.Connection | None = None
    try:
        connection = connect(path, busy_seconds)
        _prepare(connection, path, busy_seconds)
        opened, connection = connection, None
    except sqlite3.Error as error:
        raise log_error(path, error) from error
    finally:
        if connection is not None:
            connection.close()
    return opened


def _prepare(connection: sqlite3.Connection, path: Path, busy_seconds: float) -> None:
    connection.create_function("family", 2, family, deterministic=True)
    patiently(path, busy_seconds, lambda: connection.execute("BEGIN IMMEDIATE"))
    # In a rollback journal, so that a kill in the middle leaves an empty file and not half a log.
    if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        _change(connection, _SCHEMA)
    application_id, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    _check_identity(path, application_id, version)
    if version < VERSION:
        _logger.info("%s: bringing the completion log from version %d to %d", path, version, VERSION)
        _change(connection, _FROM_1)
    connection.execute("COMMIT")
    # While another process does the same, SQLite reports "busy" without waiting.
    patiently(path, busy_seconds, lambda: connection.execute("PRAGMA journal_mode = WAL"))
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")


def _change(connection: sqlite3.Connection, statements: tuple[str, ...]) -> None:
    for statement in statements:
        connection.execute(statement, (secrets.token_hex(8),) if "?" in statement else ())


def connect(path: Path, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """A connection without implicit transactions."""
    timeout = min(busy_seconds, PATIENCE)
    return sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)


def patiently(
    path: Path, busy_seconds: float, act: Callable[[], T], ends: Callable[[], bool] = lambda: False
) -> T:
    """What ``act`` returns, tried again while another program keeps the log locked, with a warning at once
    and every 30 seconds. ``LogError`` after ``busy_seconds``, or as soon as ``ends`` says so."""
    began = time.monotonic()
    next_word = began
    while True:
        try:
            return act()
        except sqlite3.OperationalError as error:
            now = time.monotonic()
            if not is_busy(error):
                raise
            if now - began >= busy_seconds or ends():
                raise _locked(path, now - began) from error
            if now >= next_word and now - began >= min(PATIENCE, busy_seconds / 2):
                _check_locks(path)
                next_word = now + _SAY_EVERY
                _logger.warning(
                    "%s: another program has the completion log locked; waiting for it since %d s "
                    "(fuser %s shows it).",
                    path,
                    now - began,
                    path,
                )
            time.sleep(0.01)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether SQLite's error is that another program has the log locked."""
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _check_locks(path: Path) -> None:
    """``LogError`` on a file system without locks, which SQLite takes for a lock that another program holds.

    It is tried on another file: closing a file gives back all locks that the process has on it.
    """
    try:
        with tempfile.TemporaryFile(dir=path.parent) as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise LogError(
                f"{path}: the file system has no locks ({os.strerror(error.errno)}), which a completion log "
                "needs.",
                remedy="Put the log on a local disk with --log PATH (or $GRISTMILL_LOG), or mount the file "
                "system with locks.",
            ) from error


def check_file(path: Path, *, new_is_fine: bool = False, whole: bool = True) -> None:
    """Raise ``LogError`` for a file that is not a completion log or (if ``whole``) not a complete one. Only
    reads.

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
    expected = (65536 if page_size == 1 else page_size) * pages
    # With a journal next to it the file may be shorter than its header says: SQLite will complete it.
    journals = [path.with_name(path.name + suffix) for suffix in ("-wal", "-journal")]
    if whole and size < expected and not any(j.exists() for j in journals):
        size = path.stat().st_size  # the journal's owner may have completed the file just now
        if size < expected:
            raise _torn(path, size, expected)


def _check_identity(path: Path, application_id: int, version: int) -> None:
    if application_id != APPLICATION_ID:
        raise LogError(
            f"{path}: this SQLite file belongs to another application (application id {application_id:#x}, "
            f"not {APPLICATION_ID:#x}).",
            remedy=_OTHER_PATH,
        )
    if not _OLDEST <= version <= VERSION:
        raise LogError(
            f"{path}: this log has version {version}, but this Gristmill reads {_OLDEST} to {VERSION}.",
            remedy="Update Gristmill (pip install -U gristmill), or give another path.",
        )


def _torn(path: Path, size: int, whole: int) -> LogError:
    return LogError(
        f"{path}: the log is truncated: it has {size} of {whole} bytes. It was not changed.",
        remedy=f"Restore it from a copy, or keep what can still be read: gristmill log repair --log {path}",
    )


def gone(path: Path) -> LogError:
    """The error for a log whose file is no longer the one that was opened."""
    return LogError(
        f"{path}: the completion log was deleted, renamed or replaced while it was in use, so nothing "
        "more is paid for.",
        remedy="Put the file back, then run the same command again; without it every completion is paid for "
        "anew.",
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
    "SQLITE_CORRUPT": "Keep what can still be read: gristmill log repair --log {path}",
    "SQLITE_NOTADB": "Give another path; this file was not changed.",
}


def _locked(path: Path, seconds: float) -> LogError:
    return LogError(
        f"{path}: another program has kept the log locked for {seconds:.1f} s.",
        remedy=f"End that program (fuser {path} shows it) and run the same command again.",
    )


def log_error(path: Path, error: sqlite3.Error) -> LogError:
    """SQLite's error as a ``LogError`` that says what to do about it."""
    name = getattr(error, "sqlite_errorname", "")
    if is_busy(error):
        return _locked(path, PATIENCE)
    remedy = next((text for code, text in _REMEDIES.items() if name.startswith(code)), "")
    return LogError(
        f"{path}: the completion log cannot be used: {error} ({name or type(error).__name__}).",
        remedy=remedy.format(path=path) or RERUN,
    )
