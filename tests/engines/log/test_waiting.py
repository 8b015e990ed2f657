"""A log that another program has locked, and a file system without locks."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import LogError
from gristmill.engines.log import file
from gristmill.engines.log.store import CompletionLog, request_key

Ask = Callable[..., Request]


@pytest.fixture
def locked(log_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """Another program's transaction, and a log that is soon impatient."""
    monkeypatch.setattr(file, "PATIENCE", 0.02)
    monkeypatch.setattr(file, "_SAY_EVERY", 0.1)
    CompletionLog(log_path).close()
    other = sqlite3.connect(log_path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


def test_a_lock_is_waited_for_with_a_line_that_says_so(
    log_path: Path, ask: Ask, put: Any, locked: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    threading.Timer(0.35, locked.execute, ("ROLLBACK",)).start()
    with CompletionLog(log_path) as log:
        lines = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert 2 <= len(lines) <= 5 and all(
            "another program has the completion log locked" in x for x in lines
        )
        assert str(log_path) in lines[0]
        caplog.clear()
        locked.execute("BEGIN IMMEDIATE")
        threading.Timer(0.15, locked.execute, ("ROLLBACK",)).start()
        put(log, ask(), "kept")
        assert [r.levelno for r in caplog.records][:1] == [logging.WARNING]


def test_a_program_that_keeps_the_lock_for_ever_does_not_keep_a_run_from_ending(
    log_path: Path, locked: sqlite3.Connection, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gristmill.engines.log.store._CLOSING_SECONDS", 0.1)
    locked.execute("ROLLBACK")

    async def main() -> None:
        log = CompletionLog(log_path)
        locked.execute("BEGIN IMMEDIATE")
        put = asyncio.ensure_future(log.put(request_key("m", ask()), 0, [Completion("lost")]))
        await asyncio.sleep(0)
        await asyncio.to_thread(log.close)
        with pytest.raises(LogError, match=r"kept the log locked for 0\.1"):
            await put

    asyncio.run(main())


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_told(
    log_path: Path, locked: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """SQLite takes ENOLCK for a lock of another program; there is one here, so that it is met."""

    def no_locks(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    with pytest.raises(LogError, match=r"the file system has no locks.*Put the log on a local disk"):
        CompletionLog(log_path)
