"""A phase of a distributed run as a step of a datatrove pipeline. Imports nothing heavy: it is pickled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from msgspec import Struct

from gristmill.core.errors import RunStopped

RESTARTS = 3
"""How often a task whose process was killed is begun again where it stands."""
_LOOK_SECONDS = 0.5
_WORK = "gristmill.pipelines.distributed.work"


class TaskStep(Struct, frozen=True):
    """Runs task ``rank`` of phase ``number`` of the job in the file ``job``, in a process of its own.

    A process of its own, because the executors fork their workers from processes with threads, and because
    a worker of a pool that is killed takes its task with it: it would be waited for without end. When
    the process of a task is killed (by the system, out of memory), it is begun again up to ``RESTARTS``
    times and goes on by its completion log. What a task failed with is in the phase's ``folder``.
    """

    job: str
    number: int
    label: str
    folder: str

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        """datatrove calls this. ``RunStopped`` with the task's own message where it did not end well."""
        complaint = Path(self.folder) / "errors" / f"{rank:05d}.txt"
        for left in reversed(range(RESTARTS + 1)):
            status, said = self._run(rank)
            if status == 0:
                complaint.unlink(missing_ok=True)
                return
            if status > 0 or not left:
                break
        if status < 0:
            said = f"its process was ended by {signal.Signals(-status).name}"
        complaint.parent.mkdir(parents=True, exist_ok=True)
        complaint.write_text(said)
        raise RunStopped(f"task {rank} of {self.label}: {said}")

    def _run(self, rank: int) -> tuple[int, str]:
        """The exit status of the task's process (minus the signal, if by one), and the last thing it said."""
        command = [sys.executable, "-m", _WORK, self.job, str(self.number), str(rank)]
        parent = os.getppid()
        # Its standard input ends with us, and with that, so does it.
        with (
            tempfile.TemporaryFile() as complaints,
            subprocess.Popen(command, stdin=subprocess.PIPE, stderr=complaints) as process,
        ):
            while (status := _wait(process)) is None:
                if os.getppid() != parent:  # whoever gave us the task is gone, and may give it to another
                    process.kill()
                    process.wait()
                    raise RunStopped(f"task {rank} of {self.label}: the executor has gone away.")
            complaints.seek(0)
            said = complaints.read().decode("utf-8", "replace").strip()
        if said:
            print(said, file=sys.stderr, flush=True)
        last = said.splitlines()[-1] if said else f"exit status {status}"
        return status, last.removeprefix("error: ")


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(_LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return None
