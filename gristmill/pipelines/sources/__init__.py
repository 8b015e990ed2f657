"""Where records come from: files, folders, the Hub, and former runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.pipelines.sources.source import Source

__all__ = ["Source"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Source": ".source",
    },
)
