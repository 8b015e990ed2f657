"""Methods over questions with passages: labels, rewards, searches (docs/rag-methods.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.synth.rag_methods.consistency import ParaphraseConsistency
    from gristmill.synth.rag_methods.curriculum import RankingCurriculum
    from gristmill.synth.rag_methods.evidence import EvidenceRewrites
    from gristmill.synth.rag_methods.memory import QuestionMemory
    from gristmill.synth.rag_methods.planning import PlannerRewards
    from gristmill.synth.rag_methods.ranking import RankingLabels
    from gristmill.synth.rag_methods.rationales import RationaleContexts, RationaleLabels
    from gristmill.synth.rag_methods.rewriting import AnswerMarginal
    from gristmill.synth.rag_methods.search import RetrievalSearch
    from gristmill.synth.rag_methods.search_pairs import RetrievalPairs
    from gristmill.synth.rag_methods.sub_questions import (
        CompositionalityGap,
        CompositionRow,
        SelfAsk,
        SubQuestions,
    )
    from gristmill.synth.rag_methods.summaries import CandidateSummaries
    from gristmill.synth.rag_methods.utility import PassageUtility

__all__ = [
    "AnswerMarginal",
    "CandidateSummaries",
    "CompositionRow",
    "CompositionalityGap",
    "EvidenceRewrites",
    "ParaphraseConsistency",
    "PassageUtility",
    "PlannerRewards",
    "QuestionMemory",
    "RankingCurriculum",
    "RankingLabels",
    "RationaleContexts",
    "RationaleLabels",
    "RetrievalPairs",
    "RetrievalSearch",
    "SelfAsk",
    "SubQuestions",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "AnswerMarginal": ".rewriting",
        "CandidateSummaries": ".summaries",
        "CompositionRow": ".sub_questions",
        "CompositionalityGap": ".sub_questions",
        "EvidenceRewrites": ".evidence",
        "ParaphraseConsistency": ".consistency",
        "PassageUtility": ".utility",
        "PlannerRewards": ".planning",
        "QuestionMemory": ".memory",
        "RankingCurriculum": ".curriculum",
        "RankingLabels": ".ranking",
        "RationaleContexts": ".rationales",
        "RationaleLabels": ".rationales",
        "RetrievalPairs": ".search_pairs",
        "RetrievalSearch": ".search",
        "SelfAsk": ".sub_questions",
        "SubQuestions": ".sub_questions",
    },
)
