"""How hard problems are, by the samples of them, and what to train on for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.filters.difficulty.allocation import SamplingBudget, budgets, spread
    from gristmill.filters.difficulty.balanced import BalancedGroups
    from gristmill.filters.difficulty.best_of import BestOf, Recompose, recomposed
    from gristmill.filters.difficulty.curriculum import Curriculum
    from gristmill.filters.difficulty.domains import (
        BalanceDomains,
        excess_weights,
        measured_weights,
        replay_weights,
    )
    from gristmill.filters.difficulty.exploring import BalanceScore, balance_score
    from gristmill.filters.difficulty.mixture import ExcessWeights, ReplayWeights
    from gristmill.filters.difficulty.pass_rate import Band, PassRate

__all__ = [
    "BalanceDomains",
    "BalanceScore",
    "BalancedGroups",
    "Band",
    "BestOf",
    "Curriculum",
    "ExcessWeights",
    "PassRate",
    "Recompose",
    "ReplayWeights",
    "SamplingBudget",
    "balance_score",
    "budgets",
    "excess_weights",
    "measured_weights",
    "recomposed",
    "replay_weights",
    "spread",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "BalanceDomains": ".domains",
        "BalanceScore": ".exploring",
        "BalancedGroups": ".balanced",
        "Band": ".pass_rate",
        "BestOf": ".best_of",
        "Curriculum": ".curriculum",
        "ExcessWeights": ".mixture",
        "PassRate": ".pass_rate",
        "Recompose": ".best_of",
        "ReplayWeights": ".mixture",
        "SamplingBudget": ".allocation",
        "balance_score": ".exploring",
        "budgets": ".allocation",
        "excess_weights": ".domains",
        "measured_weights": ".domains",
        "recomposed": ".best_of",
        "replay_weights": ".domains",
        "spread": ".allocation",
    },
)
