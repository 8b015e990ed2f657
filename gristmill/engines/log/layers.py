"""A completion log on top of a snapshot of another: one task's own completions and those paid for before."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import quote

from gristmill.core.engine import Completion
from gristmill.core.errors import LogError
from gristmill.engines.log.entry import LogKey
from gristmill.engines.log.file import BUSY_SECONDS, VERSION, check_file, log_error
from gristmill.engines.log.lookup import LogReader
from gristmill.engines.log.store import CompletionLog


class LayeredLog(CompletionLog):
    """The log at ``path`` that also answers from ``base``, a log that is no longer written to.

    The base is opened as immutable: without locks and without further files next to it, so that any number
    of machines can read one file on a shared file system, which SQLite's write-ahead log does not allow.
    """

    def __init__(
        self, path: str | Path, base: str | Path | None, *, busy_seconds: float = BUSY_SECONDS
    ) -> None:
        self._base = None if base is None else LogReader(_immutable(Path(base)), Path(base))
        super().__init__(path, busy_seconds=busy_seconds)

    def get(self, key: LogKey, first: int, n: int, read_after: int | None = None) -> dict[int, Completion]:
        """The samples of ``first .. first + n - 1`` in either log; of those in both, this log's."""
        if self._base is None:
            return super().get(key, first, n, read_after)
        have = self._reader.own(key, first, n, read_after)
        # In the order in which one log that holds both would be searched.
        for look in (self._base.own, self._base.related, self._reader.related):
            if len(have) < n:
                have = look(key, first, n, read_after) | have
        return have

    def close(self) -> None:
        """Close both logs."""
        super().close()
        if self._base is not None:
            self._base.close()


def _immutable(path: Path) -> sqlite3.Connection:
    check_file(path)
    copy = "Copy it with: gristmill log merge COPY LOG"
    if path.with_name(f"{path.name}-wal").exists():
        raise LogError(
            f"{path}: this log is being written to, or its writer was interrupted, so it is not a snapshot.",
            remedy=copy,
        )
    connection = None
    try:
        uri = f"file:{quote(str(path.absolute()))}?immutable=1"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        raise log_error(path, error) from error
    if version < VERSION:
        connection.close()
        raise LogError(
            f"{path}: this log is of version {version}, which cannot be read as it is.", remedy=copy
        )
    return connection
