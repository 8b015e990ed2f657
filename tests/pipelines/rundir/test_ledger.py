"""A run that is killed at any moment leaves a directory that says what is of which run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gristmill.core.errors import RunError
from gristmill.pipelines import open_run
from gristmill.pipelines.rundir import directory
from gristmill.pipelines.rundir.directory import RECIPE, hold
from gristmill.pipelines.rundir.ledger import Ledger
from gristmill.pipelines.rundir.summary import StageCounts, Summary

STAGES = ("source", "sample", "kept")


class Killed(BaseException):
    """The process is gone."""


def rerun(path: Path, number: int) -> None:
    """A run that writes its number into the folder of each stage."""
    with hold(path) as rundir:
        ledger = Ledger(rundir, f"run {number}".encode())
        done: list[StageCounts] = []
        ledger.summary = lambda: Summary("it", number, "", list(done))
        ledger.begin()
        for index, name in enumerate(STAGES):
            stage = rundir.stage(index, name)
            stage.begin()
            stage.write("part-00000.parquet", str(number).encode())
            with ledger.committing(name):
                stage.commit()
            done.append(StageCounts(name))
        ledger.complete(Summary("it", number, "", done))


def dying(monkeypatch: pytest.MonkeyPatch, at: int) -> Callable[[], bool]:
    """Kill the process before its ``at``-th change of the disk; whether that came."""
    calls = 0

    def counted(call: Any) -> Any:
        def change(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls >= at:
                raise Killed
            return call(*arguments, **options)

        return change

    for name in ("rename", "replace", "unlink", "write_bytes", "mkdir"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
    monkeypatch.setattr(directory.shutil, "rmtree", counted(shutil.rmtree))
    return lambda: calls >= at


def held(path: Path) -> dict[str, int]:
    """The run that each folder is of."""
    found = path.glob("[0-9]*-*/part-00000.parquet")
    return {part.parent.name[3:]: int(part.read_text()) for part in found}


def check(path: Path) -> None:
    """What the directory says of itself is so, but for one folder that may be newer than it says."""
    try:
        whole = open_run(path)
    except RunError:
        found = open_run(path, partial=True).summary
        assert found.unfinished is not None and found.seed == 2
        states = found.unfinished.stages
        assert all(states[name].former or run == 2 for name, run in held(path).items()), states
        assert sum(states[name].former and run == 2 for name, run in held(path).items()) <= 1
    else:
        number = whole.summary.seed
        assert held(path) == dict.fromkeys(STAGES, number)
        assert (path / RECIPE).read_text() == f"run {number}"


def test_no_moment_of_a_kill_leaves_rows_under_the_summary_of_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)  # a process is killed here, and not the machine
    before = tmp_path / "before"
    rerun(before, 1)
    moments, killed = 0, True
    while killed:
        moments += 1
        path = tmp_path / f"killed-{moments}"
        shutil.copytree(before, path)
        with pytest.MonkeyPatch.context() as patched:
            come = dying(patched, moments)
            with suppress(Killed):
                rerun(path, 2)
            killed = come()
        check(path)
        rerun(path, 2)
        assert open_run(path).summary.seed == 2
        assert held(path) == dict.fromkeys(STAGES, 2)
        assert not (path / "partial.json").exists()
    assert moments > 30
