"""One browser for all tests of pages in a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import Chromium


@pytest.fixture(scope="session")
def browser() -> Iterator[Chromium]:
    found = Chromium()
    yield found
    found.close()
