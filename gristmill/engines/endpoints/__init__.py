"""Several servers as one engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.engines.endpoints.engine import Endpoints

__all__ = ["Endpoints"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Endpoints": ".engine",
    },
)
