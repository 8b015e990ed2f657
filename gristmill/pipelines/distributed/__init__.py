"""A recipe as tasks, on this machine or on datatrove's executors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.pipelines.distributed.submit import distribute

__all__ = ["distribute"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "distribute": ".submit",
    },
)
