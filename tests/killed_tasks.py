"""What the tests of killed tasks share: a recipe on a server, and the processes of its tasks."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from distributed_parts import outputs

CONCURRENCY = 4
ROWS = 120


def recipe_on(place: Any, server: Any) -> None:
    stages = [{"stage": "sample", "verify": False, "follow_ups": ["Check it."]}]
    place.write_recipe(server.engine(CONCURRENCY), stages=stages, part_rows=50)


def begun(place: Any, rank: int) -> Path:
    """The folder of a task of the phase with row stages, once its process holds it."""
    folder: Path = place.path / f"runs/test/.shards/01-sample/tasks/{rank:05d}"
    until = time.monotonic() + 90
    while not (folder / ".lock").exists() or not lives((folder / ".lock").read_text()):
        assert time.monotonic() < until, "the task does not begin"
        time.sleep(0.02)
    return folder


def lives(pid: str) -> bool:
    """Not a process of a command before, whose lock is still there."""
    return bool(pid) and Path(f"/proc/{pid}").exists()


def pid_of(folder: Path) -> int:
    return int((folder / ".lock").read_text())


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def wait_gone(pid: int) -> None:
    until = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < until, f"process {pid} goes on"
        time.sleep(0.05)


def ended(process: subprocess.Popen[str], status: int = 0) -> None:
    out, err = process.communicate(timeout=240)
    assert process.returncode == status, f"{out}\n{err}"


def check_against_one_machine(place: Any, server: Any, spilt: int) -> None:
    """The outputs are one machine's, and at most ``spilt`` requests were sent twice."""
    stats = server.stats()
    assert stats["keys"] == 2 * ROWS
    assert stats["requests"] - stats["keys"] <= spilt
    server.post("latency", 0)
    one = place.gristmill("run", "test.yaml", "--runs", "one", "--log", "one.sqlite")
    assert one.returncode == 0, one.stderr
    assert outputs(place.path / "runs/test") == outputs(place.path / "one/test")
