"""Whole runs from Python, on the scripted engine, over a real log and real files."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import polars as pl
import pytest
from msgspec import Struct

from gristmill.core.errors import RecipeError, RowRejected, RunError, RunStopped
from gristmill.core.exports import Export
from gristmill.core.records import Sampled
from gristmill.pipelines import Interrupted, Run, load, open_run, plan, run
from gristmill.pipelines.exports.base import MessagesRow
from gristmill.pipelines.planning.text import table
from gristmill.pipelines.recipe.recipe import ExportEntry
from gristmill.pipelines.running.progress import count_rows

ENGINE = {"kind": "scripted", "replies": [{"texts": [f"It is \\boxed{{{i}}}." for i in range(4)]}]}


@pytest.fixture
def place(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(workspace.path)
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)
    workspace.write_problems(30)
    return workspace


def files(path: Path) -> dict[str, bytes]:
    """All that a run made, but for the log, the lock and what tells one run from another."""
    found = {
        str(p.relative_to(path)): p.read_bytes()
        for p in sorted(path.rglob("*"))
        if p.is_file() and p.name not in ("log.txt", ".lock", ".fresh", "recipe.yaml")
    }
    summary = json.loads(found["summary.json"])
    del summary["spent"], summary["total"], summary["timing"]
    return found | {"summary.json": json.dumps(summary).encode()}


def test_a_run_leaves_its_rows_its_summary_and_a_recipe_that_can_be_run(place: Any) -> None:
    recipe = place.write_recipe(ENGINE, stages=[{"stage": "sample", "as": "draw", "samples": 2}])
    done = run(recipe, quiet=True)
    assert done.rows("draw").collect()["id"].to_list() == [f"p{i}/{k}" for i in range(30) for k in range(2)]
    assert done.rejected("source").collect().height == 0
    summary = json.loads((done.path / "summary.json").read_text())
    assert summary["stages"][1]["rows_in"] == 30
    assert summary["stages"][1]["rows_out"] == summary["stages"][1]["completions"] == 60
    assert summary["spent"]["tokens_out"] == summary["stages"][1]["tokens_out"] == 180
    assert summary["model"] == "scripted"
    text = (done.path / "recipe.yaml").read_text()
    assert text.startswith("# gristmill ")
    assert "polars" in text.splitlines()[0]
    assert "seed: 0\n" in text
    again = run(done.path / "recipe.yaml", quiet=True)
    assert again.summary.spent.requests == 0
    assert open_run(done.path) == again


@pytest.mark.parametrize("verify", [False, True])
def test_concurrency_changes_no_byte(place: Any, verify: bool) -> None:
    place.write_problems(300 if not verify else 40, answer="2")
    with (place.path / "problems.jsonl").open("a") as file:
        file.write('{"id": "p3", "problem": "again"}\n{"no": "problem"}\n')
    made = []
    for concurrency in (1, 64):
        engine = ENGINE | {"latency": 0.002, "concurrency": concurrency}
        stage = {"stage": "sample", "samples": 2, "follow_ups": ["Check."], "verify": verify}
        recipe = place.write_recipe(engine, part_rows=100, stages=[stage])
        log = place.path / f"{concurrency}.sqlite"
        made.append(run(recipe, runs=f"runs{concurrency}", log=log, quiet=True))
    one, many = (files(r.path) for r in made)
    assert list(one) == list(many)
    assert one == many
    assert made[0].summary.stages[0].rejected == {"duplicate id": 1, "no problem column": 1}
    if verify:
        assert set(made[0].summary.stages[1].verdicts) == {"correct", "incorrect"}


def test_a_rerun_over_the_log_is_the_same_and_pays_nothing(place: Any) -> None:
    recipe = place.write_recipe(ENGINE, stages=[{"stage": "sample", "samples": 3}])
    first = files(run(recipe, quiet=True).path)
    again = run(recipe, quiet=True)
    assert files(again.path) == first
    assert (again.summary.spent.requests, again.summary.spent.from_log) == (0, 90)


def test_a_directory_of_another_recipe_is_refused_with_the_changed_keys(place: Any) -> None:
    recipe = place.write_recipe(ENGINE)
    run(recipe, quiet=True)
    with pytest.raises(RunError, match=r"changed: stages\.sample\.samples, seed\.") as caught:
        run(recipe, overrides=["seed=1", "stages.0.samples=2"], quiet=True)
    for way in ("--resume", "--fresh", "--set name=NAME"):
        assert way in caught.value.remedy
    assert run(recipe, overrides=["stages.0.samples=2"], resume=True, quiet=True).summary.spent.from_log == 30
    assert run(recipe, overrides=["seed=1"], fresh=True, quiet=True).summary.spent.requests == 30
    # What only paces a run is no other recipe.
    paced = ["seed=1", "engine.concurrency=3", "limit=40", "rows_in_flight=2", "part_rows=7"]
    assert run(recipe, overrides=paced, quiet=True).summary.stages[1].rows_out == 30


def test_fresh_pays_anew_and_replaces(place: Any) -> None:
    recipe = place.write_recipe(ENGINE)
    run(recipe, quiet=True)
    assert run(recipe, fresh=True, quiet=True).summary.spent.requests == 30
    assert run(recipe, quiet=True).summary.spent.requests == 0


def test_stages_that_are_gone_leave_no_folder(place: Any) -> None:
    run(place.write_recipe(ENGINE, stages=[{"stage": "sample", "as": "old"}]), quiet=True)
    done = run(place.write_recipe(ENGINE, stages=[{"stage": "sample", "as": "new"}]), resume=True, quiet=True)
    assert done.stages == ["new"]
    assert sorted(p.name for p in done.path.glob("0*")) == ["00-source", "01-new"]


class Half(Export, frozen=True):
    """An export of every other sample."""

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = MessagesRow

    def rows(self, record: Sampled, /) -> Sequence[MessagesRow]:
        if int(record.problem_id[1:]) % 2:
            raise RowRejected("odd")
        return [MessagesRow(record.id, record.messages)]


def test_exports_are_written_beside_the_stages_and_counted(place: Any) -> None:
    recipe = load(place.write_recipe(ENGINE))
    entry = ExportEntry("half", "sample", "half.jsonl", Half())
    done = run(msgspec.structs.replace(recipe, exports=(entry,)), quiet=True)
    lines = (done.path / "exports" / "half.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [f"p{i}/0" for i in range(0, 30, 2)]
    assert done.summary.exports == {"half.jsonl": 15}
    assert done.summary.notes == {"half.jsonl": {"odd": 15}}
    assert "15  half.jsonl: odd" in (done.path / "log.txt").read_text()


def test_limit_counts_problems_and_not_bad_rows(place: Any) -> None:
    (place.path / "problems.jsonl").write_text(
        '{"problem": "a"}\n{"x": 1}\n{"problem": "b"}\n{"problem": "c"}\n'
    )
    done = run(place.write_recipe(ENGINE), limit=2, quiet=True)
    assert done.rows().collect()["problem"].to_list() == ["a", "b"]
    assert done.rejected("source").collect()["row"].to_list() == [2]


def test_an_engine_that_lacks_an_ability_is_refused_before_anything_is_sent(place: Any) -> None:
    engine = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m", "abilities": ["seed"]}
    with pytest.raises(RecipeError, match="'sample' needs an engine that can chat"):
        run(place.write_recipe(engine), quiet=True)


def test_a_dead_server_stops_the_run_which_then_goes_on(place: Any, server: Any, capsys: Any) -> None:
    place.write_problems(60)
    engine = {
        "kind": "openai",
        "base_url": f"{server.address}/nothing/here",
        "model": "m",
        "concurrency": 4,
        "backoff": 0.01,
    }
    with pytest.raises(RunStopped, match="404") as caught:
        run(place.write_recipe(engine))
    assert "run the same command again" in caught.value.remedy
    assert "rows in" in capsys.readouterr().out
    assert "stopped: " in (place.path / "runs/test/log.txt").read_text()
    with pytest.raises(RunError, match="no complete run"):
        open_run(place.path / "runs/test")
    engine["base_url"] = f"{server.address}/v1"
    assert run(place.write_recipe(engine), resume=True, quiet=True).rows().collect().height == 60


@pytest.mark.parametrize("where", ["thread", "notebook"])
def test_it_runs_outside_the_main_thread_and_beside_a_running_loop(place: Any, where: str) -> None:
    recipe = place.write_recipe(ENGINE)
    results: list[Run] = []
    if where == "thread":
        thread = threading.Thread(target=lambda: results.append(run(recipe, quiet=True)))
        thread.start()
        thread.join()
    else:

        async def cell() -> None:
            results.append(run(recipe, quiet=True))

        asyncio.run(cell())
    assert results[0].rows().collect().height == 30


def test_ctrl_c_in_a_notebook_stops_the_run_as_in_a_terminal(place: Any) -> None:
    place.write_problems(1000)
    recipe = place.write_recipe(ENGINE | {"latency": 0.2, "concurrency": 4})

    async def cell() -> None:
        with pytest.raises(Interrupted, match="go on like this"):
            run(recipe, quiet=True, again="go on like this")

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    loop = asyncio.new_event_loop()  # not asyncio.run, which takes Ctrl-C for itself
    loop.run_until_complete(cell())
    loop.close()
    assert 4 <= plan(recipe).stages[0].done < 50


def test_an_interrupted_cell_does_not_wait_for_slow_answers_and_can_be_resumed(place: Any) -> None:
    """The log keeps what had been answered; answers that take an hour are not waited for."""
    run(place.write_recipe(ENGINE), limit=10, quiet=True)
    slow = place.write_recipe(ENGINE | {"latency": 3600, "concurrency": 4})
    said: list[str] = []

    async def cell() -> None:
        with pytest.raises(Interrupted) as stopped:
            run(slow, limit=30, resume=True)
        said.extend(stopped.value._render_traceback_())

    def interrupt() -> None:
        while not (place.path / "runs/test/.01-sample.new").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt, daemon=True).start()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(cell())
    loop.close()
    assert said == [
        "Interrupted: stopped before the end; every completion that was paid for is in the log. "
        "Call run again with the same recipe."
    ]
    done = run(place.write_recipe(ENGINE), quiet=True, resume=True).summary
    assert (done.stages[-1].rows_out, done.spent.from_log) == (30, 10)


def test_a_run_ends_with_a_table(place: Any, capsys: Any) -> None:
    (place.path / "problems.jsonl").write_text('{"problem": "a"}\n{"x": 1}\n')
    run(place.write_recipe(ENGINE))
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert " ".join(lines[0].split()) == "stage rows in rows out rejected tokens in tokens out"
    assert lines[1].split() == ["source", "2", "1", "1", "0", "0"]
    assert lines[2].split() == ["sample", "1", "1", "0", "1", "3"]
    assert "         1  source: no problem column" in lines
    assert lines[-1].startswith(
        "1 requests, 0 retries, 0 completions from the log, 1 tokens in, 3 tokens out, "
    )


def test_plan_says_what_is_left_and_starts_nothing(place: Any) -> None:
    recipe = place.write_recipe(
        ENGINE,
        stages=[{"stage": "sample", "samples": 2, "follow_ups": ["Check."], "sampling": {"max_tokens": 9}}],
    )
    [stage] = plan(recipe).stages
    assert (stage.rows, stage.done, stage.in_log) == (30, 0, 0)
    assert (stage.completions_min, stage.completions_max, stage.tokens_out) == (120, 120, 1080)
    assert not (place.path / "runs").exists()
    run(recipe, limit=10, quiet=True)
    [stage] = plan(recipe).stages
    assert (stage.rows, stage.done, stage.in_log, stage.completions_max) == (30, 10, 40, 80)
    run(recipe, quiet=True)
    done = plan(recipe)
    assert (done.stages[0].done, done.stages[0].completions_max) == (30, 0)
    assert "sample" in table(done)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_100_000_short_rows_stay_under_300_mb(place: Any) -> None:
    place.write_problems(100_000)
    with (place.path / "problems.jsonl").open("a") as file:
        file.writelines(f'{{"id": "p{i}", "problem": "again"}}\n' for i in range(25_000))
    recipe = place.write_recipe(ENGINE)
    # Started by a small process: a child's peak begins with that of its parent, and ours is large.
    code = (
        "import resource, subprocess, sys\n"
        "status = subprocess.call(sys.argv[1:])\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(status)"
    )
    command = [
        sys.executable,
        "-c",
        code,
        sys.executable,
        "-m",
        "gristmill.cli.main",
        "run",
        str(recipe),
        "--quiet",
    ]
    ran = subprocess.run(command, cwd=place.path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    done = open_run(place.path / "runs/test")
    assert done.rows().select(pl.len()).collect().item() == 100_000
    assert done.rejected("source").select(pl.len()).collect().item() == 25_000
    assert int(ran.stdout) / 1024 < 300


def test_rows_are_counted_for_the_time_left(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n{}\n")
    (tmp_path / "a.csv").write_text("x\n1\n2\n3\n")
    pl.DataFrame({"x": [1, 2]}).write_parquet(tmp_path / "a.parquet")
    assert [count_rows(tmp_path / f"a.{s}") for s in ("jsonl", "csv", "parquet", "gz")] == [2, 3, 2, None]


def test_the_public_names_are_loaded_when_they_are_used() -> None:
    code = """
import sys, gristmill.pipelines as p
heavy = {"polars", "aiohttp", "yaml", "gristmill.pipelines.running.runner"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
for name in p.__all__:
    assert getattr(p, name).__module__.startswith("gristmill.pipelines."), name
"""
    subprocess.run([sys.executable, "-c", code], check=True)
