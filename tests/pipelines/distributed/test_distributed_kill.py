"""Tasks on this machine, in real processes that are really killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from distributed_parts import ENGINE, STAGES, outputs
from killed_tasks import (
    CONCURRENCY,
    ROWS,
    begun,
    check_against_one_machine,
    ended,
    parent_of,
    pid_of,
    recipe_on,
    wait_gone,
)

from gristmill.cli.options import SOME, STOPPED

LOCAL = ("run", "test.yaml", "--executor", "local", "--tasks", "2", "--workers", "2", "--quiet")


def started(place: Any, server: Any, answered: int = 24) -> tuple[subprocess.Popen[str], list[int]]:
    """A local run that has been answered so much, and the processes of its first two tasks."""
    recipe_on(place, server)
    server.post("latency", 60)
    process = place.start(*LOCAL)
    pids = [pid_of(begun(place, rank)) for rank in (0, 1)]
    server.wait_for(answered=answered)
    return process, pids


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_four_tasks_on_this_machine_are_one_machine(place: Any) -> None:
    exports = [{"format": "half", "from": "again"}]
    place.write_recipe(ENGINE, stages=STAGES, exports=exports, part_rows=7)
    place.environment["CI"] = "1"
    one = place.gristmill("run", "test.yaml", "--runs", "one", "--log", "one.sqlite")
    process = place.start("run", "test.yaml", "--executor", "local", "--tasks", "4", "--workers", "2")
    out, err = process.communicate(timeout=300)
    assert (one.returncode, process.returncode) == (SOME, SOME), err  # a stage fails on some rows
    assert outputs(place.path / "runs/test") == outputs(place.path / "one/test")
    assert out.splitlines()[:-1] == one.stdout.splitlines()[:-1]  # the last line has the seconds
    assert [line for line in err.splitlines() if "01-direct" in line] == [
        f"01-direct: {done} of 4 tasks" for done in (1, 2, 3, 4)
    ]
    assert not (place.path / "runs/test/.shards").exists()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_task_of_a_local_run_costs_what_was_in_flight(place: Any, server: Any) -> None:
    process, pids = started(place, server)
    # The command starts the processes of tasks itself: there is nobody else who could be missed.
    assert {parent_of(pid) for pid in pids} == {process.pid}
    os.kill(pids[1], signal.SIGKILL)
    wait_gone(pids[1])
    ended(process)
    check_against_one_machine(place, server, CONCURRENCY)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_task_that_is_always_killed_ends_the_run_with_one_line(place: Any, server: Any) -> None:
    process, pids = started(place, server)
    while process.poll() is None:
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.kill(pid := pid_of(place.path / "runs/test/.shards/01-sample/tasks/00001"), signal.SIGKILL)
            wait_gone(pid)
        time.sleep(0.02)
    _, err = process.communicate(timeout=60)
    assert process.returncode == STOPPED
    assert err.startswith("error: task 1 of 01-sample: its process was ended by SIGKILL 4 times.")
    assert err.count("\n") == 1
    wait_gone(pids[0])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_command_that_is_ended_leaves_no_task_at_work_and_goes_on_at_once(place: Any, server: Any) -> None:
    recipe_on(place, server)
    server.post("latency", 60)
    lost = 0
    for answered, number in enumerate((signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)):
        process = place.start(*LOCAL)
        server.wait_for(answered=24 * (answered + 1))
        pids = [pid_of(begun(place, rank)) for rank in (0, 1)]
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        if number == signal.SIGKILL:
            for pid in pids:
                wait_gone(pid)
        else:
            assert process.returncode == 130
            assert err == f"stopped. Continue with: gristmill {' '.join(LOCAL[:-1])}\n"
            assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        lost += 0 if number == signal.SIGINT else 2 * CONCURRENCY
        assert server.stats()["aborted"] <= lost
    assert server.stats()["answered"] < 2 * ROWS
    ended(place.start(*LOCAL))
    check_against_one_machine(place, server, lost)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_local_run_whose_own_parent_ends_goes_on(place: Any, server: Any) -> None:
    recipe_on(place, server)
    server.post("latency", 20)
    command = [sys.executable, "-m", "gristmill.cli.main", *LOCAL]
    shell = ["/bin/sh", "-c", 'nohup "$@" >out.txt 2>&1 & :', "sh", *command]
    subprocess.run(shell, cwd=place.path, env=place.environment, check=True, timeout=30)
    until = time.monotonic() + 120
    while not (place.path / "runs/test/summary.json").exists():
        assert time.monotonic() < until, (place.path / "out.txt").read_text()
        time.sleep(0.1)
    check_against_one_machine(place, server, 0)
