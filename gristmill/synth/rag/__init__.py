"""Answers that rest on passages: retrieval, preference pairs by four metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.synth.rag.judging import JudgeMetrics
    from gristmill.synth.rag.metrics import majority
    from gristmill.synth.rag.pairs import RagPairs
    from gristmill.synth.rag.retrieve import Retrieve

__all__ = ["JudgeMetrics", "RagPairs", "Retrieve", "majority"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "JudgeMetrics": ".judging",
        "RagPairs": ".pairs",
        "Retrieve": ".retrieve",
        "majority": ".metrics",
    },
)
