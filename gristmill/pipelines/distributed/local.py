"""Tasks as processes of this machine, started and watched by the command itself.

Not by datatrove's local executor: its pool has a fork server, a manager and workers besides, and waits
forever for the task of a process that was killed. Here a task's process has no parent but the command. It
ends with the command, however that ends, since its standard input does.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gristmill.core.errors import RunStopped
from gristmill.pipelines.distributed.step import TaskProcess, TaskStep

_LOOK_SECONDS = 0.05


class Stop:
    """What signals have asked for: ``soon``, after the requests in flight; ``now``."""

    def __init__(self) -> None:
        self.soon = self.now = False

    def handle(self, number: int, frame: object) -> None:
        """The first Ctrl-C stops soon; a second one, SIGTERM and SIGHUP at once."""
        self.now = self.now or self.soon or number != signal.SIGINT
        self.soon = True


@contextmanager
def signals() -> Iterator[Stop]:
    """A ``Stop`` that follows the signals, in the main thread; one that was ignored (nohup) stays so."""
    stop, former = Stop(), {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                former[number] = signal.signal(number, stop.handle)
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def run_here(
    step: TaskStep,
    ranks: Sequence[int],
    workers: int,
    logs: Path,
    stop: Stop,
    say: Callable[[str], None],
) -> None:
    """Run the tasks ``ranks`` of a phase, ``workers`` at a time, each with a file in ``logs``.

    Raises ``RunStopped`` when a task does not end well, and ``KeyboardInterrupt`` when ``stop`` says so;
    all others are ended first, and what they were paid for is in their logs.
    """
    logs.mkdir(parents=True, exist_ok=True)
    waiting, running = deque(ranks), dict[int, TaskProcess]()
    done, asked = 0, False
    try:
        while waiting or running:
            if stop.now or (stop.soon and not running):
                raise KeyboardInterrupt
            if stop.soon and not asked:
                asked = True
                say("stopping: requests in flight are waited for and logged; Ctrl-C again stops at once.")
                for task in running.values():
                    task.interrupt()
            while waiting and len(running) < workers and not stop.soon:
                rank = waiting.popleft()
                running[rank] = TaskProcess(step, rank, _log(logs, rank).open("a+b"), session=True)
            for rank, task in list(running.items()):
                status = task.poll()
                if status is None or (not stop.soon and task.restarted(status)):
                    continue
                if not stop.soon:
                    _check(task, status, _log(logs, rank))
                    done += 1
                    say(f"{step.label}: {done} of {len(ranks)} tasks")
                running.pop(rank).close()
            time.sleep(_LOOK_SECONDS)
    finally:
        for task in running.values():
            task.close()
    if stop.soon:
        raise KeyboardInterrupt


def _log(logs: Path, rank: int) -> Path:
    return logs / f"task_{rank:05d}.log"


def _check(task: TaskProcess, status: int, log: Path) -> None:
    try:
        task.check(status)
    except RunStopped as error:
        remedy = error.remedy or "Give the same command again: only what is unfinished runs."
        raise RunStopped(error.message, remedy=f"{remedy} Its log is {log}.") from error
