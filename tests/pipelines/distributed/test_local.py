"""The processes of tasks on this machine, with a task that does as its rank says."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gristmill.core.errors import RunStopped
from gristmill.pipelines.distributed import step as steps
from gristmill.pipelines.distributed.local import Stop, run_here, signals
from gristmill.pipelines.distributed.step import RESTARTS, TaskStep

TASK = """
import os, signal, sys, time
folder, number, rank = sys.argv[1:]
tries = open(f"{folder}/{rank}", "a+"); tries.write("x"); tries.flush(); tries.seek(0)
what = ["fine", "fine", "fail", "killed once", "killed", "wait", "polite"][int(rank)]
if what == "fail":
    print("noise\\nerror: no server.", file=sys.stderr); sys.exit(1)
if what == "killed" or what == "killed once" and tries.read() == "x":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "polite":
    signal.signal(signal.SIGINT, lambda *_: sys.exit(open(f"{folder}/asked", "w").close()))
    open(f"{folder}/up", "w").close()
if what in ("wait", "polite"):
    time.sleep(60)
"""


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskStep:
    (tmp_path / "task_of_a_test.py").write_text(TASK)
    monkeypatch.setattr(steps, "_WORK", "task_of_a_test")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return TaskStep(str(tmp_path), 1, "01-sample", str(tmp_path / "phase"))


def tries(task: TaskStep, rank: int) -> int:
    path = Path(task.job, str(rank))
    return len(path.read_text()) if path.exists() else 0


def run(task: TaskStep, *ranks: int, workers: int = 2, stop: Stop | None = None) -> list[str]:
    said: list[str] = []
    run_here(task, ranks, workers, Path(task.job, "logs"), stop or Stop(), said.append)
    return said


def soon(what: Callable[[], object], when: Callable[[], bool]) -> None:
    """Do it, in a thread, once the time has come."""

    def follow() -> None:
        until = time.monotonic() + 20
        while not when() and time.monotonic() < until:
            time.sleep(0.01)
        what()

    threading.Thread(target=follow, daemon=True).start()


def test_a_task_that_is_killed_is_begun_again(task: TaskStep) -> None:
    assert run(task, 0, 3, 1) == [f"01-sample: {n} of 3 tasks" for n in (1, 2, 3)]
    assert [tries(task, rank) for rank in (0, 1, 3)] == [1, 1, 2]


def test_one_that_fails_ends_the_others_and_says_why(task: TaskStep) -> None:
    with pytest.raises(RunStopped) as told:
        run(task, 5, 2, 0)
    assert str(told.value).startswith("task 2 of 01-sample: no server. Give the same command again")
    assert Path(task.folder, "errors/00002.txt").read_text() == "no server."
    assert "noise" in Path(task.job, "logs/task_00002.log").read_text()


def test_one_that_is_always_killed_ends_the_run(task: TaskStep) -> None:
    with pytest.raises(RunStopped, match=r"ended by SIGKILL 4 times.*fewer --workers"):
        run(task, 4)
    assert tries(task, 4) == RESTARTS + 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_tasks_at_once(task: TaskStep, number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), signals() as stop:
        soon(lambda: signal.raise_signal(number), lambda: bool(tries(task, 5)))
        run(task, 5, 5, 0, workers=1, stop=stop)
    assert tries(task, 0) == 0
    assert signal.getsignal(number) is signal.SIG_DFL


def test_the_first_interrupt_lets_tasks_finish_and_the_second_does_not(task: TaskStep) -> None:
    stop = Stop()
    soon(lambda: stop.handle(signal.SIGINT, None), Path(task.job, "up").exists)
    with pytest.raises(KeyboardInterrupt):
        run(task, 6, 0, workers=1, stop=stop)
    assert Path(task.job, "asked").exists() and not tries(task, 0)
    stop.handle(signal.SIGINT, None)
    assert stop.now


def test_a_signal_that_is_ignored_stays_so() -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals() as stop:
            signal.raise_signal(signal.SIGHUP)
        assert not stop.soon
    finally:
        signal.signal(signal.SIGHUP, former)
