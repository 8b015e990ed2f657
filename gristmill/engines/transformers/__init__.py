"""Models in this process by Hugging Face Transformers: slower than vLLM, and anywhere that torch is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.engines.transformers.causal import Transformers
    from gristmill.engines.transformers.rewards import TransformersReward

__all__ = ["Transformers", "TransformersReward"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Transformers": ".causal",
        "TransformersReward": ".rewards",
    },
)
