"""The report's page in a real headless browser: every control, every kind of row, attacks, a telephone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser import Chromium, needs_browser
from pages_of import a_run

from gristmill.pipelines.show.report import html
from gristmill.pipelines.show.subject import open_subject

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = needs_browser
ATTACKS = (
    "</script><script>window.hurt = 1</script>",
    "<img src=x onerror='window.hurt = 1'>",
    "<!-- <svg onload=window.hurt=1>",
    "javascript:window.hurt=1 {{constructor}} ${window.hurt=1} __SCRIPT__",
    "line\u2028separator \u202eesrever\u202c \x1b[31mred\x1b[0m \x00 nul \u200b",
    "</style><style>*{display:none}</style>",
)


@pytest.fixture
def look(browser: Chromium, tmp_path: Path) -> Callable[..., None]:
    def opened(act: Callable[[Page], None], *paths: Path, at: str = "", **options: Any) -> None:
        file = tmp_path / "report.html"
        subjects = [open_subject(str(path)) for path in paths or (a_run(tmp_path / "r"),)]
        file.write_text(html(subjects), encoding="utf-8")
        browser.look(file.as_uri() + at, act, **options)

    return opened


def choose(page: Page, name: str, label: str) -> None:
    """Choose the option of a list that begins with ``label``."""
    values = page.locator(f"#{name} option").all()
    page.select_option(
        f"#{name}", next(o.get_attribute("value") for o in values if o.inner_text().startswith(label))
    )


def test_the_overview_leads_to_the_rows(look: Callable[..., None]) -> None:
    def act(page: Page) -> None:
        said = page.inner_text("#overview")
        for told in (
            "2 rows came in at 'sample'",
            "1 unparseable (undecided)",
            "$0.25",
            "taken from the log",
        ):
            assert told in said, told
        assert page.locator("#plots svg").count() > 1
        page.select_option("#figures-of", "kept")
        assert "Score: It is 6." in page.inner_text("#plots")
        page.click("button:text('1 It is 6.')")
        assert page.inner_text("#matching") == "1 row of 8 on this page."
        assert "Rejected: It is 6." in page.inner_text(
            "#row"
        ) and "as it came to this stage" in page.inner_text("#row")
        page.click("#to-overview")
        assert page.is_visible("#overview") and not page.is_visible("#rows")
        page.click("th button:text-is('kept')")
        assert page.inner_text("#matching") == "1 row of 8 on this page."

    look(act)


def test_every_kind_of_row_is_shown_as_what_it_is(look: Callable[..., None]) -> None:
    def act(page: Page) -> None:
        page.click("#to-rows")
        assert page.locator("#row ins").all_inner_texts() == ["5."]  # the last stage comes first: pairs
        assert page.locator("#row del").all_inner_texts() == ["6."]
        page.click("#diff")
        assert page.locator("#row ins").count() == 0 and "a It is 5. c" in page.inner_text("#row .chosen")
        choose(page, "table", "turns")
        assert page.inner_text(".turn.trained .text >> nth=-1") == "It is 5."
        colours = page.eval_on_selector_all(".turn > .text", "ts => ts.map(t => getComputedStyle(t).color)")
        assert colours[0] != colours[1] and "not trained" in page.inner_text(".turn.untrained")
        assert not page.is_visible(".thought .text")
        page.click(".thought summary")
        assert page.inner_text(".thought .text") == "It is 6."
        choose(page, "table", "steps")
        assert page.locator(".step .value").all_inner_texts() == ["0.50", "0.88", "0.00", "0.00"]
        choose(page, "table", "tree")
        page.click("[data-node='3']")
        assert page.locator("#prefix").text_content() == "3 * 4 = 12.\n12 + 2 = 14.\n"
        page.keyboard.press("ArrowLeft")
        assert page.locator("#node").inner_text().count("Node 1, depth 1") == 1

    look(act)


def test_search_filters_and_keys(look: Callable[..., None], tmp_path: Path) -> None:
    path = a_run(tmp_path / "many", ["It is 5.", *(f"It is {n}." for n in range(100, 400))])

    def act(page: Page) -> None:
        page.keyboard.press("/")
        page.keyboard.type("It is 250.")
        page.click("#clear")
        page.fill("#search", "IS 250.")
        assert page.inner_text("#matching").startswith("2 rows of 606")
        page.keyboard.press("Escape")
        page.keyboard.press("j")
        assert page.inner_text("#row h2").startswith("p151/0")
        page.click("#clear")
        choose(page, "table", "sample")
        choose(page, "verdict", "unparseable")
        assert page.inner_text("#matching").startswith("100 rows")
        choose(page, "table", "kept (rejected)")
        assert not page.is_visible("#kind")
        choose(page, "reason", "It is 399.")
        assert page.locator("#list li").count() == 1
        page.click("#clear")
        assert page.locator("#list [data-at]").count() == 200
        page.click("#more")
        assert page.locator("#list [data-at]").count() == 400
        page.fill("#search", "nothing like this")
        assert "No row matches" in page.inner_text("#list") and page.inner_text("#row") == ""
        page.fill("#search", "")
        page.keyboard.press("Escape")
        for _ in range(3):
            page.keyboard.press("j")
        page.keyboard.press("k")
        assert page.locator("#list [aria-current]").get_attribute("data-at") == "2"
        page.focus("#list [aria-current]")
        page.keyboard.press("ArrowDown")
        assert page.locator("#list button:focus").get_attribute("data-at") == "3"
        page.keyboard.press("?")
        assert page.is_visible("#help") and "the next row" in page.inner_text("#help")
        page.click("#help-close")
        page.keyboard.press("o")
        assert page.is_visible("#overview")
        before = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#theme")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
        page.keyboard.press("t")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == before

    look(act, path)


def test_an_address_leads_to_a_row(look: Callable[..., None]) -> None:
    def act(page: Page) -> None:
        assert page.inner_text("#row h2") == "p1/0" and page.is_visible("#rows")

    look(act, at="#row/0/p1%2F0")


def test_no_text_becomes_markup_or_a_script_anywhere(look: Callable[..., None], tmp_path: Path) -> None:
    path = a_run(tmp_path / "attacked", ATTACKS)

    def act(page: Page) -> None:
        page.click("#to-rows")
        page.click("#clear")
        for _ in range(page.locator("#list [data-at]").count()):
            page.keyboard.press("j")
            for one in page.locator("#row details:not([open]) > summary").all():
                one.click()
        found = (
            "document.images.length, document.scripts.length, document.querySelectorAll('style, a').length"
        )
        harm = page.evaluate(f"[typeof window.hurt, {found}]")
        assert harm == ["undefined", 0, 2, 1]
        shown = page.inner_text("body")
        assert "\u202e" not in shown and "\x1b" not in shown
        choose(page, "table", "sample")
        page.fill("#search", "esrever")
        for told in ("U+202E", "U+001B", "U+0000", "U+2028", "U+200B"):
            assert told in page.inner_text("#row"), told
        page.click("#to-overview")
        assert ATTACKS[1] in page.inner_text("#overview")

    look(act, path)


def test_two_runs_are_compared_and_a_row_leads_to_its_like(look: Callable[..., None], tmp_path: Path) -> None:
    one, other = a_run(tmp_path / "one"), a_run(tmp_path / "other", ("It is 5.", "It is 7.", "It is 8."))

    def act(page: Page) -> None:
        table = page.inner_text("#overview .wide >> nth=0")
        assert "sample\t2\t3\t+1" in table and "kept\t1\t1\t+0" in table
        assert "one: chosen" in page.inner_text("#plots") or "one" in page.inner_text("#plots")
        page.click("#to-rows")
        choose(page, "table", "one: sample")
        page.keyboard.press("j")
        page.click("#other")
        assert "other: sample" in page.inner_text("#row .key >> nth=0") and "It is 7." in page.inner_text(
            "#row"
        )

    look(act, one, other)


def test_nothing_is_wider_than_a_telephone_and_dark_is_taken_from_the_system(
    look: Callable[..., None],
) -> None:
    def act(page: Page) -> None:
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 27)"
        page.click("#to-rows")
        page.click("#clear")
        wide = []
        for _ in range(page.locator("#list [data-at]").count()):
            page.keyboard.press("j")
            wide.append(page.evaluate("document.documentElement.scrollWidth - innerWidth"))
        page.keyboard.press("o")
        assert max(*wide, page.evaluate("document.documentElement.scrollWidth - innerWidth")) <= 0

    look(act, viewport={"width": 400, "height": 800}, color_scheme="dark")
