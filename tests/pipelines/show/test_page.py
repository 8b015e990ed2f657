"""The page of trees and steps, in a real headless browser."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import Chromium, needs_browser
from pages_of import ASK, HOSTILE, solution, tree
from rich.console import Console
from typer.testing import CliRunner
from written_runs import Stages, write_run

from gristmill.cli.main import app
from gristmill.core.errors import RunError
from gristmill.core.records import Problem
from gristmill.core.schema import from_frame, to_frame
from gristmill.core.steps import ProcessRow, Tree, ValuedSolution
from gristmill.pipelines.rundir.results import open_run
from gristmill.pipelines.show.drawing import drawing, goodness
from gristmill.pipelines.show.page import html, write
from gristmill.pipelines.show.terminal import render

if TYPE_CHECKING:
    from playwright.sync_api import Page

SHOWN = HOSTILE.replace("\N{RIGHT-TO-LEFT OVERRIDE}", "U+202E")


def on_page(browser: Chromium, tmp_path: Path, look: Callable[[Page], None]) -> None:
    file = tmp_path / "page.html"
    rows = [to_frame([r], type(r)).row(0, named=True) for r in (tree(), solution())]
    file.write_text(html([d for d in map(drawing, rows) if d is not None]))
    browser.look(file.as_uri(), look)


@needs_browser
def test_a_click_on_a_node_shows_its_prefix_rollouts_and_statistics(
    browser: Chromium, tmp_path: Path
) -> None:
    def look(page: Page) -> None:
        assert page.locator("g.node").count() == 5
        page.click("[data-node='2']")
        assert page.locator("#prefix").text_content() == "3 * 4 = 7.\n"
        statistics = page.inner_text("#statistics")
        assert "0 of 4" in statistics and "first error" in statistics and "0.1" in statistics
        assert page.locator("#rollouts details").count() == 4
        page.click("[data-node='3']")
        assert page.locator("#prefix").text_content() == "3 * 4 = 12.\n12 + 2 = 14.\n"
        assert page.evaluate("location.hash") == "#0.3"

    on_page(browser, tmp_path, look)


@needs_browser
def test_keys_move_along_the_tree_and_the_list_changes_the_problem(browser: Chromium, tmp_path: Path) -> None:
    def look(page: Page) -> None:
        page.click("[data-node='0']")
        for key, expected in (("ArrowRight", "#0.1"), ("ArrowDown", "#0.2"), ("ArrowLeft", "#0.0")):
            page.keyboard.press(key)
            assert page.evaluate("location.hash") == expected
        page.select_option("#choose", "1")
        assert page.locator("g.node").count() == 4

    on_page(browser, tmp_path, look)


@needs_browser
def test_a_hostile_text_stays_text(browser: Chromium, tmp_path: Path) -> None:
    def look(page: Page) -> None:
        page.click("[data-node='4']")
        assert page.locator("#prefix > :last-child").text_content() == SHOWN
        assert page.evaluate("[document.images.length, typeof window.hurt]") == [0, "undefined"]

    on_page(browser, tmp_path, look)


@needs_browser
def test_good_and_bad_values_are_told_apart_by_colour(browser: Chromium, tmp_path: Path) -> None:
    def look(page: Page) -> None:
        fills = [page.locator(f"[data-node='{i}'] rect.box").get_attribute("fill") for i in (1, 2, 3)]
        assert len(set(fills)) == 3

    on_page(browser, tmp_path, look)


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
