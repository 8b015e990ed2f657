"""A recipe in phases and tasks gives what one machine gives, byte for byte. In one process, on real files."""

from __future__ import annotations

import json
import shutil
import sqlite3
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from distributed_parts import ENGINE, PHASES, STAGES, Here, in_tasks, outputs, register_here
from hypothesis import given
from hypothesis import strategies as st

from gristmill.core.errors import RecipeError, RunError, RunStopped
from gristmill.engines.log import tools as log_tools
from gristmill.engines.log.store import CompletionLog
from gristmill.pipelines import load, open_run, run
from gristmill.pipelines.distributed.executors import KINDS
from gristmill.pipelines.distributed.job import Job, block, phases, read_job
from gristmill.pipelines.distributed.submit import distribute
from gristmill.pipelines.distributed.work import work


@pytest.fixture
def place(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(workspace.path)
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)
    monkeypatch.setitem(KINDS, "local", Here)
    register_here(monkeypatch)
    workspace.write_problems(60)
    with (workspace.path / "problems.jsonl").open("a") as file:
        file.write('{"id": "p3", "problem": "again"}\n{"no": "problem"}\n{"problem": "problem 5"}\n')
        file.write('{"id": "p61", "problem": "late"}\n{"id": "p62", "problem": "later"}\n')
    return workspace


def whole(place: Any, **keys: Any) -> Path:
    """A recipe with every kind of phase."""
    exports = [{"format": "half", "from": "again"}]
    recipe: Path = place.write_recipe(ENGINE, stages=STAGES, exports=exports, **{"part_rows": 7, **keys})
    return recipe


def logged(path: Path) -> int:
    with sqlite3.connect(path) as log:
        return int(log.execute("SELECT count(*) FROM completion").fetchone()[0])


@given(rows=st.integers(0, 10**9), tasks=st.integers(1, 500))
def test_blocks_cover_every_row_once_in_order_and_evenly(rows: int, tasks: int) -> None:
    blocks = [block(rows, tasks, rank) for rank in range(tasks)]
    assert blocks[0][0] == 0 and blocks[-1][1] == rows
    assert all(a[1] == b[0] for a, b in pairwise(blocks))
    sizes = [last - first for first, last in blocks]
    assert max(sizes) - min(sizes) <= 1


def test_table_stages_divide_a_recipe_into_phases(place: Any) -> None:
    found = phases(load(whole(place)).graph, 5)
    assert [p.label for p in found] == PHASES
    assert [p.tasks for p in found] == [1, 5, 1, 5, 1, 5, 1]
    assert [p.tables for p in found if not p.rows] == [(), (2,), (5,), ()]
    rows_only = phases(load(place.write_recipe(ENGINE, name="plain")).graph, 5)
    assert [p.label for p in rows_only] == ["00-prepare", "01-sample", "02-finish"]
    table_first = [{"stage": "short"}, {"stage": "sample", "verify": False}]
    found = phases(load(place.write_recipe(ENGINE, name="table", stages=table_first)).graph, 5)
    assert [(p.label, p.tables) for p in found] == [
        ("00-prepare", (1,)),
        ("01-sample", ()),
        ("02-finish", ()),
    ]


@pytest.mark.slow
def test_tasks_without_rows_make_nothing_of_their_own(place: Any) -> None:
    one = run(whole(place), runs="one", log="one.sqlite", limit=9, quiet=True)
    many = in_tasks(whole(place), 11, runs="many", limit=9)
    assert outputs(many.path) == outputs(one.path)


@pytest.mark.parametrize("tasks", [1, 4])
def test_a_run_in_tasks_is_the_run_on_one_machine(place: Any, tasks: int) -> None:
    recipe = whole(place)
    one = run(recipe, runs="one", log="one.sqlite", quiet=True)
    many = in_tasks(recipe, tasks, runs="many", log="many.sqlite")
    assert outputs(many.path) == outputs(one.path)
    assert one.summary.stages[0].rejected == {"duplicate id": 1, "no problem column": 1}
    assert one.summary.stages[4].rejected["stage error"] > 3
    assert sorted(p.name for p in many.path.iterdir()) == sorted(p.name for p in one.path.iterdir())
    # All that was paid for is in the one log, as on one machine; the tasks' own are gone.
    assert logged(place.path / "many.sqlite") == logged(place.path / "one.sqlite")
    assert not (place.path / "tasks").exists()
    again = run(recipe, runs="again", log="many.sqlite", quiet=True)
    assert again.summary.spent.requests == 0 and outputs(again.path) == outputs(one.path)


@pytest.mark.slow
def test_parts_closed_by_their_bytes_are_the_same(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gristmill.pipelines.rundir.parts._PART_BYTES", 1500)
    recipe = whole(place, part_rows=1000)
    one = run(recipe, runs="one", quiet=True)
    assert len(list((one.path / "03-draw").glob("part-*"))) > 5
    assert outputs(in_tasks(recipe, 3, runs="many").path) == outputs(one.path)


def test_verdicts_are_counted_over_all_tasks(place: Any) -> None:
    place.write_problems(12, answer="2")
    with (place.path / "problems.jsonl").open("a") as file:
        file.write('{"id": "x", "problem": "without an answer"}\n')
    recipe = place.write_recipe(ENGINE, stages=[{"stage": "sample", "samples": 2}])
    one, many = run(recipe, runs="one", quiet=True), in_tasks(recipe, 3, runs="many", log="m.sqlite")
    assert outputs(many.path) == outputs(one.path)
    assert sum(many.summary.stages[1].verdicts.values()) == 24
    assert many.summary.stages[0].unanswered == 1


def test_a_source_with_nothing_to_use_makes_an_empty_run(place: Any) -> None:
    (place.path / "problems.jsonl").write_text('{"problem": ""}\n')
    one, many = run(whole(place), runs="one", quiet=True), in_tasks(whole(place), 3, runs="many")
    assert outputs(many.path) == outputs(one.path)


@pytest.mark.slow
def test_limit_counts_problems_over_all_tasks(place: Any) -> None:
    one = run(whole(place), runs="one", limit=61, quiet=True)
    many = in_tasks(whole(place), 4, runs="many", limit=61)
    assert outputs(many.path) == outputs(one.path)
    assert many.summary.stages[0].rows_out == 61


@pytest.mark.slow
@pytest.mark.parametrize("at", ["00-prepare/0", "01-direct/2", "02-merge/0", "03-draw/1", "06-finish/0"])
def test_a_stopped_run_goes_on_and_pays_for_nothing_twice(place: Any, at: str) -> None:
    recipe = whole(place)
    one = run(recipe, runs="one", log="one.sqlite", quiet=True)
    with pytest.raises(RunStopped):
        in_tasks(recipe, 4, options=[f"stop_at={at}"])
    before = {p: p.stat().st_mtime_ns for p in Path("runs/test/.shards").rglob("result.json")}
    assert len(before) == {"00": 0, "01": 3, "02": 5, "03": 7, "06": 15}[at[:2]]
    job = read_job(Path("runs/test/.shards/job.json"))
    many = in_tasks(recipe, 4)
    assert outputs(many.path) == outputs(one.path)
    assert many.summary.spent.requests == one.summary.spent.requests
    assert job is not None and f"{job.generation}" not in str(list(place.path.rglob("*")))


@pytest.mark.slow
def test_what_is_done_is_not_done_again(place: Any) -> None:
    recipe = whole(place)
    with pytest.raises(RunStopped):
        in_tasks(recipe, 4, options=["stop_at=03-draw/2"])
    done = Path("runs/test/.shards/03-draw/tasks/00001/result.json")
    marked = json.loads(done.read_text()) | {"seconds": 1e6}
    done.write_text(json.dumps(marked))
    assert in_tasks(recipe, 4).summary.timing["task_seconds"] > 1e6


@pytest.mark.slow
def test_another_number_of_tasks_begins_anew_over_what_was_paid_for(place: Any) -> None:
    recipe = whole(place)
    one = run(recipe, runs="one", log="one.sqlite", quiet=True)
    with pytest.raises(RunStopped):
        in_tasks(recipe, 4, options=["stop_at=03-draw/2"])
    many = in_tasks(recipe, 3)
    assert outputs(many.path) == outputs(one.path)
    # 62 direct draws and half the others were in the logs of the former four tasks.
    assert 62 + 20 < one.summary.spent.requests - many.summary.spent.requests < 62 + 60
    assert logged(place.path / ".gristmill/completions.sqlite") == logged(place.path / "one.sqlite")


@pytest.mark.slow
def test_what_one_machine_paid_for_is_not_paid_for_again(place: Any) -> None:
    recipe = whole(place)
    one = run(recipe, runs="one", quiet=True)
    many = in_tasks(recipe, 4, runs="many")
    completions = sum(stage.completions for stage in one.summary.stages)
    assert (many.summary.spent.requests, many.summary.spent.from_log) == (0, completions)
    fresh = in_tasks(recipe, 4, runs="many", fresh=True)
    assert fresh.summary.spent.requests == one.summary.spent.requests
    assert outputs(fresh.path) == outputs(one.path)
    # It replaced what was older, so that one machine goes on from it.
    assert run(recipe, runs="many", quiet=True).summary.spent.requests == 0


@pytest.mark.slow
def test_a_complete_run_is_run_again_and_pays_nothing(place: Any) -> None:
    first = in_tasks(whole(place), 4)
    before = outputs(first.path)
    again = in_tasks(whole(place), 4)
    assert again.summary.spent.requests == 0
    assert outputs(again.path) == before


@pytest.mark.slow
def test_a_changed_source_begins_anew(place: Any) -> None:
    recipe = whole(place)
    with pytest.raises(RunStopped):
        in_tasks(recipe, 4, options=["stop_at=03-draw/2"])
    place.write_problems(30)
    one = run(recipe, runs="one", log="one.sqlite", quiet=True)
    assert outputs(in_tasks(recipe, 4).path) == outputs(one.path)


def test_a_task_that_did_not_end_is_never_taken_as_whole(place: Any) -> None:
    recipe = whole(place)
    with pytest.raises(RunStopped):
        in_tasks(recipe, 4, options=["stop_at=04-merge/0"])
    task = Path("runs/test/.shards/03-draw/tasks/00002")
    (task / "result.json").unlink()
    job = read_job(Path("runs/test/.shards/job.json"))
    assert isinstance(job, Job)
    with pytest.raises(RunStopped, match="task 2 of 03-draw has not come to its end"):
        work(job, 4, 0)
    shutil.rmtree(task / "03-draw")  # half-written outputs are made again, over the task's log
    assert in_tasks(recipe, 4).summary.stages[3].rows_in == 57


def test_a_stage_with_a_bug_ends_the_run_in_however_small_tasks(place: Any) -> None:
    stages = [dict(s) for s in STAGES]
    stages[3]["all_fail"] = True
    recipe = place.write_recipe(ENGINE, stages=stages)
    with pytest.raises(RunStopped, match=r"'noisy' failed on (\d+) of its first \1 rows"):
        in_tasks(recipe, 6)
    assert not Path("runs/test/.shards/03-draw").exists()  # they run again when it is mended
    stages[3]["all_fail"] = False
    recipe = place.write_recipe(ENGINE, stages=stages)
    many = in_tasks(recipe, 6, resume=True)
    one = run(recipe, runs="one", log="one.sqlite", quiet=True)
    assert outputs(many.path) == outputs(one.path)
    assert "a bug for 5" in (many.path / "log.txt").read_text()


def test_a_run_in_tasks_that_stopped_says_what_is_of_it_and_what_of_an_earlier_run(place: Any) -> None:
    recipe = whole(place)
    whole_run = in_tasks(recipe, 2)
    with pytest.raises(RunStopped):
        in_tasks(recipe, 3, options=["stop_at=05-again/0"])
    with pytest.raises(RunError, match="no complete run"):
        open_run(whole_run.path)
    found = open_run(whole_run.path, partial=True).summary
    assert found.unfinished is not None
    former = {name for name, state in found.unfinished.stages.items() if state.former}
    assert former == {"again"}
    assert found.total.requests == whole_run.summary.total.requests + found.spent.requests
    assert outputs(in_tasks(recipe, 3).path) == outputs(
        run(recipe, runs="one", log="one.sqlite", quiet=True).path
    )


def test_only_the_models_of_the_recipe_are_read_from_the_log(place: Any) -> None:
    recipe = place.write_recipe(ENGINE)
    run(recipe, runs="one", quiet=True)
    run(recipe, runs="two", overrides=["engine.model=other"], quiet=True)
    with pytest.raises(RunStopped):
        in_tasks(recipe, 2, options=["stop_at=01-sample/0"])
    [base] = place.path.rglob("base.sqlite")
    assert [m.model for m in log_tools.stats(base).models] == ["scripted"]
    with CompletionLog(base) as log:
        assert log.path == base


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("slurms", [], "Did you mean 'slurm'"),
        ("slurm", ["partition=gpu"], "the key 'time' is missing"),
        ("slurm", ["partition=gpu", "time=24:00:00", "gpus_per_tusk=1"], "Did you mean 'gpus_per_task'"),
        ("ray", ["cpus_per_task=none"], "cpus_per_task"),
        ("ray", ["cpus_per_task"], "not an assignment"),
    ],
)
def test_options_that_do_not_fit_are_refused(place: Any, kind: str, options: list[str], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        distribute(whole(place), executor=kind, tasks=2, options=options)
    assert not Path("runs").exists()


def test_the_command_line_merges_logs_and_refuses_half_an_executor(place: Any) -> None:
    recipe = place.write_recipe(ENGINE)
    run(recipe, log="a.sqlite", runs="a", limit=20, quiet=True)
    run(recipe, log="b.sqlite", runs="b", limit=30, quiet=True)
    merged = place.gristmill("log", "merge", "all.sqlite", "a.sqlite", "b.sqlite")
    said = "30 completions added, 20 were there (0 of them with another text): all.sqlite\n"
    assert (merged.returncode, merged.stdout) == (0, said)
    assert run(recipe, log="all.sqlite", limit=30, quiet=True).summary.spent.requests == 0
    for words, error in (
        (
            ["--tasks", "4"],
            "error: --tasks, --workers and --option go with --executor. Add --executor local.",
        ),
        (["--executor", "local"], "error: --executor needs --tasks. Say into how many tasks: --tasks 64"),
    ):
        refused = place.gristmill("run", "test.yaml", *words)
        assert (refused.returncode, refused.stderr) == (2, f"{error}\n")


def test_tasks_over_a_log_without_the_runs_completions_ask_first(place: Any) -> None:
    recipe = place.write_recipe(ENGINE, stages=STAGES[:1], part_rows=7)
    paid = in_tasks(recipe, 2).summary.spent.requests
    assert paid > 0
    before = outputs(place.path / "runs/test")
    with pytest.raises(RunError, match="--pay-again"):
        in_tasks(recipe, 2, log="other.sqlite")
    assert outputs(place.path / "runs/test") == before
    assert in_tasks(recipe, 2, log="other.sqlite", pay_again=True).summary.spent.requests == paid
