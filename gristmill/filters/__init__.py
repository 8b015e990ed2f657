"""Table stages: filters decide which rows stay and say why the others do not, relations make other tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.filters.balance import Balance
    from gristmill.filters.combine import Arm, CompareArms, Concat, Mix, SamePrompts
    from gristmill.filters.contamination import Decontaminate
    from gristmill.filters.datatrove_blocks import Datatrove, datatrove_filter
    from gristmill.filters.derive import Derive, WithoutExamples
    from gristmill.filters.difficulty import (
        BalancedGroups,
        BalanceDomains,
        BalanceScore,
        Band,
        BestOf,
        Curriculum,
        PassRate,
        Recompose,
        SamplingBudget,
    )
    from gristmill.filters.duplicates import Dedupe, near_duplicates
    from gristmill.filters.expressions import SavedExpr, evaluate, mask, plain, shown
    from gristmill.filters.group import Explode, GroupBy
    from gristmill.filters.join import Join, Sides
    from gristmill.filters.kinds import BalanceKinds
    from gristmill.filters.preferences import (
        Adjudicate,
        Agreement,
        Annotators,
        ConditionOnReward,
        Consistency,
        Contradictions,
        Cycles,
        Disagreements,
        Hierarchy,
        LabelNoise,
        PeerReview,
        Ruling,
        Strength,
        Uncertainty,
        WeakAgainstStrong,
        WeakLabels,
        WeakSupervision,
    )
    from gristmill.filters.process_balance import ProcessBalance
    from gristmill.filters.quality import Quality, Redact
    from gristmill.filters.rewards import FiltrationFit, ShapeRewards, ShapeSteps
    from gristmill.filters.sort import Sort
    from gristmill.filters.split import SplitParts
    from gristmill.filters.take import Take
    from gristmill.filters.where import Keep

__all__ = [
    "Adjudicate",
    "Agreement",
    "Annotators",
    "Arm",
    "Balance",
    "BalanceDomains",
    "BalanceKinds",
    "BalanceScore",
    "BalancedGroups",
    "Band",
    "BestOf",
    "CompareArms",
    "Concat",
    "ConditionOnReward",
    "Consistency",
    "Contradictions",
    "Curriculum",
    "Cycles",
    "Datatrove",
    "Decontaminate",
    "Dedupe",
    "Derive",
    "Disagreements",
    "Explode",
    "FiltrationFit",
    "GroupBy",
    "Hierarchy",
    "Join",
    "Keep",
    "LabelNoise",
    "Mix",
    "PassRate",
    "PeerReview",
    "ProcessBalance",
    "Quality",
    "Recompose",
    "Redact",
    "Ruling",
    "SamePrompts",
    "SamplingBudget",
    "SavedExpr",
    "ShapeRewards",
    "ShapeSteps",
    "Sides",
    "Sort",
    "SplitParts",
    "Strength",
    "Take",
    "Uncertainty",
    "WeakAgainstStrong",
    "WeakLabels",
    "WeakSupervision",
    "WithoutExamples",
    "datatrove_filter",
    "evaluate",
    "mask",
    "near_duplicates",
    "plain",
    "shown",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Adjudicate": ".preferences",
        "Agreement": ".preferences",
        "Annotators": ".preferences",
        "Balance": ".balance",
        "BalanceDomains": ".difficulty",
        "BalanceKinds": ".kinds",
        "BalanceScore": ".difficulty",
        "BalancedGroups": ".difficulty",
        "Band": ".difficulty",
        "BestOf": ".difficulty",
        "Arm": ".combine",
        "CompareArms": ".combine",
        "Concat": ".combine",
        "Datatrove": ".datatrove_blocks",
        "Decontaminate": ".contamination",
        "Dedupe": ".duplicates",
        "Curriculum": ".difficulty",
        "ConditionOnReward": ".preferences",
        "Consistency": ".preferences",
        "Contradictions": ".preferences",
        "Cycles": ".preferences",
        "Derive": ".derive",
        "Disagreements": ".preferences",
        "Explode": ".group",
        "FiltrationFit": ".rewards",
        "GroupBy": ".group",
        "Hierarchy": ".preferences",
        "Join": ".join",
        "Keep": ".where",
        "LabelNoise": ".preferences",
        "Mix": ".combine",
        "SamePrompts": ".combine",
        "PassRate": ".difficulty",
        "ProcessBalance": ".process_balance",
        "Quality": ".quality",
        "Redact": ".quality",
        "Recompose": ".difficulty",
        "SamplingBudget": ".difficulty",
        "PeerReview": ".preferences",
        "Ruling": ".preferences",
        "SavedExpr": ".expressions",
        "ShapeRewards": ".rewards",
        "ShapeSteps": ".rewards",
        "Sides": ".join",
        "Sort": ".sort",
        "SplitParts": ".split",
        "Strength": ".preferences",
        "Take": ".take",
        "Uncertainty": ".preferences",
        "WeakAgainstStrong": ".preferences",
        "WeakLabels": ".preferences",
        "WeakSupervision": ".preferences",
        "WithoutExamples": ".derive",
        "datatrove_filter": ".datatrove_blocks",
        "evaluate": ".expressions",
        "mask": ".expressions",
        "near_duplicates": ".duplicates",
        "plain": ".expressions",
        "shown": ".expressions",
    },
)
