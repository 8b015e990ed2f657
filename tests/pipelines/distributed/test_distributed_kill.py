"""Tasks on datatrove's local and Ray executors, in real processes that are really killed."""

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
from distributed_parts import ENGINE, STAGES, install, outputs

pytest.importorskip("datatrove", reason="datatrove is not installed: pip install 'gristmill[distributed]'")

CONCURRENCY = 4
ROWS = 120
RAY_PYTHON = "GRISTMILL_RAY_PYTHON"


@pytest.fixture
def place(workspace: Any, tmp_path: Path) -> Any:
    workspace.environment |= install(tmp_path / "plug")
    workspace.write_problems(ROWS)
    return workspace


@pytest.fixture(scope="session")
def ray_python() -> str:
    """A Python that has Ray, datatrove and this package; Ray may be in an environment of its own."""
    python = os.environ.get(RAY_PYTHON, sys.executable)
    probe = subprocess.run([python, "-c", "import ray, datatrove, gristmill"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"Ray is not installed, and {RAY_PYTHON} names no Python that has it")
    return python


def engine(server: Any) -> dict[str, Any]:
    """A server that all tasks share."""
    return {
        "kind": "openai",
        "base_url": f"{server.address}/v1",
        "model": "fake",
        "concurrency": CONCURRENCY,
        "abilities": ["chat", "seed"],
    }


def recipe_on(place: Any, server: Any) -> None:
    stages = [{"stage": "sample", "verify": False, "follow_ups": ["Check it."]}]
    place.write_recipe(engine(server), stages=stages, part_rows=50)


def begun(place: Any, rank: int) -> Path:
    """The folder of a task of the phase with row stages, once its process holds it."""
    folder: Path = place.path / f"runs/test/.shards/01-sample/tasks/{rank:05d}"
    until = time.monotonic() + 90
    while not (folder / ".lock").exists() or not (folder / ".lock").read_text():
        assert time.monotonic() < until, "the task does not begin"
        time.sleep(0.02)
    return folder


def pid_of(folder: Path) -> int:
    return int((folder / ".lock").read_text())


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def wait_gone(pid: int) -> None:
    until = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < until, f"process {pid} goes on"
        time.sleep(0.05)


def ended(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, f"{out}\n{err}"


def check_against_one_machine(place: Any, server: Any, spilt: int) -> None:
    """The outputs are one machine's, and at most ``spilt`` requests were sent twice."""
    stats = server.stats()
    assert stats["keys"] == 2 * ROWS
    assert stats["requests"] - stats["keys"] <= spilt
    server.post("latency", 0)
    one = place.gristmill("run", "test.yaml", "--runs", "one", "--log", "one.sqlite")
    assert one.returncode == 0, one.stderr
    assert outputs(place.path / "runs/test") == outputs(place.path / "one/test")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_four_tasks_on_this_machine_are_one_machine(place: Any) -> None:
    exports = [{"format": "half", "from": "again"}]
    place.write_recipe(ENGINE, stages=STAGES, exports=exports, part_rows=7)
    place.environment["CI"] = "1"
    one = place.gristmill("run", "test.yaml", "--runs", "one", "--log", "one.sqlite")
    process = place.start("run", "test.yaml", "--executor", "local", "--tasks", "4", "--workers", "2")
    out, err = process.communicate(timeout=300)
    assert (one.returncode, process.returncode) == (0, 0), err
    assert outputs(place.path / "runs/test") == outputs(place.path / "one/test")
    assert out.splitlines()[:-1] == one.stdout.splitlines()[:-1]  # the last line has the seconds
    assert not (place.path / "runs/test/.shards").exists()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("whom", ["task", "worker"])
def test_a_killed_process_of_a_local_run_costs_what_was_in_flight(place: Any, server: Any, whom: str) -> None:
    recipe_on(place, server)
    server.post("latency", 60)
    process = place.start("run", "test.yaml", "--executor", "local", "--tasks", "4", "--workers", "2", "-q")
    folder = begun(place, 1)
    server.wait_for(answered=24)
    pid = pid_of(folder)
    os.kill(pid if whom == "task" else parent_of(pid), signal.SIGKILL)
    wait_gone(pid)
    assert not (folder / "result.json").exists()
    ended(process)
    # With a worker of the pool goes the pool: both tasks are begun again.
    check_against_one_machine(place, server, CONCURRENCY * (1 if whom == "task" else 2))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_command_leaves_no_task_at_work_and_goes_on(place: Any, server: Any) -> None:
    recipe_on(place, server)
    server.post("latency", 60)
    words = ("run", "test.yaml", "--executor", "local", "--tasks", "4", "--workers", "2", "--quiet")
    process = place.start(*words)
    pids = [pid_of(begun(place, rank)) for rank in (0, 1)]
    server.wait_for(answered=24)
    process.kill()
    process.communicate(timeout=60)
    for pid in pids:
        wait_gone(pid)
    assert server.stats()["answered"] < 2 * ROWS
    ended(place.start(*words))
    check_against_one_machine(place, server, 2 * CONCURRENCY)


def _start_with(python: str, place: Any, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, "-m", "gristmill.cli.main", *words],
        cwd=place.path,
        env=place.environment | {"RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


RAY = (
    "run",
    "test.yaml",
    "--executor",
    "ray",
    "--tasks",
    "4",
    "--workers",
    "2",
    "--option",
    "mem_per_cpu_gb=0.2",
)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_four_tasks_on_ray_are_one_machine(place: Any, ray_python: str) -> None:
    place.write_recipe(ENGINE, stages=STAGES, part_rows=7)
    ended(_start_with(ray_python, place, *RAY))
    one = place.gristmill("run", "test.yaml", "--runs", "one", "--log", "one.sqlite")
    assert one.returncode == 0, one.stderr
    assert outputs(place.path / "runs/test") == outputs(place.path / "one/test")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("whom", ["task", "actor"])
def test_a_killed_process_of_a_ray_run_costs_what_was_in_flight(
    place: Any, server: Any, ray_python: str, whom: str
) -> None:
    recipe_on(place, server)
    server.post("latency", 60)
    process = _start_with(ray_python, place, *RAY)
    folder = begun(place, 1)
    server.wait_for(answered=24)
    pid = pid_of(folder)
    # The task's process is started by a process that the actor has forked.
    os.kill(pid if whom == "task" else parent_of(parent_of(pid)), signal.SIGKILL)
    wait_gone(pid)
    assert not (folder / "result.json").exists()
    ended(process)
    check_against_one_machine(place, server, CONCURRENCY)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_ray_run_goes_on(place: Any, server: Any, ray_python: str) -> None:
    recipe_on(place, server)
    server.post("latency", 60)
    process = _start_with(ray_python, place, *RAY)
    pids = [pid_of(begun(place, rank)) for rank in (0, 1)]
    server.wait_for(answered=24)
    process.kill()
    process.communicate(timeout=60)
    for pid in pids:
        wait_gone(pid)
    with suppress(AssertionError):
        ended(_start_with(ray_python, place, *RAY))
    check_against_one_machine(place, server, 2 * CONCURRENCY)
