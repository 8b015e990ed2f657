"""How sure a model was of a sample, and whether its reasoning carries its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.synth.confidence.masked import MaskedConsistency
    from gristmill.synth.confidence.monitor import SelfMonitor
    from gristmill.synth.confidence.rationale import Rationale
    from gristmill.synth.confidence.scored import Confidence
    from gristmill.synth.confidence.tokens import (
        entropy,
        mean_logprob,
        min_logprob,
        perplexity,
        self_aligned,
        self_certainty,
    )

__all__ = [
    "Confidence",
    "MaskedConsistency",
    "Rationale",
    "SelfMonitor",
    "entropy",
    "mean_logprob",
    "min_logprob",
    "perplexity",
    "self_aligned",
    "self_certainty",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Confidence": ".scored",
        "MaskedConsistency": ".masked",
        "Rationale": ".rationale",
        "SelfMonitor": ".monitor",
        "entropy": ".tokens",
        "mean_logprob": ".tokens",
        "min_logprob": ".tokens",
        "perplexity": ".tokens",
        "self_aligned": ".tokens",
        "self_certainty": ".tokens",
    },
)
