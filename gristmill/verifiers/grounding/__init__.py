"""Answers judged by the passages that they claim to rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.verifiers.grounding.spans import UnsupportedSpan, span_columns, unsupported_spans
    from gristmill.verifiers.grounding.verifier import Grounding, GroundingJudge

__all__ = ["Grounding", "GroundingJudge", "UnsupportedSpan", "span_columns", "unsupported_spans"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Grounding": ".verifier",
        "GroundingJudge": ".verifier",
        "UnsupportedSpan": ".spans",
        "span_columns": ".spans",
        "unsupported_spans": ".spans",
    },
)
