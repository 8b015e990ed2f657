"""File-based batch APIs as engines: half the price, answers within a day, requests that outlive a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.engines.batch.anthropic import AnthropicBatch
    from gristmill.engines.batch.openai import OpenAIBatch

__all__ = ["AnthropicBatch", "OpenAIBatch"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "AnthropicBatch": ".anthropic",
        "OpenAIBatch": ".openai",
    },
)
