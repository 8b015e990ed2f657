from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gristmill.core.engine import Completion, Message, Request, Sampling
from gristmill.core.errors import RecipeError, RunError
from gristmill.engines.log.store import CompletionLog, request_key
from gristmill.pipelines.recipe.recipe import from_dict
from gristmill.pipelines.rundir.directory import RunDir, StageDir, changed_keys, hold, write_file
from gristmill.pipelines.running.checks.claim import claim

HOLD = """
import sys, time
from pathlib import Path
from gristmill.pipelines.rundir.directory import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_and_told_who_holds_the_directory(tmp_path: Path) -> None:
    process = holder(tmp_path / "run")
    try:
        message = f"in use by process {process.pid}\\."
        with pytest.raises(RunError, match=message) as caught, hold(tmp_path / "run"):
            pass
        assert "--set name=" in caught.value.remedy
    finally:
        process.kill()
        process.wait()


def test_a_killed_holder_leaves_no_lock_behind(tmp_path: Path) -> None:
    process = holder(tmp_path / "run")
    process.send_signal(signal.SIGKILL)
    process.wait()
    with hold(tmp_path / "run") as rundir:
        assert rundir.path == tmp_path / "run"


def test_the_lock_is_let_go_at_the_end(tmp_path: Path) -> None:
    for _ in range(2):
        with hold(tmp_path / "run"):
            pass


def test_a_file_system_without_locks_is_an_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    with (
        pytest.raises(RunError, match="cannot be locked: No locks available") as caught,
        hold(tmp_path / "run"),
    ):
        pass
    assert "--runs DIR" in caught.value.remedy


@pytest.mark.parametrize("name", ["01-sample", ".01-sample.old", ".01-sample.new"])
def test_a_link_in_the_place_of_a_stage_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "nowhere")
    with pytest.raises(RunError, match="is a link"), hold(tmp_path / "run"):
        pass


def stage(tmp_path: Path) -> StageDir:
    return RunDir(tmp_path).stage(1, "sample")


def test_a_former_output_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    folder = stage(tmp_path)
    folder.begin()
    folder.write("part-00000.parquet", b"old")
    assert not folder.path.exists()
    folder.commit()
    folder.begin()
    folder.write("part-00000.parquet", b"new")
    assert (folder.path / "part-00000.parquet").read_bytes() == b"old"
    folder.commit()
    assert (folder.path / "part-00000.parquet").read_bytes() == b"new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["01-sample"]


def test_what_a_killed_run_left_half_made_is_undone(tmp_path: Path) -> None:
    (tmp_path / ".01-sample.new").mkdir()
    (tmp_path / ".02-pairs.old").mkdir()  # killed between the two renames of a commit
    (tmp_path / ".02-pairs.old" / "part-00000.parquet").write_bytes(b"old")
    (tmp_path / ".03-last.old").mkdir()
    (tmp_path / "03-last").mkdir()
    with hold(tmp_path):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "02-pairs", "03-last"]
    assert (tmp_path / "02-pairs" / "part-00000.parquet").read_bytes() == b"old"


def test_folders_of_stages_that_are_gone_are_removed(tmp_path: Path) -> None:
    for name in ("00-source", "01-old", "01-new", "exports"):
        (tmp_path / name).mkdir()
    RunDir(tmp_path).drop_stages_except(["00-source", "01-new"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00-source", "01-new", "exports"]


def test_a_full_disk_is_an_error_with_a_remedy_and_the_former_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_file(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(RunError, match=r"cannot write .*summary\.json") as caught:
            write_file(path, b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "Free some space" in caught.value.remedy
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["summary.json"]


def test_a_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(RunError, match="cannot write"), hold(tmp_path / "run"):
        pass


def test_a_damaged_recipe_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(b"stages: [\n")
    given = {"name": "x", "source": {"path": "a.jsonl"}, "stages": [{"stage": "sample"}]}
    recipe = from_dict({**given, "engine": {"kind": "scripted", "replies": [{"texts": ["a"]}]}})
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        claim(RunDir(tmp_path), recipe)


def test_the_generation_of_a_fresh_start_is_kept_for_the_resume(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    with CompletionLog(tmp_path / "log.sqlite") as log:
        assert rundir.fresh_since(log, start=False) is None
        assert rundir.fresh_since(log, start=True) == 1
        assert rundir.fresh_since(log, start=False) == 1
        assert rundir.fresh_since(log, start=True) == 2
    with CompletionLog(tmp_path / "other.sqlite") as log:
        assert rundir.fresh_since(log, start=False) is None, "the mark is of another log"
    (tmp_path / ".fresh").write_text("yesterday")
    with CompletionLog(tmp_path / "log.sqlite") as log, pytest.raises(RunError, match=r"Remove it"):
        rundir.fresh_since(log, start=False)


def test_the_time_of_a_fresh_start_that_earlier_versions_kept_becomes_a_generation(tmp_path: Path) -> None:
    key = request_key("m", Request((Message("user", "q"),), Sampling()))
    with CompletionLog(tmp_path / "log.sqlite") as log:
        asyncio.run(log.put(key, 0, [Completion("old")]))
        (tmp_path / ".fresh").write_text(f"{time.time()!r}\n")
        asyncio.run(log.put(key, 1, [Completion("new")]))
        since = RunDir(tmp_path).fresh_since(log, start=False)
        assert log.get(key, 0, 2, since) == {1: Completion("new")}
        assert RunDir(tmp_path).fresh_since(log, start=False) == since


def test_changed_keys_are_named_with_their_place() -> None:
    old = {"seed": 1, "limit": 5, "engine": {"kind": "openai", "tries": 3}, "stages": [{"n": 4}]}
    new = {"seed": 2, "engine": {"kind": "openai", "tries": 9}, "stages": [{"n": 8}], "x": 1}
    assert changed_keys(old, new, frozenset({"limit", "engine.tries"})) == ["seed", "stages.0.n", "x"]
    assert changed_keys(old, old, frozenset()) == []


def test_notes_are_appended(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    rundir.note("first")
    rundir.note("second \ud800")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["first", "second \\ud800"]
    assert [p.name for p in tmp_path.iterdir()] == ["log.txt"]
