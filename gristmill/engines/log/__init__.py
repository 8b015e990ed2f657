"""The completion log: every completion ever paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.engines.log.layers import LayeredLog
    from gristmill.engines.log.store import CompletionLog, request_key

__all__ = ["CompletionLog", "LayeredLog", "request_key"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "CompletionLog": ".store",
        "LayeredLog": ".layers",
        "request_key": ".store",
    },
)
