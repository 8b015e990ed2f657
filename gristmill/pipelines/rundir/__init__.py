"""The directory of a run: its files, its summary, and how it is read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.pipelines.rundir.results import Run, open_run
    from gristmill.pipelines.rundir.summary import Summary

__all__ = ["Run", "Summary", "open_run"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Run": ".results",
        "Summary": ".summary",
        "open_run": ".results",
    },
)
