"""Verifiers in processes that are killed at a deadline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.verifiers.pool.in_process import InProcess, pool_for
    from gristmill.verifiers.pool.pool import Pool

__all__ = ["InProcess", "Pool", "pool_for"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "InProcess": ".in_process",
        "Pool": ".pool",
        "pool_for": ".in_process",
    },
)
