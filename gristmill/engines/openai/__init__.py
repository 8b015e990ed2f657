"""Servers that speak the OpenAI chat completions protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.engines.openai.engine import OpenAI, OpenAIEngine

__all__ = ["OpenAI", "OpenAIEngine"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "OpenAI": ".engine",
        "OpenAIEngine": ".engine",
    },
)
