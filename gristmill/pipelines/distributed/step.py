"""A phase of a distributed run as a step of a datatrove pipeline. Imports nothing heavy: it is pickled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from msgspec import Struct

from gristmill.core.errors import RunStopped

RESTARTS = 3
"""How often a task whose process was killed is begun again where it stands."""
_LOOK_SECONDS = 0.1
_WORK = "gristmill.pipelines.distributed.work"


class TaskStep(Struct, frozen=True):
    """Runs task ``rank`` of phase ``number`` of the job in the file ``job``, in a process of its own.

    A process of its own, because the executors fork their workers from processes with threads, and because
    a worker that is killed would take its task with it. When the process of a task is killed (by the
    system, out of memory), it is begun again up to ``RESTARTS`` times and goes on by its completion log. What
    a task failed with is in the phase's ``folder``.
    """

    job: str
    number: int
    label: str
    folder: str

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        """datatrove calls this. ``RunStopped`` with the task's own message where it did not end well."""
        parent = os.getppid()
        log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the task
        task = TaskProcess(self, rank, log)
        try:
            while (status := task.wait()) is None or task.restarted(status):
                if os.getppid() != parent:  # whoever gave us the task is gone, and may give it to another
                    raise RunStopped(f"task {rank} of {self.label}: the executor has gone away.")
            log.seek(0)
            if said := log.read().decode("utf-8", "replace").strip():
                print(said, file=sys.stderr, flush=True)
            task.check(status)
        finally:
            task.close()


class TaskProcess:
    """The process of one task, begun again where it is killed; ``log`` takes its standard error."""

    def __init__(self, step: TaskStep, rank: int, log: IO[bytes], *, session: bool = False) -> None:
        """Start it. ``session``: out of reach of the terminal, whose Ctrl-C is then for the caller."""
        self._step, self._rank, self._log, self._session = step, rank, log, session
        self._left = RESTARTS
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        self._from = self._log.seek(0, os.SEEK_END)
        command = [sys.executable, "-m", _WORK, self._step.job, str(self._step.number), str(self._rank)]
        # Its standard input ends with us, and with that, so does it.
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=self._log, start_new_session=self._session
        )

    def wait(self) -> int | None:
        """The exit status of the process (minus the signal, if by one); ``None`` if it is still at work."""
        try:
            return self._process.wait(_LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            return None

    def poll(self) -> int | None:
        """As ``wait``, at once."""
        return self._process.poll()

    def restarted(self, status: int) -> bool:
        """Begin it again if it was killed, and not too often."""
        if status >= 0 or not self._left:
            return False
        self._left -= 1
        self._end()
        self._process = self._started()
        return True

    def interrupt(self) -> None:
        """Let it finish the requests that are in flight, and no more."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """End it now, if it has not ended, and close its log. What it was paid for is kept."""
        self._end()
        self._log.close()

    def _end(self) -> None:
        self._process.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def check(self, status: int) -> None:
        """``RunStopped`` with what it said last if it did not end well; the phase's folder keeps that."""
        complaint = Path(self._step.folder) / "errors" / f"{self._rank:05d}.txt"
        if status == 0:
            complaint.unlink(missing_ok=True)
            return
        self._log.seek(self._from)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        said = (lines[-1] if lines else f"exit status {status}").removeprefix("error: ")
        if status < 0:
            said = f"its process was ended by {signal.Signals(-status).name} {RESTARTS + 1} times."
        complaint.parent.mkdir(parents=True, exist_ok=True)
        complaint.write_text(said)
        remedy = "Is there enough memory? Give the same command again, with fewer --workers."
        raise RunStopped(
            f"task {self._rank} of {self._step.label}: {said}", remedy=remedy if status < 0 else ""
        )
