"""Rows on the Hub: the files, their card, one commit, and what is behind a published row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.pipelines.publishing.pushing import Pushed, push
    from gristmill.pipelines.publishing.tracing import Trace, trace

__all__ = ["Pushed", "Trace", "push", "trace"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Pushed": ".pushing",
        "Trace": ".tracing",
        "push": ".pushing",
        "trace": ".tracing",
    },
)
