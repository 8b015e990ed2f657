"""Curating preference pairs without asking a model: by their scores, critiques, annotators and cycles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.filters.preferences.agreement import Agreement
    from gristmill.filters.preferences.annotators import Annotators
    from gristmill.filters.preferences.conditioning import ConditionOnReward
    from gristmill.filters.preferences.consistency import Consistency, rank_consistency
    from gristmill.filters.preferences.contradictions import Contradictions
    from gristmill.filters.preferences.critiques import stance
    from gristmill.filters.preferences.cycles import Cycles
    from gristmill.filters.preferences.disagreements import Adjudicate, Disagreements, Ruling
    from gristmill.filters.preferences.hierarchy import Hierarchy, HierarchyLevel
    from gristmill.filters.preferences.noise import LabelNoise
    from gristmill.filters.preferences.peer_review import PeerReview
    from gristmill.filters.preferences.scores import PairScores, read_scores
    from gristmill.filters.preferences.strength import Strength
    from gristmill.filters.preferences.uncertainty import Uncertainty
    from gristmill.filters.preferences.weak_labels import WeakAgainstStrong, WeakBin, WeakLabels
    from gristmill.filters.preferences.weak_supervision import WeakSupervision

__all__ = [
    "Adjudicate",
    "Agreement",
    "Annotators",
    "ConditionOnReward",
    "Consistency",
    "Contradictions",
    "Cycles",
    "Disagreements",
    "Hierarchy",
    "HierarchyLevel",
    "LabelNoise",
    "PairScores",
    "PeerReview",
    "Ruling",
    "Strength",
    "Uncertainty",
    "WeakAgainstStrong",
    "WeakBin",
    "WeakLabels",
    "WeakSupervision",
    "rank_consistency",
    "read_scores",
    "stance",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Adjudicate": ".disagreements",
        "Agreement": ".agreement",
        "Annotators": ".annotators",
        "ConditionOnReward": ".conditioning",
        "Consistency": ".consistency",
        "Contradictions": ".contradictions",
        "Cycles": ".cycles",
        "Disagreements": ".disagreements",
        "Hierarchy": ".hierarchy",
        "LabelNoise": ".noise",
        "HierarchyLevel": ".hierarchy",
        "PairScores": ".scores",
        "PeerReview": ".peer_review",
        "Ruling": ".disagreements",
        "Strength": ".strength",
        "Uncertainty": ".uncertainty",
        "WeakAgainstStrong": ".weak_labels",
        "WeakBin": ".weak_labels",
        "WeakLabels": ".weak_labels",
        "WeakSupervision": ".weak_supervision",
        "rank_consistency": ".consistency",
        "read_scores": ".scores",
        "stance": ".critiques",
    },
)
