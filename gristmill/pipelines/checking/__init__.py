"""What a trainer would choke on, or silently leave out, in a file of rows: ``gristmill check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.pipelines.checking.report import CheckReport, Example, check

__all__ = ["CheckReport", "Example", "check"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "CheckReport": ".report",
        "Example": ".report",
        "check": ".report",
    },
)
