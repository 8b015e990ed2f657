"""Answers judged by the passages that they claim to rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.verifiers.grounding.verifier import Grounding, GroundingJudge

__all__ = ["Grounding", "GroundingJudge"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Grounding": ".verifier",
        "GroundingJudge": ".verifier",
    },
)
