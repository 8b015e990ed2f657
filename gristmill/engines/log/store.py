"""The completion log: every completion ever paid for, in one SQLite file that runs and processes share.

A completion is found by the model, the whole request and the sample's index, so a changed prompt,
model or parameter has another key and an outdated answer is never served. Only ``max_tokens`` is looked at
more closely: an answer that ended by itself serves every limit that it fits in.

A cache library such as diskcache also stores values in SQLite, but commits each on its own: here a commit
is shared by all completions that arrived during the one before, and a put returns only when it is durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from gristmill.core.engine import Completion
from gristmill.core.errors import LogError
from gristmill.engines.log.claims import BEAT_SECONDS, Claims, Place
from gristmill.engines.log.entry import LogKey, family, request_key, seal, written
from gristmill.engines.log.file import BUSY_SECONDS, RERUN, connect, gone, log_error, open_log, patiently
from gristmill.engines.log.lookup import LogReader

__all__ = ["CompletionLog", "LogKey", "request_key"]

_ANY = 1 << 62  # later than every generation: a broken entry is replaced in any run
_CLOSING_SECONDS = 30.0
_POLL_SECONDS = 0.05
_GENERATION = "SELECT value FROM about WHERE name = 'generation'"
_PUT_REQUEST = "INSERT OR IGNORE INTO request VALUES (?, ?, ?, ?, ?)"
_PUT_COMPLETION = (
    "INSERT INTO completion VALUES (?1, ?2, CAST(?3 AS TEXT), ?4, ?5, max(?6, ?8))"
    " ON CONFLICT (key, sample) DO UPDATE SET completion = excluded.completion, created = excluded.created,"
    " seal = excluded.seal, generation = excluded.generation WHERE completion.generation < ?7"
)
_ANY_REQUEST = "SELECT 1 FROM request LIMIT 1"
_MOST_FAMILIES = 100_000


class _Job(NamedTuple):
    """What waits for the next commit: completions to keep, places to claim or to give back. ``done`` gets
    what the log then holds instead of what was put (by sample), or the places that were claimed."""

    done: asyncio.Future[Any] | None = None
    request: tuple[LogKey, float, int] | None = None
    completions: Sequence[tuple[bytes, int, bytes, float, int, int, int]] = ()
    claims: Sequence[Place] = ()
    given_back: Sequence[Place] = ()


class CompletionLog:
    """The log at ``path``, which is created with its directory if it does not exist.

    One thread writes: it takes everything that is waiting, commits it as one transaction and begins again.
    So a completion survives a kill of the process as soon as its put returns (WAL with
    ``synchronous=NORMAL``; a power failure may lose the last commits), and no put waits for a timer. Reads
    happen in the caller's thread. ``LogError`` whenever the file cannot be used; a file that is not a
    completion log is never modified. Another program that keeps the log locked is waited for, up to
    ``busy_seconds``, with warnings that say so.
    """

    def __init__(self, path: str | Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = Path(path)
        self._name = str(self.path)
        self._busy_seconds = busy_seconds
        self._writer = open_log(self.path, busy_seconds)
        self._file = self._identity()
        self._reader = LogReader(connect(self.path, busy_seconds), self.path, busy_seconds)
        self._claims = Claims()
        # The families in the log, while they are few and this run alone has written them; else None.
        self._families: set[int] | None = None
        self._looked = False
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # so that nothing is queued behind the end mark
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="completion-log", daemon=True)
        self._thread.start()

    @property
    def id(self) -> str:
        """A random name that stays the log's own."""
        ((name,),) = self._reader.rows("SELECT value FROM about WHERE name = 'id'")
        return str(name)

    def get(self, key: LogKey, first: int, n: int, read_after: int | None = None) -> dict[int, Completion]:
        """Those of samples ``first .. first + n - 1`` that are in the log (about 10 µs).

        With ``read_after`` only those of that generation or a later one. Where the request itself has no
        answer, one to the same request with another ``max_tokens`` will do, if it ended by itself and fits.
        """
        have = self._reader.own(key, first, n, read_after)
        if len(have) < n and self._may_have(family(key.model, key.request)):
            have = self._reader.related(key, first, n, read_after) | have
        return have

    def _may_have(self, number: int) -> bool:
        """Whether the log may have a request of this family."""
        if not self._looked:
            self._looked = True
            self._families = None if self._reader.rows(_ANY_REQUEST) else set()
        if self._families is not None and (self._claims.shared or len(self._families) > _MOST_FAMILIES):
            self._families = None
        return self._families is None or number in self._families

    def holds(self, models: Collection[str]) -> bool:
        """Whether the log has a request to one of ``models``."""
        marks = ", ".join("?" * len(models))
        query = f"SELECT EXISTS (SELECT 1 FROM request WHERE model IN ({marks}))"  # noqa: S608 - marks alone
        return bool(self._reader.rows(query, tuple(models))[0][0])

    async def put(
        self, key: LogKey, first: int, completions: Sequence[Completion], read_after: int | None = None
    ) -> list[Completion]:
        """Store completions ``first ...`` of a request; returns when they are committed, with what the log
        then holds for them.

        A sample that is already in the log (another run was faster) stays as it is, unless it is broken or of
        a generation before ``read_after``. ``UnicodeEncodeError`` for text with lone surrogates.
        """
        now, after, digest = time.time(), read_after or 0, key.digest
        rows = []
        for sample, completion in enumerate(completions, first):
            text = written(completion)
            replaced = _ANY if (digest, sample) in self._reader.broken else after
            rows.append((digest, sample, text, now, seal(digest, sample, text), after, replaced))
        number = family(key.model, key.request)
        if self._families is not None:
            self._families.add(number)
        held = await self._submit(request=(key, now, number), completions=rows)
        return (
            [held.get(sample, c) for sample, c in enumerate(completions, first)] if held else [*completions]
        )

    async def claim(
        self, key: LogKey, samples: Sequence[int], read_after: int | None = None
    ) -> tuple[list[int], dict[int, Completion]]:
        """Those of ``samples`` that this run is to ask for, and those that the log holds by now.

        While all of them are being asked for by other runs over this log, it waits for their answers or
        their end. ``put`` gives a claim back, and so does ``release``, which must follow if there is no put.
        ``LogError`` if the file at ``path`` is no longer this log, so that nothing is paid for that is lost.
        """
        if self._identity() != self._file:
            raise gone(self.path)
        places = [(key.digest, sample) for sample in samples]
        if not self._claims.shared:
            self._claims.held.update(places)
            if not self._claims.known:
                self._claims.known = True
                self._enqueue(_Job())  # which wakes the writer, to say that this run is there
            return list(samples), {}
        first, n = min(samples), max(samples) - min(samples) + 1
        try:
            while True:
                taken = await self._submit(claims=places)
                have = self.get(key, first, n, read_after)
                found = {i: c for i, c in have.items() if i in samples}
                self.release(key, list(found))
                mine = [i for _, i in taken if i not in found]
                if mine or found:
                    return mine, found
                await asyncio.sleep(_POLL_SECONDS)
        except asyncio.CancelledError:
            self._give_back(places)
            raise

    def release(self, key: LogKey, samples: Sequence[int]) -> None:
        """Let other runs ask for ``samples``, if this run has still claimed them."""
        places = [place for i in samples if (place := (key.digest, i)) in self._claims.held]
        if places:
            self._give_back(places)

    def next_generation(self, since: float | None = None) -> int:
        """Begin a generation: from now on completions are written as of this one. With ``since`` (Unix
        seconds) those written at that time or later are of it too."""
        try:
            with contextlib.closing(connect(self.path, self._busy_seconds)) as connection:
                patiently(self.path, self._busy_seconds, lambda: connection.execute("BEGIN IMMEDIATE"))
                connection.execute("UPDATE about SET value = value + 1 WHERE name = 'generation'")
                number: int = connection.execute(_GENERATION).fetchone()[0]
                if since is not None:
                    connection.execute(
                        "UPDATE completion SET generation = ? WHERE created >= ?", (number, since)
                    )
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise log_error(self.path, error) from error
        return number

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

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._name)  # noqa: PTH116 - before every request, and twice as fast
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _give_back(self, places: Sequence[Place]) -> None:
        self._claims.held.difference_update(places)
        if self._claims.shared:
            with contextlib.suppress(LogError):  # closing gives back everything
                self._enqueue(_Job(given_back=places))

    def _submit(self, **what: Any) -> asyncio.Future[Any]:
        done = asyncio.get_running_loop().create_future()
        self._enqueue(_Job(done, **what))
        return done

    def _enqueue(self, job: _Job) -> None:
        with self._lock:
            if self._closed:
                raise LogError(f"{self.path}: the completion log is closed.", remedy="Open it again.")
            self._queue.put(job)

    def _run(self) -> None:
        jobs: list[_Job] = []
        more = True
        try:
            while more:
                jobs, more = self._next()
                if jobs or self._claims.known:
                    _resolve(jobs, self._commit(jobs))
            with contextlib.suppress(
                sqlite3.Error
            ):  # the claims of a run that has ended expire by themselves
                self._claims.end(self._writer)
        finally:
            with self._lock:
                self._closed = True
            if more:  # this thread itself has failed, and no caller may wait for it forever
                while not self._queue.empty():
                    jobs += self._next()[0]
                _resolve(jobs, LogError(f"{self.path}: the log's writer has failed.", remedy=RERUN))

    def _next(self) -> tuple[list[_Job], bool]:
        """Everything that is waiting, and whether more may come. Nothing, if it is time to say that the run
        lives."""
        waiting: list[_Job | None] = []
        with contextlib.suppress(queue.Empty):
            waiting.append(self._queue.get(timeout=BEAT_SECONDS if self._claims.known else None))
            while True:
                waiting.append(self._queue.get_nowait())
        more = not waiting or waiting[-1] is not None
        return [job for job in waiting if job is not None], more

    def _commit(self, jobs: list[_Job]) -> list[Any] | LogError:
        """Do ``jobs`` in one transaction; what each one's ``done`` gets."""
        writer, closing = self._writer, time.monotonic() + _CLOSING_SECONDS
        try:
            patiently(
                self.path,
                self._busy_seconds,
                lambda: writer.execute("BEGIN IMMEDIATE"),
                lambda: self._closed and time.monotonic() > closing,
            )
            try:
                results = self._write(jobs)
                writer.execute("COMMIT")
            finally:
                if writer.in_transaction:
                    writer.execute("ROLLBACK")
        except sqlite3.Error as error:
            failure = log_error(self.path, error)
            return failure if self._identity() == self._file else gone(self.path)
        except LogError as error:
            return error
        return results if self._identity() == self._file else gone(self.path)

    def _write(self, jobs: list[_Job]) -> list[Any]:
        writer, claims = self._writer, self._claims
        if claims.known:
            claims.refresh(writer)
        requests = [(*key, now, number) for key, now, number in (j.request for j in jobs if j.request)]
        rows = [row for job in jobs for row in job.completions]
        all_kept = True
        if rows:
            generation = writer.execute(_GENERATION).fetchone()[0]
            writer.executemany(_PUT_REQUEST, requests)
            found = writer.executemany(_PUT_COMPLETION, [(*row, generation) for row in rows])
            all_kept = found.rowcount == len(rows)
        results: list[Any] = []
        for job in jobs:
            done = [(row[0], row[1]) for row in job.completions]
            claims.give_back(writer, [*done, *job.given_back])
            claims.held.difference_update(done)
            if job.claims:
                results.append(claims.take(writer, job.claims))
            else:
                results.append(None if all_kept or not done else self._held(job))
        return results

    def _held(self, job: _Job) -> dict[int, Completion]:
        """What the log holds for the completions of a put, in the midst of the writer's transaction."""
        assert job.request is not None
        samples = [row[1] for row in job.completions]
        reader = LogReader(self._writer, self.path, self._busy_seconds)
        return reader.own(job.request[0], min(samples), len(samples), None)


def _resolve(jobs: list[_Job], results: list[Any] | LogError) -> None:
    """Wake all that wait for ``jobs``, with one call into each event loop."""
    error = results if isinstance(results, LogError) else None
    values = [None] * len(jobs) if isinstance(results, LogError) else results
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for job, value in zip(jobs, values, strict=True):
        if job.done is not None:
            by_loop.setdefault(job.done.get_loop(), []).append((job.done, value))
    for loop, settled in by_loop.items():
        with contextlib.suppress(RuntimeError):  # that loop is closed, so nothing waits in it
            loop.call_soon_threadsafe(_settle, settled, error)


def _settle(settled: list[tuple[asyncio.Future[Any], Any]], error: LogError | None) -> None:
    for future, value in settled:
        if not future.done():
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
