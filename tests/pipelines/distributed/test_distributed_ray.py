"""Tasks on Ray, in real processes that are really killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest
from distributed_parts import ENGINE, STAGES, outputs
from killed_tasks import (
    CONCURRENCY,
    begun,
    check_against_one_machine,
    ended,
    parent_of,
    pid_of,
    recipe_on,
    wait_gone,
)

from gristmill.cli.options import SOME

RAY_PYTHON = "GRISTMILL_RAY_PYTHON"


@pytest.fixture(scope="session")
def ray_python() -> str:
    """A Python that has Ray, datatrove and this package; Ray may be in an environment of its own."""
    python = os.environ.get(RAY_PYTHON, sys.executable)
    probe = subprocess.run([python, "-c", "import ray, datatrove, gristmill"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"Ray is not installed, and {RAY_PYTHON} names no Python that has it")
    return python


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
    ended(_start_with(ray_python, place, *RAY), SOME)  # a stage fails on some rows
    one = place.gristmill("run", "test.yaml", "--runs", "one", "--log", "one.sqlite")
    assert one.returncode == SOME, one.stderr
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
