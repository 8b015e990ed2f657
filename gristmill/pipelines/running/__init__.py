"""A recipe at work: engines, stages, progress, and how it stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.pipelines.running.runner import Interrupted, run

__all__ = ["Interrupted", "run"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Interrupted": ".runner",
        "run": ".runner",
    },
)
