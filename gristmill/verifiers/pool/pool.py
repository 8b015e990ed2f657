"""Verifiers in worker processes that are killed at a hard deadline and replaced.

A verdict must not depend on what else the machine does: the deadline is one of processor time, kept by the
kernel, and a call whose worker was killed is made once more.

What can hang runs here: never on ``SIGALRM`` in our own process, never in an abandoned thread. POSIX only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.machine import cores
from gristmill.core.registry import locate
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.verifiers.guard import failure
from gristmill.verifiers.pool.memo import SIZE, Memo
from gristmill.verifiers.pool.worker import OUT_OF_MEMORY, receive, send

START_LIMIT = 60.0
"""Seconds that a worker may take to import its verifier."""
_START_TRIES = 3
WALL = 30.0
"""How many deadlines a call may take by the clock: far more than a busy machine makes of one."""
_GRACE = 1.0
"""Seconds past the wall limit after which a worker ends itself, its parent having been killed."""
# A verifier needs no secrets, so the environment is passed on by name.
_PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


class Pool:
    """A verifier in ``workers`` processes (default: one a core, at most 4), started at the first call.

    ``verifier`` is a registered name or ``MODULE:OBJECT``, made with ``options`` if it has any. Callers,
    from any thread or event loop, are served first come, first served. A call that takes more than
    ``deadline`` seconds of its worker's processor time ends in a ``timeout`` verdict, and so does one that
    waits, without computing, for more than ``wall`` seconds (default: ``WALL`` deadlines) from the moment a
    worker has it. A worker that needs more than ``memory_mb`` MiB of address space, or ends itself, makes it
    an ``error`` verdict. A call whose worker is ended by a signal is made once more, since that may have come
    from outside; the second time it is an ``error`` too. In any case the worker is replaced and the others
    go on. A verifier that cannot be started at all is a ``RecipeError`` to every caller.

    A verifier is a function of its arguments, so the last ``memo`` verdicts (but no ``timeout`` and no
    ``error``) are kept here and a call made again is answered at once. 0 keeps none, for a verifier that is
    not such a function.
    """

    def __init__(
        self,
        verifier: str = "math",
        *,
        workers: int | None = None,
        deadline: float = 2.0,
        wall: float | None = None,
        memory_mb: int = 1024,
        options: Mapping[str, Any] | None = None,
        memo: int = SIZE,
    ) -> None:
        self._memo = Memo(memo)
        self._options = msgspec.json.encode(options or {}).decode()
        self._verifier = verifier
        self._target = verifier if ":" in verifier else locate("verifiers", verifier)
        self._size = workers if workers is not None else min(cores(), 4)
        self._deadline = deadline
        self._wall = WALL * deadline if wall is None else wall
        self._memory_mb = memory_mb
        limits = {"workers": self._size, "deadline": deadline, "wall": self._wall, "memory_mb": memory_mb}
        for name, value in limits.items():
            if not value > 0:
                raise RecipeError(f"verifier: {name} is {value}.", remedy="Give a number above 0.")
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # over the four below, and held while a process is started
        self._threads: list[threading.Thread] = []
        self._workers: set[_Worker] = set()
        self._broken: GristmillError | None = None

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that now exist."""
        with self._lock:
            return sorted(worker.process.pid for worker in self._workers)

    def verify(self, completion: str, reference: str) -> Verdict:
        """Judge ``completion`` against ``reference``; blocks until the verdict is there."""
        return self.submit(completion, reference).result()

    async def averify(self, completion: str, reference: str) -> Verdict:
        """Like ``verify``, without blocking the event loop. It may be cancelled at any moment."""
        return await asyncio.wrap_future(self.submit(completion, reference))

    def submit(self, *args: Any) -> Future[Verdict]:
        """Queue a call of the verifier with ``args`` (plain values that MessagePack can hold)."""
        message = _encode(args)
        known = self._recall(message)
        if known is None:
            return self._queue(message)
        future: Future[Verdict] = Future()
        future.set_result(known)
        return future

    def verdicts(self, calls: Iterable[Sequence[Any]]) -> list[Verdict]:
        """The verdicts on many calls, in order; blocks until all are there. The fastest way to have them."""
        found = [
            self._recall(message) or self._queue(message)
            for message in (_encode(tuple(args)) for args in calls)
        ]
        return [f if isinstance(f, Verdict) else f.result() for f in found]

    def _recall(self, message: bytes) -> Verdict | None:
        return None if self._broken is not None else self._memo.get(message)

    def _queue(self, message: bytes) -> Future[Verdict]:
        job = _Job(message)
        with self._lock:
            if self._broken is not None:
                raise self._broken
            if not self._threads:
                self._start_threads()
            self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """End the workers. Calls that are queued or running raise ``GristmillError``."""
        self._break(GristmillError("the verifier pool is closed.", remedy="Open a new Pool."))
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_threads(self) -> None:
        for i in range(self._size):
            thread = threading.Thread(target=self._supervise, name=f"gristmill-verifier-{i}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _break(self, error: GristmillError) -> None:
        """Let every call, queued, running or to come, raise ``error``, and the supervisors end."""
        with self._lock:
            self._broken = self._broken or error
            # Shut, not killed: each process is killed and reaped by the one thread that started it.
            for worker in self._workers:
                worker.shut()
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None and job.future.set_running_or_notify_cancel():
                    job.future.set_exception(self._broken)
        for _ in self._threads:
            self._jobs.put(None)

    def _supervise(self) -> None:
        """The life of one supervisor thread: keep one worker running and hand it one call at a time."""
        worker: _Worker | None = None
        job: _Job | None = None
        try:
            worker = self._start()
            while (job := self._jobs.get()) is not None:
                if not job.future.set_running_or_notify_cancel():
                    continue
                if not worker.alive():  # it died idle, which is not this call's fault
                    self._retire(worker)
                    worker = self._start()
                verdict = worker.call(job.message, self._wall)
                if verdict is None and _from_outside(status := self._retire(worker), worker.overdue):
                    worker = self._start()
                    verdict = worker.call(job.message, self._wall)
                    status = 0 if verdict is not None else self._retire(worker)
                if verdict is not None:
                    self._memo.keep(job.message, verdict)
                    job.future.set_result(verdict)
                    continue
                job.future.set_result(self._explain(status, worker.overdue))
                worker = self._start()
        except GristmillError as error:
            if job is not None and not job.future.done():
                job.future.set_exception(self._broken or error)
            self._break(error)
        finally:
            if worker is not None:
                self._retire(worker)

    def _start(self) -> _Worker:
        """A worker that is ready; ``RecipeError`` when it will not start."""
        reason = ""
        for _ in range(_START_TRIES):
            with self._lock:
                if self._broken is not None:
                    raise self._broken
                try:
                    worker = _Worker(
                        self._target, self._deadline, self._wall + _GRACE, self._memory_mb, self._options
                    )
                except OSError as error:  # no process or descriptor to be had just now
                    reason = str(error)
                    continue
                self._workers.add(worker)
            if worker.ready():
                return worker
            reason = worker.complaint()
            self._retire(worker)
            if reason:  # it failed to import, as it would again
                break
        raise RecipeError(
            f"the verifier {self._verifier!r} cannot be started: {reason or 'its process dies'}.",
            remedy=f"Try: python -c 'import {self._target.partition(':')[0]}'. "
            f"If that works, raise memory_mb (it is {self._memory_mb}).",
        )

    def _retire(self, worker: _Worker) -> int:
        with self._lock:
            self._workers.discard(worker)
        return worker.kill()

    def _explain(self, status: int, overdue: bool) -> Verdict:
        """The verdict of a call that its worker did not survive, from the worker's exit status."""
        if self._broken is not None:
            raise self._broken
        if overdue or status == -signal.SIGALRM:
            return Verdict(Outcome.TIMEOUT, rule="wall limit", detail=f"no verdict within {self._wall:g} s")
        if status == -signal.SIGPROF:
            detail = f"no verdict within {self._deadline:g} s of processor time"
            return Verdict(Outcome.TIMEOUT, rule="deadline", detail=detail)
        if status == OUT_OF_MEMORY:
            return failure("memory limit", f"the verifier needs more than {self._memory_mb} MiB")
        if status < 0:
            return failure("worker died", f"the worker was ended by {signal.Signals(-status).name}")
        return failure("worker died", f"the worker exited with status {status}")


def _from_outside(status: int, overdue: bool) -> bool:
    """Whether a worker may have been ended by somebody else: by a signal that is not one of its limits."""
    return status < 0 and not overdue and -status not in (signal.SIGALRM, signal.SIGPROF)


class _Job:
    def __init__(self, message: bytes) -> None:
        self.message = message
        self.future: Future[Verdict] = Future()


class _Worker:
    """One process and the socket to it. Used by one thread, except ``shut``."""

    def __init__(self, target: str, deadline: float, alarm: float, memory_mb: int, options: str) -> None:
        command = [
            sys.executable,
            "-P",
            "-m",
            "gristmill.verifiers.pool.worker",
            target,
            str(deadline),
            str(alarm),
            str(memory_mb),
            options,
        ]
        self.overdue = False
        # Not a pipe, which nobody reads and so could block the worker.
        self._complaint = tempfile.TemporaryFile()  # noqa: SIM115 - closed in kill()
        self._channel, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=self._complaint,
                env=_environment(),
                start_new_session=True,  # a Ctrl-C in the terminal is for the parent to handle
            )

    def ready(self) -> bool:
        """Wait until the verifier is imported."""
        try:
            return receive(self._channel, time.monotonic() + START_LIMIT) is not None
        except TimeoutError:
            return False

    def alive(self) -> bool:
        """Whether an idle worker still holds its end of the socket."""
        self._channel.settimeout(0)
        try:
            return bool(self._channel.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False

    def call(self, message: bytes, wall: float) -> Verdict | None:
        """The verdict on one request; ``None`` if the worker must be replaced."""
        until = time.monotonic() + wall
        try:
            send(self._channel, message, until)
            reply = receive(self._channel, until)
            return None if reply is None else msgspec.msgpack.decode(reply, type=Verdict)
        except TimeoutError:
            self.overdue = True
        except (BrokenPipeError, ConnectionResetError):
            pass  # the exit status tells more
        return None

    def shut(self) -> None:
        """Make any wait for this worker end at once. May be called from any thread."""
        try:
            self._channel.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # its own thread was quicker

    def kill(self) -> int:
        """End the process and its group; its exit status (minus the signal, if by one). May be repeated."""
        if self.process.returncode is None:  # not reaped yet, so the id is still its own
            with contextlib.suppress(ProcessLookupError, PermissionError):  # already dead
                os.killpg(self.process.pid, signal.SIGKILL)
        self._channel.close()
        self._complaint.close()
        return self.process.wait()

    def complaint(self) -> str:
        """The last line that a worker which did not start wrote to standard error."""
        self._complaint.seek(0)
        lines = self._complaint.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""


def _environment() -> dict[str, str]:
    """What a worker is told: where modules are, as we find them; one hash seed, for equal set orders."""
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return {**passed, "PYTHONPATH": path, "PYTHONHASHSEED": "0"}


def _encode(args: tuple[Any, ...]) -> bytes:
    try:
        return msgspec.msgpack.encode(args)
    except UnicodeEncodeError:  # lone surrogates, which JSON can carry and UTF-8 cannot
        clean = [a.encode("utf-8", "replace").decode() if isinstance(a, str) else a for a in args]
        return msgspec.msgpack.encode(clean)
