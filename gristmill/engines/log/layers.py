"""A completion log on top of a snapshot of another: one task's own completions and those paid for before."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import quote

from gristmill.core.engine import Completion
from gristmill.core.errors import LogError
from gristmill.engines.log.store import BUSY_SECONDS, CompletionLog, LogKey, check_file, log_error, look_up


class LayeredLog(CompletionLog):
    """The log at ``path`` that also answers from ``base``, a log that is no longer written to.

    The base is opened as immutable: without locks and without further files next to it, so that any number
    of machines can read one file on a shared file system, which SQLite's write-ahead log does not allow.
    """

    def __init__(
        self, path: str | Path, base: str | Path | None, *, busy_seconds: float = BUSY_SECONDS
    ) -> None:
        self._base = None if base is None else (_immutable(Path(base)), Path(base))
        super().__init__(path, busy_seconds=busy_seconds)

    def get(self, key: LogKey, first: int, n: int, read_after: float | None = None) -> dict[int, Completion]:
        """The samples of ``first .. first + n - 1`` in either log; of those in both, this log's."""
        have = super().get(key, first, n, read_after)
        if self._base is None or len(have) == n:
            return have
        return look_up(*self._base, key, first, n, read_after) | have

    def close(self) -> None:
        """Close both logs."""
        super().close()
        if self._base is not None:
            self._base[0].close()


def _immutable(path: Path) -> sqlite3.Connection:
    check_file(path)
    if path.with_name(f"{path.name}-wal").exists():
        raise LogError(
            f"{path}: this log is being written to, or its writer was interrupted, so it is not a snapshot.",
            remedy="Copy it with: gristmill log merge COPY LOG",
        )
    connection = None
    try:
        uri = f"file:{quote(str(path.absolute()))}?immutable=1"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error as error:
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        raise log_error(path, error) from error
    return connection
