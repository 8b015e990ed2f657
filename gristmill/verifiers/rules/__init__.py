"""Verifiers that follow rules, and votes over answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.verifiers.rules.choice import Choice
    from gristmill.verifiers.rules.combine import Combine
    from gristmill.verifiers.rules.constraints import Constraints
    from gristmill.verifiers.rules.formats import Format
    from gristmill.verifiers.rules.overlap import Bleu
    from gristmill.verifiers.rules.short_answer import ShortAnswer

__all__ = ["Bleu", "Choice", "Combine", "Constraints", "Format", "ShortAnswer"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Bleu": ".overlap",
        "Choice": ".choice",
        "Combine": ".combine",
        "Constraints": ".constraints",
        "Format": ".formats",
        "ShortAnswer": ".short_answer",
    },
)
