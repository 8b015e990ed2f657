"""``gristmill log check`` and ``repair``: what is damaged in a log, and a log of everything that is not.

SQLite's own recovery is a program beside the library (``sqlite3 LOG .recover``), which many machines lack and
which knows nothing of seals.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from gristmill.core.errors import LogError
from gristmill.engines.log.entry import family, read, seal
from gristmill.engines.log.file import check_file, connect, log_error, open_log, os_error
from gristmill.engines.log.transfer import sound_request

_SHOWN = 10
_STEP = 1024
_LEAST_ROW = 40  # bytes that no row goes below
_INSERT_REQUEST = "INSERT OR IGNORE INTO request VALUES (?, ?, ?, ?, ?)"
_INSERT_COMPLETION = "INSERT OR IGNORE INTO completion VALUES (?, ?, CAST(? AS TEXT), ?, ?, ?)"


class Damage(Struct, frozen=True):
    """A damaged completion: its key in hexadecimal, and its sample."""

    key: str
    sample: int


class Checked(Struct, frozen=True):
    """What ``check`` found.

    ``completions`` are sound, ``unsealed`` of them older than checksums (only readable is known of them).
    ``damaged`` completions do not fit their checksums, the first of them in ``shown``; ``unreadable`` row
    numbers lie where SQLite cannot read; ``requests`` are damaged texts of requests. ``structure`` has what
    SQLite says about its file.
    """

    completions: int
    unsealed: int
    damaged: int
    unreadable: int
    requests: int
    shown: tuple[Damage, ...]
    structure: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged."""
        return not (self.damaged or self.unreadable or self.requests or self.structure)


class Repaired(Struct, frozen=True):
    """What ``repair`` did: completions ``kept`` and ``lost`` (damaged or unreadable), requests whose texts
    are lost (their answers are kept), and the ``copy`` of the log as it was; empty if there was nothing to
    do."""

    kept: int
    lost: int
    requests: int
    copy: str


def check(path: str | Path) -> Checked:
    """Read the whole log, compare every completion with its checksum and every request with its key. Changes
    nothing. ``LogError`` for a file that is not a log, or so damaged that it has no tables."""
    with _Damaged(Path(path)) as log:
        return log.check()


def repair(path: str | Path) -> Repaired:
    """Put a log of everything that is sound in the place of the one at ``path``, which is kept beside it as
    ``PATH.damaged``. Nothing is done to a log that is sound and sealed throughout.

    ``LogError`` as ``check``, and while another program uses the log.
    """
    path = Path(path)
    new, copy = (path.with_name(path.name + suffix) for suffix in (".new", ".damaged"))
    with _Damaged(path, alone=True) as log:
        found = log.check()
        if found.sound and not found.unsealed:
            return Repaired(found.completions, 0, 0, "")
        if copy.exists():
            raise LogError(
                f"{copy}: this copy of an earlier repair is still there.",
                remedy="Move it away, then repair again.",
            )
        new.unlink(missing_ok=True)
        log.copy_to(new)
    try:
        try:
            os.link(path, copy)  # so that there is a log at every moment
        except OSError:
            shutil.copy2(path, copy)
        for suffix in ("-wal", "-shm"):  # left where SQLite could not write them back
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).replace(copy.with_name(copy.name + suffix))
        new.replace(path)
    except OSError as error:
        raise os_error(path, error) from error
    return Repaired(found.completions, found.damaged + found.unreadable, found.requests, str(copy))


class _Damaged:
    """A log that may be damaged: one state of it or, if ``alone``, held so that nobody else uses it."""

    def __init__(self, path: Path, *, alone: bool = False) -> None:
        try:
            check_file(path, whole=False)
        except OSError as error:
            raise os_error(path, error) from error
        self._path = path
        self._alone = alone
        self._unreadable = 0

    def __enter__(self) -> _Damaged:
        self._log = connect(self._path)
        try:
            self._log.execute("PRAGMA writable_schema = ON")  # without which a truncated file is not opened
            if self._alone:
                self._log.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._log.execute("BEGIN EXCLUSIVE" if self._alone else "BEGIN")
            columns = {row[1] for row in self._log.execute("PRAGMA table_info(completion)")}
        except sqlite3.Error as error:
            self._log.close()
            raise log_error(self._path, error) from error
        if not columns:
            self._log.close()
            raise LogError(
                f"{self._path}: the log is so damaged that it has no tables.",
                remedy="Restore it from a copy, or move it away: the next run begins a new one.",
            )
        self._extra = "seal, generation" if "seal" in columns else "NULL, 0"
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()

    def check(self) -> Checked:
        """See the function of this name."""
        sound = unsealed = damaged = requests = 0
        shown: list[Damage] = []
        for key, sample, text, _, sealed, _ in self._completions():
            if not _is_place(key, sample) or read(key, sample, text, sealed) is None:
                damaged += 1
                if _is_place(key, sample) and len(shown) < _SHOWN:
                    shown.append(Damage(key.hex(), sample))
            else:
                sound += 1
                unsealed += sealed is None
        for key, model, request, _ in self._requests():
            requests += not sound_request(key, model, request)
        try:
            found = [row[0] for row in self._log.execute(f"PRAGMA integrity_check({_SHOWN})")]
        except sqlite3.Error as error:
            found = [str(error)]
        structure = () if found == ["ok"] else tuple(found)
        return Checked(sound, unsealed, damaged, self._unreadable, requests, tuple(shown), structure)

    def copy_to(self, new: Path) -> None:
        """Write what is sound to the log ``new``."""
        with contextlib.closing(open_log(new)) as out:
            out.execute("BEGIN")
            with contextlib.suppress(sqlite3.Error):  # it is a new log then, as for who looks for its name
                about = self._log.execute("SELECT name, value FROM about").fetchall()
                out.executemany("UPDATE about SET value = ?2 WHERE name = ?1", about)
            for key, model, request, created in self._requests():
                if sound_request(key, model, request):
                    texts = (model.decode(), request.decode())
                    out.execute(_INSERT_REQUEST, (key, *texts, created, family(*texts)))
            for key, sample, text, created, sealed, generation in self._completions():
                if _is_place(key, sample) and read(key, sample, text, sealed) is not None:
                    row = (key, sample, text, created, seal(key, sample, text), generation)
                    out.execute(_INSERT_COMPLETION, row)
            out.execute("COMMIT")

    def _completions(self) -> Iterator[tuple[bytes, int, bytes, float, int | None, int]]:
        return self._rows("completion", f"key, sample, CAST(completion AS BLOB), created, {self._extra}")

    def _requests(self) -> Iterator[tuple[bytes, bytes, bytes, float]]:
        return self._rows("request", "key, CAST(model AS BLOB), CAST(request AS BLOB), created")

    def _rows(self, table: str, columns: str) -> Iterator[Any]:
        """The rows of a table that SQLite can read. Where it cannot, the range is halved until the row is
        found; ``_unreadable`` counts them for the completions."""
        query = f"SELECT {columns} FROM {table} WHERE rowid BETWEEN ? AND ? ORDER BY rowid"  # noqa: S608
        last = self._last(table)
        ranges = [(at, min(at + _STEP - 1, last)) for at in range(1, last + 1, _STEP)][::-1]
        unreadable = 0
        while ranges:
            first, end = ranges.pop()
            try:
                found = self._log.execute(query, (first, end)).fetchall()
            except sqlite3.DatabaseError:
                if first == end:
                    unreadable += 1
                else:
                    middle = (first + end) // 2
                    ranges += [(middle + 1, end), (first, middle)]
                continue
            yield from found
        if table == "completion":
            self._unreadable = unreadable

    def _last(self, table: str) -> int:
        """The last row number, or more where it cannot be read."""
        try:
            return self._number(f"SELECT coalesce(max(rowid), 0) FROM {table}")  # noqa: S608
        except sqlite3.DatabaseError:
            with contextlib.suppress(sqlite3.DatabaseError):
                index = f"sqlite_autoindex_{table}_1"
                return self._number(f"SELECT coalesce(max(rowid), 0) FROM {table} INDEXED BY {index}")  # noqa: S608
            return self._path.stat().st_size // _LEAST_ROW

    def _number(self, query: str) -> int:
        found: int = self._log.execute(query).fetchone()[0]
        return found


def _is_place(key: object, sample: object) -> bool:
    return isinstance(key, bytes) and len(key) == 16 and isinstance(sample, int) and sample >= 0
