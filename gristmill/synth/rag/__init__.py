"""Answers that rest on passages: retrieval, preference pairs by four metrics, rows for an encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.synth.rag.grounding_rows import GroundingRow, GroundingRows
    from gristmill.synth.rag.judging import JudgeMetrics
    from gristmill.synth.rag.metrics import majority
    from gristmill.synth.rag.pairs import RagPairs
    from gristmill.synth.rag.rerank import Rerank
    from gristmill.synth.rag.retrieve import Retrieve

__all__ = ["GroundingRow", "GroundingRows", "JudgeMetrics", "RagPairs", "Rerank", "Retrieve", "majority"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "GroundingRow": ".grounding_rows",
        "GroundingRows": ".grounding_rows",
        "JudgeMetrics": ".judging",
        "RagPairs": ".pairs",
        "Rerank": ".rerank",
        "Retrieve": ".retrieve",
        "majority": ".metrics",
    },
)
