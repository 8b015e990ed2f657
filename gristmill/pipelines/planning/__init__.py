"""What a recipe will cost: from the log alone, or from a pilot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.pipelines.planning.bounds import Plan, plan

__all__ = ["Plan", "plan"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Plan": ".bounds",
        "plan": ".bounds",
    },
)
