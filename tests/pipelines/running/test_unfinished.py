"""What a run directory says while it is not, or no longer, of one whole run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest
from msgspec import Struct
from rich.console import Console

from gristmill.core.errors import RunError, RunStopped
from gristmill.core.records import Problem, Trajectory, Turn
from gristmill.core.stages import Context, RowStage
from gristmill.filters import Keep
from gristmill.pipelines import Pipeline, Run, open_run, run
from gristmill.pipelines.exports.by_hand import export_run
from gristmill.pipelines.pipeline import Named
from gristmill.pipelines.rundir.parts import Parts
from gristmill.pipelines.rundir.summary import table
from gristmill.pipelines.show.page import html
from gristmill.pipelines.show.terminal import show

ROWS = [{"id": f"p{i}", "problem": f"What is {i}?", "answer": "1"} for i in range(20)]
FAULT: dict[str, str] = {}
"""The record at which a stage of that name stops the run."""


class Talks(RowStage, frozen=True):
    """A conversation about each problem; stops the run where the test says."""

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Trajectory
    text: str = "one"

    async def __call__(self, record: Problem, context: Context, /) -> Sequence[Struct]:
        if FAULT.get("talks") == record.id:
            raise RunStopped("the server is gone.", remedy="Start it.")
        turns = (Turn("user", record.problem, False), Turn("assistant", self.text, True))
        return [Trajectory(record.id, record.id, record.problem, "1", "D3", "verify", turns)]


class Marks(RowStage, frozen=True):
    """A trajectory as it is; stops the run where the test says."""

    reads: ClassVar[type[Struct]] = Trajectory
    writes: ClassVar[type[Struct]] = Trajectory

    async def __call__(self, record: Trajectory, context: Context, /) -> Sequence[Struct]:
        if FAULT.get("marks") == record.id:
            raise RunStopped("the second server is gone.")
        return [record]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)
    yield
    FAULT.clear()


def made(text: str = "one", *, quiet: bool = True, **options: Any) -> Run:
    """Talk about all problems, keep all of that, then mark it."""
    stages = [
        Named(Talks(text=text), "talks"),
        Named(Keep("subset == 'D3'"), "kept"),
        Named(Marks(), "marks"),
    ]
    exports = [{"format": "trl-sft", "from": "marks"}]
    return Pipeline(ROWS, stages, exports=exports).run("runs/it", quiet=quiet, **options)


def texts(found: Run, stage: str) -> set[str]:
    return {turns[-1]["content"] for turns in found.rows(stage).collect()["turns"]}


def test_a_stopped_run_can_be_shown_and_exported_as_partial_and_is_marked(capsys: Any) -> None:
    FAULT["talks"] = "p12"
    with pytest.raises(RunStopped):
        made(quiet=False)
    assert capsys.readouterr().out.startswith(
        "PARTIAL: the server is gone.\n  source: the rows until it stopped"
    )
    with pytest.raises(RunError, match="no complete run") as caught:
        open_run(Path("runs/it"))
    assert "--partial" in caught.value.remedy
    found = open_run(Path("runs/it"), partial=True)
    ids = found.rows("talks").collect()["id"].to_list()
    assert ids == [f"p{i}" for i in range(len(ids))] and len(ids) <= 12
    assert found.mark == "PARTIAL: the server is gone."
    with pytest.raises(RunError, match="no complete run"):
        export_run(Path("runs/it"), "trl-sft")
    done = export_run(Path("runs/it"), "trl-sft", partial=True)
    assert (done.path, done.rows, done.mark) == (
        Path("runs/it/exports/trl-sft.talks.partial.jsonl"),
        len(ids),
        found.mark,
    )
    console = Console(width=120)
    with console.capture() as shown:
        show(open_run(Path("runs/it"), partial=True), console)
    assert "PARTIAL: the server is gone." in shown.get()
    assert "trl-sft.talks.partial.jsonl" in shown.get() and "of an unfinished run" in shown.get()
    FAULT.clear()
    assert made().rows("marks").select(pl.len()).collect().item() == 20
    assert not Path("runs/it/partial.json").exists()


def test_a_rerun_that_stops_before_it_replaces_anything_leaves_the_complete_run() -> None:
    before = made()
    recipe = Path("runs/it/recipe.yaml").read_bytes()
    FAULT["talks"] = "p12"
    with pytest.raises(RunStopped):
        made("two", resume=True)
    assert open_run(Path("runs/it")).summary == before.summary
    assert texts(open_run(Path("runs/it")), "marks") == {"one"}
    assert Path("runs/it/recipe.yaml").read_bytes() == recipe


def test_a_rerun_that_stops_half_way_says_which_rows_are_of_which_run() -> None:
    made()
    FAULT["marks"] = "p0"
    with pytest.raises(RunStopped):
        made("two", resume=True)
    assert not Path("runs/it/summary.json").exists()
    with pytest.raises(RunError, match="no complete run"):
        open_run(Path("runs/it"))
    found = open_run(Path("runs/it"), partial=True)
    assert found.summary.unfinished is not None
    states = {n: (s.whole, s.former) for n, s in found.summary.unfinished.stages.items()}
    assert states == {
        "kept": (True, False),
        "marks": (False, False),
        "source": (True, False),
        "talks": (True, False),
    }
    assert texts(found, "kept") == {"two"}
    assert "exports: files of an earlier run" in table(found.summary)
    FAULT.clear()
    assert texts(made("two"), "marks") == {"two"}


def test_a_kill_between_two_stages_says_that_the_later_ones_are_of_an_earlier_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made()
    finish = Parts.finish

    def killed(self: Parts) -> None:
        if self.folder.name.endswith("kept"):
            raise KeyboardInterrupt
        finish(self)

    monkeypatch.setattr(Parts, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        made("two", resume=True)
    found = open_run(Path("runs/it"), partial=True)
    lines = table(found.summary).splitlines()
    assert "at work, or was killed" in lines[0]
    assert "  kept: rows of an earlier run" in lines and "  marks: rows of an earlier run" in lines
    assert "  talks: rows of an earlier run" not in lines


def test_what_was_spent_adds_up_over_reruns(workspace: Any) -> None:
    workspace.write_problems(5)
    engine = {"kind": "scripted", "replies": [{"texts": ["a b"]}]}
    recipe = workspace.write_recipe(engine)
    first = run(recipe, quiet=True).summary
    assert (first.spent.requests, first.total.requests, first.total.tokens_out) == (5, 5, 10)
    again = run(recipe, quiet=True).summary
    assert (again.spent.requests, again.total.requests, again.total.tokens_out) == (0, 5, 10)
    fresh = run(recipe, fresh=True, quiet=True).summary
    assert (fresh.spent.requests, fresh.total.requests, fresh.total.tokens_out) == (5, 10, 20)
    assert "all runs in this directory: 10 requests" in table(fresh)


@pytest.mark.parametrize("left", [b"", b"\0" * 100], ids=["empty", "zeros"])
def test_a_recipe_that_a_power_cut_emptied_is_written_anew(left: bytes) -> None:
    made()
    text = Path("runs/it/recipe.yaml").read_bytes()
    Path("runs/it/recipe.yaml").write_bytes(left)
    made()
    assert Path("runs/it/recipe.yaml").read_bytes() == text


def test_a_folder_of_a_stage_that_is_a_link_is_refused(tmp_path: Path) -> None:
    made()
    elsewhere = tmp_path / "elsewhere"
    Path("runs/it/02-kept").rename(elsewhere)
    Path("runs/it/02-kept").symlink_to(elsewhere)
    with pytest.raises(RunError, match="02-kept is a link") as caught:
        made()
    assert "Remove the link" in caught.value.remedy
    assert elsewhere.is_dir()


def test_a_limit_on_threads_stops_the_run_resumably(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(self: Talks, record: Problem, context: Context, /) -> Sequence[Struct]:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Talks, "__call__", refused)
    with pytest.raises(RunStopped, match="no further thread or process can be started") as caught:
        made()
    assert "ulimit -u" in caught.value.remedy
    monkeypatch.undo()
    assert made().summary.made == "all"


def test_a_page_of_an_unfinished_run_is_marked() -> None:
    assert "<strong>PARTIAL: a &lt;b&gt; fault.</strong>" in html([], "PARTIAL: a <b> fault.")
    assert "<strong></strong>" in html([])


def test_partial_json_is_plain() -> None:
    FAULT["talks"] = "p12"
    with pytest.raises(RunStopped):
        made()
    found = json.loads(Path("runs/it/partial.json").read_text())
    assert found["unfinished"]["why"] == "the server is gone."
    assert found["unfinished"]["stages"]["talks"] == {"whole": False, "former": False}
