"""Where records come from: files, folders, the Hub, and former runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.pipelines.sources.source import BadRow, Source

__all__ = ["BadRow", "Source"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "BadRow": ".source",
        "Source": ".source",
    },
)
