"""Rows on the Hub: the files, their card, one commit, and what is behind a published row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.pipelines.publishing.push import Pushed, push
    from gristmill.pipelines.publishing.trace import Trace, trace

__all__ = ["Pushed", "Trace", "push", "trace"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Pushed": ".push",
        "Trace": ".trace",
        "push": ".push",
        "trace": ".trace",
    },
)
