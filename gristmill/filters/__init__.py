"""Table stages: filters decide which rows stay and say why the others do not, relations make other tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.filters.balance import Balance
    from gristmill.filters.combine import Concat, Mix
    from gristmill.filters.contamination import Decontaminate
    from gristmill.filters.derive import Derive
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
    from gristmill.filters.process_balance import ProcessBalance
    from gristmill.filters.rewards import ShapeRewards
    from gristmill.filters.sort import Sort
    from gristmill.filters.split import SplitParts
    from gristmill.filters.take import Take
    from gristmill.filters.where import Keep

__all__ = [
    "Balance",
    "BalanceDomains",
    "BalanceKinds",
    "BalanceScore",
    "BalancedGroups",
    "Band",
    "BestOf",
    "Concat",
    "Curriculum",
    "Decontaminate",
    "Dedupe",
    "Derive",
    "Explode",
    "GroupBy",
    "Join",
    "Keep",
    "Mix",
    "PassRate",
    "ProcessBalance",
    "Recompose",
    "SamplingBudget",
    "SavedExpr",
    "ShapeRewards",
    "Sides",
    "Sort",
    "SplitParts",
    "Take",
    "evaluate",
    "mask",
    "near_duplicates",
    "plain",
    "shown",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Balance": ".balance",
        "BalanceDomains": ".difficulty",
        "BalanceKinds": ".kinds",
        "BalanceScore": ".difficulty",
        "BalancedGroups": ".difficulty",
        "Band": ".difficulty",
        "BestOf": ".difficulty",
        "Concat": ".combine",
        "Decontaminate": ".contamination",
        "Dedupe": ".duplicates",
        "Curriculum": ".difficulty",
        "Derive": ".derive",
        "Explode": ".group",
        "GroupBy": ".group",
        "Join": ".join",
        "Keep": ".where",
        "Mix": ".combine",
        "PassRate": ".difficulty",
        "ProcessBalance": ".process_balance",
        "Recompose": ".difficulty",
        "SamplingBudget": ".difficulty",
        "SavedExpr": ".expressions",
        "ShapeRewards": ".rewards",
        "Sides": ".join",
        "Sort": ".sort",
        "SplitParts": ".split",
        "Take": ".take",
        "evaluate": ".expressions",
        "mask": ".expressions",
        "near_duplicates": ".duplicates",
        "plain": ".expressions",
        "shown": ".expressions",
    },
)
