"""Raters: judges whose verdict has parts, traces or tools, and those that rate several answers together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.verifiers.raters.attributes import AttributeRatings, PreferenceJudge
    from gristmill.verifiers.raters.base import ListRating, Rated
    from gristmill.verifiers.raters.critiques import Critiques
    from gristmill.verifiers.raters.instructed import InstructedJudge, JudgePrompt
    from gristmill.verifiers.raters.listwise import Bootstrapped, PrincipleRanking
    from gristmill.verifiers.raters.reasoned import ReasonedJudge
    from gristmill.verifiers.raters.segments import Segments
    from gristmill.verifiers.raters.tooled import ToolJudge
    from gristmill.verifiers.raters.weighted import WeightedRubric

__all__ = [
    "AttributeRatings",
    "Bootstrapped",
    "Critiques",
    "InstructedJudge",
    "JudgePrompt",
    "ListRating",
    "PreferenceJudge",
    "PrincipleRanking",
    "Rated",
    "ReasonedJudge",
    "Segments",
    "ToolJudge",
    "WeightedRubric",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "AttributeRatings": ".attributes",
        "Bootstrapped": ".listwise",
        "Critiques": ".critiques",
        "InstructedJudge": ".instructed",
        "JudgePrompt": ".instructed",
        "ListRating": ".base",
        "PreferenceJudge": ".attributes",
        "PrincipleRanking": ".listwise",
        "Rated": ".base",
        "ReasonedJudge": ".reasoned",
        "Segments": ".segments",
        "ToolJudge": ".tooled",
        "WeightedRubric": ".weighted",
    },
)
