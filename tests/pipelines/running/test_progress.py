"""What a run says while it works: rates, the time that is left, and all of it within 80 columns."""

from __future__ import annotations

import asyncio
import heapq
import io
import json
import random
import sys
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gristmill.core.engine import Completion, Request
from gristmill.engines.log.store import CompletionLog
from gristmill.pipelines import run
from gristmill.pipelines.recipe.recipe import load
from gristmill.pipelines.rundir.directory import RunDir, hold
from gristmill.pipelines.rundir.summary import StageCounts
from gristmill.pipelines.running import progress
from gristmill.pipelines.running.progress import (
    Course,
    Mode,
    Progress,
    Report,
    default_mode,
    fitted,
    label,
    parts,
    shown,
)
from gristmill.pipelines.running.rows import read_sources
from gristmill.pipelines.running.runner import work_of
from gristmill.pipelines.running.sessions import Engines, Verifiers
from gristmill.pipelines.running.work import StageEngine

AT = Progress("1/3 explore +2", 50, 200, 1000, 7, 1.204, 300, 105, 12)
ENGINE = {"kind": "scripted", "model": "m", "replies": [{"texts": ["one two three"]}]}


def finished(rows: int, workers: int, shortest: float, longest: float, logged: int = 0) -> list[float]:
    """When each row of a job is finished, in seconds from its start; the first ``logged`` are at once."""
    draw = random.Random(0)
    free = [0.0] * workers
    ends = []
    for i in range(rows):
        end = heapq.heappop(free) + (0.01 if i < logged else draw.uniform(shortest, longest))
        ends.append(end)
        heapq.heappush(free, end)
    return sorted(ends)


def course(ends: list[float], workers: int) -> list[tuple[float, float | None, float]]:
    """(time, what was said to be left, what really was), second by second while rows wait for a worker."""
    followed, said = Course(0.0), []
    for second in range(1, int(ends[-1])):
        rows = sum(end <= second for end in ends)
        at = Progress("s", rows, len(ends), in_flight=min(workers, len(ends) - rows))
        if len(ends) - rows > workers:
            said.append((float(second), followed.report(at, second).seconds_left, ends[-1] - second))
    return said


@pytest.mark.parametrize(
    ("ends", "workers", "by"),
    [
        (finished(900, 192, 30, 90), 192, 0.3),
        (finished(300, 96, 10, 30), 96, 0.4),
        (finished(1000, 96, 5, 15, logged=600), 96, 0.4),
        (finished(50, 6, 10, 30), 6, 0.3),
        (finished(5000, 96, 0.5, 1.5), 96, 0.2),
    ],
    ids=["slow answers", "few rows", "resumed", "few at a time", "fast answers"],
)
def test_the_time_left_is_never_wrong_by_more_than_a_factor_of_1_6(
    ends: list[float], workers: int, by: float
) -> None:
    """And nothing is said before there is a rate."""
    said = course(ends, workers)
    wrong = [
        (at, left, true) for at, left, true in said if left is not None and not 1 / 1.6 <= left / true <= 1.6
    ]
    assert wrong == []
    assert min(at for at, left, _ in said if left is not None) <= by * ends[-1]


def test_what_was_fast_before_is_forgotten() -> None:
    followed = Course(0.0)
    for second in range(1, 61):
        followed.report(Progress("s", 100 * second, 7000, 1000 * second), second)
    for second in range(61, 191):
        report = followed.report(Progress("s", 6000 + second - 60, 7000, 60_000 + second), second)
    assert report.rows_per_second == 1.0
    assert report.tokens_per_second == 1.0
    assert report.seconds_left == 7000 - 6130


def test_another_stage_and_another_round_begin_anew() -> None:
    followed = Course(0.0)
    for second in range(1, 20):
        first = followed.report(Progress("1/2 a", 10 * second, 1000), second)
    assert first.seconds_left == pytest.approx(81)
    assert followed.report(Progress("2/2 b", 5, 50), 20).seconds_left is None
    assert followed.report(Progress("2/2 b", 0, 50), 21).seconds_left is None
    assert followed.report(Progress("2/2 b", 50, 50), 22).seconds_left == 0


def test_the_label_is_short() -> None:
    assert label(["explore", "trajectories", "pairs"], 1, 3) == "1/3 explore +2"
    assert label(["a_name_that_is_far_too_long_for_a_bar"], 2, 2) == "2/2 a_name_that_is_far_…"


def test_a_line_says_rate_and_time_first_and_drops_what_does_not_fit() -> None:
    report = Course(0.0).report(AT, 10.0)
    said = parts(report)
    assert ", ".join(said) == (
        "100 tok/s, estimating, 1/3 explore +2, 50/200 rows, $1.20, 7 in flight, 35% from log, 12 rejected"
    )
    assert fitted(said, 60) == "100 tok/s, estimating, 1/3 explore +2, 50/200 rows, $1.20"
    assert fitted(said, 30) == "100 tok/s, estimating"
    long = Report("1/3 explore +2", 123_456, 999_999, 1.0, 5, 98_765.0, 1.0, 7265.0, 900, 1234.5, 0.5, 99)
    assert fitted(parts(long), 64) == "98,765 tok/s, 2:01:05 left, 1/3 explore +2, 123,456/999,999 rows"


def shown_as(mode: Mode, monkeypatch: pytest.MonkeyPatch, until: str) -> str:
    monkeypatch.setitem(progress._EVERY, mode, 0.01)
    stream = io.StringIO()

    async def main() -> None:
        async with asyncio.timeout(20):
            async with shown(lambda: AT, mode, stream):
                while until not in stream.getvalue():
                    await asyncio.sleep(0.01)

    asyncio.run(main())
    return stream.getvalue()


def test_lines_for_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    line = shown_as("lines", monkeypatch, "\n").splitlines()[0]
    assert " tok/s, estimating, 1/3 explore +2, 50/200 rows, $1.20, 7 in flight" in line


def test_json_lines_for_schedulers(monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.loads(shown_as("json", monkeypatch, "\n").splitlines()[0])
    assert line.pop("event") == "progress"
    assert set(line) == set(Report.__struct_fields__)
    assert (line["rows"], line["rows_total"], line["usd"], line["log_share"]) == (50, 200, 1.204, 0.35)
    assert line["seconds_left"] is None


def test_the_bar_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = shown_as("bar", monkeypatch, "rows")
    states = [state for state in text.replace("\n", "\r").split("\r") if "explore" in state]
    assert all(len(state.rstrip()) <= 80 for state in states)
    assert " 25%|##      | " in states[0] and "estimating, 1/3 explore +2, 50/200 rows" in states[0]


def test_a_notebook_without_widgets_gets_the_bar_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    assert " 25%|##      | " in shown_as("notebook", monkeypatch, "rows")


def test_a_terminal_and_a_notebook_get_a_bar_and_ci_and_a_pipe_get_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.delenv("CI", raising=False)
    assert default_mode(terminal) == "bar"
    assert default_mode(io.StringIO()) == "lines"

    class ZMQInteractiveShell:
        """What IPython calls the shell of a kernel."""

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=ZMQInteractiveShell))
    assert default_mode(io.StringIO()) == "notebook"
    monkeypatch.setenv("CI", "1")
    assert default_mode(terminal) == "lines"


@pytest.fixture
def place(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(workspace.path)
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)
    workspace.write_problems(20)
    return workspace


def test_rows_count_when_they_are_finished_although_an_earlier_one_is_not(place: Any) -> None:
    """All requests but the first row's are answered: 19 rows are finished, and none can be written yet."""
    slow = {"match": "problem 0", "texts": ["slow"]}
    recipe = place.write_recipe({**ENGINE, "replies": [slow, *ENGINE["replies"]]}, name="late")
    held = asyncio.Event()
    loaded = load(recipe)

    class Late(StageEngine):
        async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
            if request.messages[-1].content == "problem 0":
                await held.wait()
            return await super().generate(request, first=first, n=n)

    async def main(rundir: RunDir, log: CompletionLog, verifiers: Verifiers) -> tuple[int, int]:
        engines = Engines(loaded, log)
        tools = msgspec.structs.replace(
            engines.tools(verifiers), engine=Late(engines.main, StageCounts("late"))
        )
        work, walk = work_of(loaded, rundir, engines, tools)
        work.sources = read_sources(loaded, {})
        async with engines, asyncio.timeout(20):
            running = asyncio.create_task(walk.run())
            while work.done < 19:
                await asyncio.sleep(0.01)
            written = work.counts[1].rows_out
            held.set()
            await running
        return written, work.counts[1].rows_out

    with (
        hold(place.path / "runs/late") as rundir,
        CompletionLog(place.path / "log.sqlite") as log,
        Verifiers(loaded) as verifiers,
    ):
        assert asyncio.run(main(rundir, log, verifiers)) == (0, 20)


def test_one_hook_gets_what_is_shown_and_a_failing_one_does_not_end_the_run(
    place: Any,
) -> None:
    reports: list[dict[str, Any]] = []
    recipe = place.write_recipe(ENGINE, prices={"m": {"input": 0, "output": 1}})
    run(recipe, quiet=True, watch=reports.append)
    assert (reports[-1]["rows"], reports[-1]["rows_total"], reports[-1]["stage"]) == (20, 20, "1/1 sample")
    assert reports[-1]["usd"] == pytest.approx(20 * 3 / 1e6) and reports[-1]["log_share"] == 0
    run(recipe, quiet=True, watch=reports.append)
    assert reports[-1]["log_share"] == 1

    def broken(report: dict[str, Any]) -> None:
        raise ValueError("no disk")

    assert run(recipe, quiet=True, watch=broken).summary.stages[-1].rows_out == 20
    noted = (place.path / "runs/test/log.txt").read_text()
    assert "progress is no longer reported: ValueError: no disk" in noted


def test_json_takes_the_place_of_bar_and_table(place: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(place.write_recipe(ENGINE), json=True)
    [last] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (last["event"], last["complete"]) == ("ended", True)
    assert last["summary"]["stages"][1]["rows_out"] == 20
