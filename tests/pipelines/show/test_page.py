"""The page of trees and steps, in a real headless browser."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from browser import CHROMIUM, Page, opened
from rich.console import Console
from typer.testing import CliRunner
from written_runs import Stages, write_run

from gristmill.cli.main import app
from gristmill.core.engine import Completion, Message
from gristmill.core.errors import RunError
from gristmill.core.records import Judged, Problem
from gristmill.core.schema import from_frame, to_frame
from gristmill.core.steps import ROOT, Node, ProcessRow, Step, Tree, ValuedSolution
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.pipelines.rundir.results import open_run
from gristmill.pipelines.show.drawing import drawing, goodness
from gristmill.pipelines.show.page import html, write
from gristmill.pipelines.show.terminal import render

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
RIGHT, WRONG = Verdict(Outcome.CORRECT, 1.0), Verdict(Outcome.INCORRECT, 0.0)
HOSTILE = "</script><img src=x onerror=window.hurt=1><!-- & ‮ ]]>"
SHOWN = HOSTILE.replace("\N{RIGHT-TO-LEFT OVERRIDE}", "U+202E")
ASK = (Message("user", "What is 3 * 4 + 2?"),)


def rolls(right: int, wrong: int) -> tuple[Judged, ...]:
    return tuple(Judged(Completion(f"so {i}"), RIGHT if i < right else WRONG) for i in range(right + wrong))


def tree() -> Tree:
    nodes = (
        Node(0, ROOT, "", visits=9, value=0.5, rollouts=rolls(2, 2)),
        Node(1, 0, "3 * 4 = 12.\n", visits=6, value=0.8, prior=0.7),
        Node(2, 0, "3 * 4 = 7.\n", visits=3, value=0.1, rollouts=rolls(0, 4), note="first error"),
        Node(3, 1, "12 + 2 = 14.\n", visits=4, value=1.0, terminal=True, verdict=RIGHT),
        Node(4, 1, HOSTILE, visits=2, value=0.3, terminal=True, verdict=WRONG),
    )
    return Tree("p1", "What is 3 * 4 + 2?", "14", ASK, nodes, "puct", "budget", 9, 20, 200)


def solution() -> ValuedSolution:
    steps = (Step("3 * 4 = 12.\n", rolls(7, 1)), Step("12 + 2 = 15.\n", rolls(0, 8)), Step("It is 15."))
    return ValuedSolution(
        "p1/0", "p1", "What is 3 * 4 + 2?", "14", ASK, steps, WRONG, "fixed", "done", rolls(4, 4), (), 1
    )


def on_page(tmp_path: Path, look: Callable[[Page], Awaitable[None]]) -> None:
    file = tmp_path / "page.html"
    rows = [to_frame([r], type(r)).row(0, named=True) for r in (tree(), solution())]
    file.write_text(html([d for d in map(drawing, rows) if d is not None]))

    async def main() -> None:
        async with opened(file.as_uri(), tmp_path / "profile") as page:
            await look(page)
            assert page.errors == []
            assert [r for r in page.requests if not r.startswith("file:")] == []

    asyncio.run(main())


@needs_browser
def test_a_click_on_a_node_shows_its_prefix_rollouts_and_statistics(tmp_path: Path) -> None:
    async def look(page: Page) -> None:
        assert await page.ask("document.querySelectorAll('g.node').length") == 5
        await page.click("[data-node='2']")
        assert await page.ask("document.getElementById('prefix').textContent") == "3 * 4 = 7.\n"
        statistics = await page.ask("document.getElementById('statistics').innerText")
        assert "0 of 4" in statistics and "first error" in statistics and "0.1" in statistics
        assert await page.ask("document.querySelectorAll('#rollouts details').length") == 4
        await page.click("[data-node='3']")
        assert await page.ask("document.getElementById('prefix').textContent") == (
            "3 * 4 = 12.\n12 + 2 = 14.\n"
        )
        assert await page.ask("location.hash") == "#0.3"

    on_page(tmp_path, look)


@needs_browser
def test_keys_move_along_the_tree_and_the_list_changes_the_problem(tmp_path: Path) -> None:
    async def look(page: Page) -> None:
        await page.click("[data-node='0']")
        for key, expected in (("ArrowRight", "#0.1"), ("ArrowDown", "#0.2"), ("ArrowLeft", "#0.0")):
            await page.press(key)
            assert await page.ask("location.hash") == expected
        await page.ask(
            "const c = document.getElementById('choose'); c.value = 1; c.dispatchEvent(new Event('change'))"
        )
        assert await page.ask("document.querySelectorAll('g.node').length") == 4

    on_page(tmp_path, look)


@needs_browser
def test_a_hostile_text_stays_text(tmp_path: Path) -> None:
    async def look(page: Page) -> None:
        await page.click("[data-node='4']")
        assert await page.ask("document.getElementById('prefix').lastChild.textContent") == SHOWN
        assert await page.ask("[document.images.length, typeof window.hurt]") == [0, "undefined"]

    on_page(tmp_path, look)


@needs_browser
def test_good_and_bad_values_are_told_apart_by_colour(tmp_path: Path) -> None:
    async def look(page: Page) -> None:
        fills = await page.ask(
            "[1, 2, 3].map(i => document.querySelector(`[data-node='${i}'] rect.box`).getAttribute('fill'))"
        )
        assert len(set(fills)) == 3

    on_page(tmp_path, look)


def test_a_drawing_of_a_solution_has_its_counts_intervals_and_end() -> None:
    drawn = drawing(to_frame([solution()], ValuedSolution).row(0, named=True))
    assert drawn is not None
    start, first, second, last = drawn.marks
    assert (start.value, first.value, second.value, last.value) == (0.5, 0.875, 0.0, 0.0)
    assert (first.correct, first.decided) == (7, 8)
    assert first.low is not None and first.high is not None and first.low < 0.875 < first.high
    assert second.note == "first error" and last.outcome == "incorrect" and last.terminal


def test_the_best_path_of_a_tree_ends_in_a_right_leaf() -> None:
    drawn = drawing(to_frame([tree()], Tree).row(0, named=True))
    assert drawn is not None
    assert [m.path for m in drawn.marks] == [True, True, False, True, False]


def test_values_below_zero_change_the_scale() -> None:
    row = ProcessRow(
        "a", "p", "?", ASK, ("x", "y"), (-0.5, 0.5), (0, 0), (0, 0), (0.0, 0.0), (1.0, 1.0), "implicit(0.05)"
    )
    drawn = drawing(to_frame([row], ProcessRow).row(0, named=True))
    assert drawn is not None and drawn.scale == (-1.0, 1.0)
    assert goodness(-0.5, drawn.scale) == 0.25 and goodness(None, drawn.scale) is None
    assert drawn.marks[1].low is None  # a value that was not sampled has no interval


def test_a_row_of_another_kind_is_no_drawing() -> None:
    assert drawing({"id": "a", "problem": "b"}) is None


def test_the_terminal_shows_each_step_in_the_colour_of_its_value() -> None:
    text = render(to_frame([solution()], ValuedSolution).row(0, named=True))
    plain = text.plain
    assert "0.88 [0.53, 0.98] 7/8" in plain and "(first error)" in plain and "12 + 2 = 15." in plain
    styles = {plain[s.start : s.end]: str(s.style) for s in text.spans}
    assert styles["3 * 4 = 12."] != styles["12 + 2 = 15."]


def test_the_terminal_shows_a_tree_and_no_control_characters() -> None:
    hostile = from_frame(to_frame([tree()], Tree), Tree)[0]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render(to_frame([hostile], Tree).row(0, named=True)))
    shown = console.export_text()
    assert "1.00 n=4 correct" in shown and "‮" not in shown


def test_the_command_writes_the_page_of_the_last_stage_that_can_be_drawn(tmp_path: Path) -> None:
    stages: Stages = {
        "tree_search": (Tree, [tree()], ()),
        "step_values": (ValuedSolution, [solution()], ()),
        "source": (Problem, [Problem("p1", "q")], ()),
    }
    path, page = write_run(tmp_path / "run", stages), tmp_path / "new" / "page.html"
    for more, marked in (((), "the answer is incorrect"), (("--stage", "tree_search"), "puct, 5 nodes")):
        result = CliRunner().invoke(app, ["show", str(path), "--html", str(page), *more])
        assert (result.exit_code, result.output) == (0, f"1 drawn: {page}\n")
        written = page.read_text()
        assert marked in written and written.count("://") == 1  # the name of SVG
    with pytest.raises(RunError, match="does not hold"):
        write(open_run(path), page, stage="source")
    with pytest.raises(RunError, match="'tree_search'"):
        write(open_run(path), page, stage="tree_serch")
