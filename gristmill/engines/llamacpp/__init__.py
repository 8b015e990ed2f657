"""The embedded engine: llama.cpp in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.engines.llamacpp.engine import LlamaCpp

__all__ = ["LlamaCpp"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "LlamaCpp": ".engine",
    },
)
