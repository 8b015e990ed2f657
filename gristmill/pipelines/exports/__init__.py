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
    )
    from gristmill.pipelines.exports.chats import (
        Alpaca,
        LlamaFactoryOpenAi,
        LlamaFactoryShareGpt,
        OpenRlhfSft,
        ShareGpt,
        VerlSft,
    )
    from gristmill.pipelines.exports.columns import Rows
    from gristmill.pipelines.exports.environments import NemoGym, VerifiersTasks
    from gristmill.pipelines.exports.feedback import FeedbackRows, PairQuestions
    from gristmill.pipelines.exports.judged import (
        JudgePrompts,
        PrincipleRows,
        ScoredAnswers,
        SegmentRows,
        VerifierRows,
    )
    from gristmill.pipelines.exports.llama_factory import LlamaFactoryKto, LlamaFactoryRanking
    from gristmill.pipelines.exports.preference import Ties, TrlDpo, TrlDpoWeighted, TrlKto
    from gristmill.pipelines.exports.problems import (
        OpenRlhfPrompts,
        TrlPrompts,
        UrpoPairs,
        UrpoProblems,
        VerlPrompts,
    )
    from gristmill.pipelines.exports.sides import AxolotlDpo, AxolotlKto, OpenRlhfDpo, TrlReward
    from gristmill.pipelines.exports.stepwise import ErPrmText, PrmRows, StepActionRows, TrlStepwise
    from gristmill.pipelines.exports.text import GroundingClaims, TextCompletionExport, TextExport
    from gristmill.pipelines.exports.writing import write

__all__ = [
    "Alpaca",
    "AxolotlChat",
    "AxolotlDpo",
    "AxolotlKto",
    "ErPrmText",
    "Export",
    "FeedbackRows",
    "GroundingClaims",
    "JudgePrompts",
    "LlamaFactoryKto",
    "LlamaFactoryOpenAi",
    "LlamaFactoryRanking",
    "LlamaFactoryShareGpt",
    "NemoGym",
    "OpenRlhfDpo",
    "OpenRlhfPrompts",
    "OpenRlhfSft",
    "PairQuestions",
    "PrincipleRows",
    "PrmRows",
    "Rows",
    "ScoredAnswers",
    "SegmentRows",
    "ShareGpt",
    "StepActionRows",
    "TextCompletionExport",
    "TextExport",
    "Ties",
    "TrlDpo",
    "TrlDpoWeighted",
    "TrlKto",
    "TrlPromptCompletion",
    "TrlPrompts",
    "TrlReward",
    "TrlSft",
    "TrlStepwise",
    "UrpoPairs",
    "UrpoProblems",
    "VerifierRows",
    "VerifiersTasks",
    "VerlPrompts",
    "VerlSft",
    "write",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "AxolotlChat": ".base",
        "ErPrmText": ".stepwise",
        "FeedbackRows": ".feedback",
        "Export": "gristmill.core.exports",
        "GroundingClaims": ".text",
        "JudgePrompts": ".judged",
        "PrincipleRows": ".judged",
        "PairQuestions": ".feedback",
        "PrmRows": ".stepwise",
        "ScoredAnswers": ".judged",
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
        "Alpaca": ".chats",
        "LlamaFactoryOpenAi": ".chats",
        "LlamaFactoryShareGpt": ".chats",
        "OpenRlhfSft": ".chats",
        "ShareGpt": ".chats",
        "VerlSft": ".chats",
        "Rows": ".columns",
        "LlamaFactoryKto": ".llama_factory",
        "LlamaFactoryRanking": ".llama_factory",
        "OpenRlhfPrompts": ".problems",
        "TrlPrompts": ".problems",
        "UrpoPairs": ".problems",
        "UrpoProblems": ".problems",
        "VerifiersTasks": ".environments",
        "VerlPrompts": ".problems",
        "AxolotlDpo": ".sides",
        "AxolotlKto": ".sides",
        "NemoGym": ".environments",
        "OpenRlhfDpo": ".sides",
        "TrlReward": ".sides",
        "write": ".writing",
    },
)
