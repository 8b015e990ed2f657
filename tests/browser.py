"""The machine's own Chromium, headless and driven by Playwright, for tests of pages.

Playwright's browsers are not downloaded: what a distribution packages is tested with, where it is there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or find_spec("playwright") is None,
    reason="a test of a page needs chromium (from the distribution) and playwright (from the extra dev)",
)


class Chromium:
    """A browser in a thread of its own, since Playwright leaves an event loop running in its thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._driver, self._browser = self._thread.submit(_started).result()

    def close(self) -> None:
        """End the browser and what drives it."""
        self._thread.submit(self._browser.close).result()
        self._thread.submit(self._driver.stop).result()
        self._thread.shutdown()

    def look(self, url: str, act: Callable[[Page], None], **options: Any) -> None:
        """Open ``url`` in a profile of its own and call ``act`` with the page. Fails where the page writes to
        the console, throws, or asks for anything that is not at its own address."""
        self._thread.submit(self._look, url, act, options).result()

    def _look(self, url: str, act: Callable[[Page], None], options: dict[str, Any]) -> None:
        context = self._browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        context.set_default_timeout(10_000)
        said: list[str] = []
        asked: list[str] = []
        try:
            page = context.new_page()
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(url)
            act(page)
        finally:
            context.close()
        own = url.partition("#")[0]
        assert said == [] and [one for one in asked if not one.startswith(own)] == []


def _started() -> tuple[Playwright, Browser]:
    from playwright.sync_api import sync_playwright

    driver = sync_playwright().start()
    return driver, driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
