"""Records as the rows that trainers read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.core.exports import Export
    from gristmill.pipelines.exports.base import (
        AxolotlChat,
        TrlPromptCompletion,
        TrlSft,
        write,
    )
    from gristmill.pipelines.exports.judged import JudgePrompts, PrincipleRows, SegmentRows, VerifierRows
    from gristmill.pipelines.exports.preference import Ties, TrlDpo, TrlDpoWeighted, TrlKto
    from gristmill.pipelines.exports.questions import PairQuestions
    from gristmill.pipelines.exports.stepwise import ErPrmText, PrmRows, StepActionRows, TrlStepwise
    from gristmill.pipelines.exports.text import TextCompletionExport, TextExport

__all__ = [
    "AxolotlChat",
    "ErPrmText",
    "Export",
    "JudgePrompts",
    "PairQuestions",
    "PrincipleRows",
    "PrmRows",
    "SegmentRows",
    "StepActionRows",
    "TextCompletionExport",
    "TextExport",
    "Ties",
    "TrlDpo",
    "TrlDpoWeighted",
    "TrlKto",
    "TrlPromptCompletion",
    "TrlSft",
    "TrlStepwise",
    "VerifierRows",
    "write",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "AxolotlChat": ".base",
        "ErPrmText": ".stepwise",
        "Export": "gristmill.core.exports",
        "JudgePrompts": ".judged",
        "PrincipleRows": ".judged",
        "PairQuestions": ".questions",
        "PrmRows": ".stepwise",
        "SegmentRows": ".judged",
        "StepActionRows": ".stepwise",
        "TextCompletionExport": ".text",
        "TextExport": ".text",
        "Ties": ".preference",
        "TrlDpo": ".preference",
        "TrlDpoWeighted": ".preference",
        "TrlKto": ".preference",
        "TrlPromptCompletion": ".base",
        "TrlSft": ".base",
        "TrlStepwise": ".stepwise",
        "VerifierRows": ".judged",
        "write": ".base",
    },
)
