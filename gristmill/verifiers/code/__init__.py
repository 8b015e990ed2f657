"""Programs judged by running them where they can do no harm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.verifiers.code.verifier import Code

__all__ = ["Code"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Code": ".verifier",
    },
)
