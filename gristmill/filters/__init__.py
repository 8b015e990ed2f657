"""Table stages that decide which rows stay, and say why the others do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.filters.balance import Balance
    from gristmill.filters.kinds import BalanceKinds
    from gristmill.filters.process_balance import ProcessBalance

__all__ = [
    "Balance",
    "BalanceKinds",
    "ProcessBalance",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Balance": ".balance",
        "BalanceKinds": ".kinds",
        "ProcessBalance": ".process_balance",
    },
)
