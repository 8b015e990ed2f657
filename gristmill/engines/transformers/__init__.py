"""Models in this process by Hugging Face Transformers: slower than vLLM, and anywhere that torch is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.engines.transformers.causal import Transformers
    from gristmill.engines.transformers.cautious import Cautious
    from gristmill.engines.transformers.guiding import Guide
    from gristmill.engines.transformers.rewards import TransformersReward

__all__ = ["Cautious", "Guide", "Transformers", "TransformersReward"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Cautious": ".cautious",
        "Guide": ".guiding",
        "Transformers": ".causal",
        "TransformersReward": ".rewards",
    },
)
