"""Judges at work: scorers that ask one, samples rated together, and what judges wrote as training data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.synth.judged.principles import ExtractPrinciples, PrincipleRow
    from gristmill.synth.judged.refine import RefineJudgePrompt
    from gristmill.synth.judged.scores import (
        AttributeScore,
        ChecklistScore,
        CritiqueScore,
        JudgeScore,
        PreferenceScore,
        PrincipleScore,
        ReasonedScore,
        RubricScore,
        SegmentScore,
        SelfCheck,
        ToolScore,
    )
    from gristmill.synth.judged.together import RateTogether, Stick
    from gristmill.synth.judged.traces import AgreedLabels, JudgePairTraces, JudgeTraces, VerifierRow

__all__ = [
    "AgreedLabels",
    "AttributeScore",
    "ChecklistScore",
    "CritiqueScore",
    "ExtractPrinciples",
    "JudgePairTraces",
    "JudgeScore",
    "JudgeTraces",
    "PreferenceScore",
    "PrincipleRow",
    "PrincipleScore",
    "RateTogether",
    "ReasonedScore",
    "RefineJudgePrompt",
    "RubricScore",
    "SegmentScore",
    "SelfCheck",
    "Stick",
    "ToolScore",
    "VerifierRow",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "AgreedLabels": ".traces",
        "AttributeScore": ".scores",
        "ChecklistScore": ".scores",
        "CritiqueScore": ".scores",
        "ExtractPrinciples": ".principles",
        "JudgePairTraces": ".traces",
        "JudgeScore": ".scores",
        "JudgeTraces": ".traces",
        "PreferenceScore": ".scores",
        "PrincipleRow": ".principles",
        "PrincipleScore": ".scores",
        "RateTogether": ".together",
        "ReasonedScore": ".scores",
        "RefineJudgePrompt": ".refine",
        "RubricScore": ".scores",
        "SegmentScore": ".scores",
        "SelfCheck": ".scores",
        "Stick": ".together",
        "ToolScore": ".scores",
        "VerifierRow": ".traces",
    },
)
