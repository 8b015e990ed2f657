"""Processes really killed, really interrupted, really refused."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gristmill.pipelines import open_run

CONCURRENCY = 16
LOG = ".gristmill/completions.sqlite"


def logged(workspace: Any) -> int:
    path = workspace.path / LOG
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as log:
        if not log.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            return 0
        return int(log.execute("SELECT count(*) FROM completion").fetchone()[0])


def kill_and_finish(workspace: Any, server: Any, rows: int, kills: int, seed: int) -> None:
    """Two dependent turns for every row, killed at random moments, then run to the end."""
    stages = [{"stage": "sample", "verify": False, "follow_ups": ["Check it."]}]
    workspace.write_problems(rows)
    workspace.write_recipe(server.engine(CONCURRENCY), stages=stages, part_rows=50)
    rng = random.Random(seed)
    ended = 0
    for _ in range(kills):
        before, had = server.stats()["requests"], logged(workspace)
        process = workspace.start("run", "test.yaml")
        if rng.random() < 0.8:
            goal = before + rng.randrange(1, max(2, 2 * rows // kills))
            while server.stats()["requests"] < goal and process.poll() is None:
                time.sleep(0.002)
            time.sleep(rng.random() * 0.03)
        else:  # at start-up, or near the end
            time.sleep(rng.random() * 0.6)
        ended += process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        while server.stats()["in_flight"]:
            time.sleep(0.01)
        # What this process asked for and is not in the log can only have been in flight.
        assert server.stats()["requests"] - before - (logged(workspace) - had) <= CONCURRENCY
    assert ended <= kills / 2, "most kills came too late to be kills"
    result = workspace.gristmill("run", "test.yaml")
    assert result.returncode == 0, result.stderr
    assert workspace.rows("01-sample")["problem_id"].to_list() == [f"p{i}" for i in range(rows)]
    assert all(
        row["completion"] == f"answer 1 to {row['problem']} \\boxed{{1}}"
        for row in workspace.rows("01-sample").iter_rows(named=True)
    )
    stats = server.stats()
    assert stats["keys"] == 2 * rows == logged(workspace)
    assert stats["requests"] - stats["keys"] <= kills * CONCURRENCY
    again = workspace.gristmill("run", "test.yaml")
    assert again.returncode == 0
    assert server.stats() == stats
    assert sorted(p.name for p in (workspace.path / "runs" / "test").iterdir()) == [
        ".lock",
        "00-source",
        "01-sample",
        "log.txt",
        "recipe.yaml",
        "summary.json",
    ]


def test_a_killed_run_repeats_at_most_what_was_in_flight(workspace: Any, server: Any) -> None:
    kill_and_finish(workspace, server, rows=200, kills=3, seed=1)


@pytest.mark.slow
def test_a_run_killed_at_20_random_moments_has_every_row_once(workspace: Any, server: Any) -> None:
    kill_and_finish(workspace, server, rows=1500, kills=20, seed=2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_interrupt_finishes_what_is_in_flight_and_says_how_to_go_on(
    workspace: Any, server: Any, number: signal.Signals
) -> None:
    workspace.write_problems(2000)
    workspace.write_recipe(
        server.engine(CONCURRENCY), stages=[{"stage": "sample", "samples": 2, "verify": False}]
    )
    server.post("latency", 300)
    process = workspace.start("run", "test.yaml", "--limit", "1999", "--set", "seed=3", "--fresh")
    server.wait_for(answered=1)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    stats = server.stats()
    assert stats["aborted"] == 0
    assert stats["requests"] == stats["answered"] == logged(workspace) <= 3 * CONCURRENCY
    # --fresh would pay anew for what this run has paid for.
    assert "Continue with: gristmill run test.yaml --set seed=3 --limit 1999\n" in err
    assert "source" in out
    assert "1,9" not in out
    found = open_run(workspace.path / "runs" / "test", partial=True)
    assert found.mark == "PARTIAL: stopped before the end; every completion that was paid for is in the log."
    ids = found.rows("sample").collect()["id"].to_list()
    assert ids == [f"p{i // 2}/{i % 2}" for i in range(len(ids))] and "\nsample " in out
    assert not (workspace.path / "runs" / "test" / "summary.json").exists()


def test_a_second_interrupt_stops_at_once(workspace: Any, server: Any) -> None:
    workspace.write_problems(100)
    workspace.write_recipe(server.engine(CONCURRENCY))
    server.post("latency", 60_000)
    process = workspace.start("run", "test.yaml")
    while server.stats()["in_flight"] < CONCURRENCY:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "requests in flight are waited for and logged" in err
    assert "Continue with: gristmill run test.yaml" in err


def test_a_stopped_fresh_run_goes_on_as_a_fresh_one(workspace: Any, server: Any) -> None:
    workspace.write_problems(60)
    workspace.write_recipe(server.engine(CONCURRENCY))
    server.post("latency", 1)
    assert workspace.gristmill("run", "test.yaml").returncode == 0
    assert server.stats()["requests"] == 60
    server.post("latency", 200)
    process = workspace.start("run", "test.yaml", "--fresh")
    server.wait_for(answered=61)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert workspace.gristmill("run", "test.yaml").returncode == 0
    assert server.stats()["requests"] == 120


def test_a_second_process_on_one_run_directory_is_refused(workspace: Any, server: Any) -> None:
    workspace.write_problems(50)
    workspace.write_recipe(server.engine(CONCURRENCY))
    server.post("latency", 60_000)
    process = workspace.start("run", "test.yaml")
    try:
        while not server.stats()["in_flight"]:
            time.sleep(0.01)
        second = workspace.gristmill("run", "test.yaml")
        assert second.returncode == 1
        assert second.stderr.startswith(f"error: runs/test is in use by process {process.pid}.")
        assert second.stderr.count("\n") == 1
    finally:
        process.kill()
        process.communicate()


@contextmanager
def mounted(path: Path, options: str) -> Iterator[None]:
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(path)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_read_only_run_directory_is_an_error_with_a_remedy(workspace: Any, server: Any) -> None:
    workspace.write_problems(5)
    workspace.write_recipe(server.engine(CONCURRENCY))
    with mounted(workspace.path / "runs", "size=1m,ro"):
        result = workspace.gristmill("run", "test.yaml")
    assert result.returncode == 1
    assert result.stderr.startswith(
        "error: cannot write runs/test: Read-only file system. Make the directory writable"
    )
    assert result.stderr.count("\n") == 1
    assert server.stats()["requests"] == 0


def test_a_full_disk_costs_no_completion_and_no_former_output(workspace: Any, server: Any) -> None:
    workspace.write_problems(3000)
    # Every part takes a block of 4 KiB or more.
    workspace.write_recipe(server.engine(CONCURRENCY), part_rows=50)
    server.post("latency", 0)
    with mounted(workspace.path / "runs", "size=100k"):
        assert workspace.gristmill("run", "test.yaml", "--limit", "100").returncode == 0
        result = workspace.gristmill("run", "test.yaml", "--limit", "3000")
        assert result.returncode == 1
        assert "error: cannot write runs/test/" in result.stderr
        assert "No space left on device. Free some space" in result.stderr
        assert "Traceback" not in result.stderr
        assert workspace.rows("01-sample").height == 100
    stats = server.stats()
    assert stats["aborted"] == 0
    assert stats["requests"] == logged(workspace) < 3000
    assert workspace.gristmill("run", "test.yaml").returncode == 0
    assert server.stats()["requests"] == 3000
    assert workspace.rows("01-sample").height == 3000
