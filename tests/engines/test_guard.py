"""The guard: what it is told of goes when its owner goes, with all that is below it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest
from engines import processes

from gristmill.engines.guard import Guard, Order

TREE = (
    "import subprocess, sys, time\n"
    "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print(p.pid, flush=True)\n"
    "time.sleep(600)\n"
)


@pytest.mark.parametrize("done", [True, False])
def test_watched_processes_are_killed_with_all_below_them_unless_they_are_done(done: bool) -> None:
    top = subprocess.Popen([sys.executable, "-c", TREE], stdout=subprocess.PIPE, text=True)
    assert top.stdout is not None
    below = int(top.stdout.readline())

    async def go() -> None:
        guard = await Guard.start(Order())
        guard.watch([top.pid])
        guard.watch([top.pid])
        await guard.stop(done=done)
        assert not guard.alive

    try:
        asyncio.run(go())
        if done:
            assert processes.alive(top.pid)
            assert processes.alive(below)
        else:
            assert top.wait(10) == -9
            deadline = time.monotonic() + 10
            while processes.alive(below):
                assert time.monotonic() < deadline
    finally:
        subprocess.run(["kill", "-9", str(top.pid), str(below)], capture_output=True)
        top.wait()
        top.stdout.close()


def test_a_command_that_ends_by_itself_ends_its_guard(tmp_path: object) -> None:
    async def go() -> None:
        guard = await Guard.start(Order(command=("true",)))
        await guard._process.wait()
        assert not guard.alive
        await guard.stop()

    asyncio.run(go())
