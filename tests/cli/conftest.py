"""The command in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from gristmill.cli.main import main


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The exit status of the command ``gristmill WORDS``."""

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["gristmill", *words])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0)

    return call
