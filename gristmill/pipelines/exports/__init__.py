"""Records as the rows that trainers read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.core.exports import Export
    from gristmill.pipelines.exports.base import (
        AxolotlChat,
        TrlDpo,
        TrlDpoWeighted,
        TrlPromptCompletion,
        TrlSft,
        write,
    )
    from gristmill.pipelines.exports.questions import PairQuestions
    from gristmill.pipelines.exports.stepwise import ErPrmText, PrmRows, StepActionRows, TrlStepwise
    from gristmill.pipelines.exports.text import TextCompletionExport, TextExport

__all__ = [
    "AxolotlChat",
    "ErPrmText",
    "Export",
    "PairQuestions",
    "PrmRows",
    "StepActionRows",
    "TextCompletionExport",
    "TextExport",
    "TrlDpo",
    "TrlDpoWeighted",
    "TrlPromptCompletion",
    "TrlSft",
    "TrlStepwise",
    "write",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "AxolotlChat": ".base",
        "ErPrmText": ".stepwise",
        "Export": "gristmill.core.exports",
        "PairQuestions": ".questions",
        "PrmRows": ".stepwise",
        "StepActionRows": ".stepwise",
        "TextCompletionExport": ".text",
        "TextExport": ".text",
        "TrlDpo": ".base",
        "TrlDpoWeighted": ".base",
        "TrlPromptCompletion": ".base",
        "TrlSft": ".base",
        "TrlStepwise": ".stepwise",
        "write": ".base",
    },
)
