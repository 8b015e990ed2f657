"""Scorers by their registered names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gristmill.core.errors import RecipeError
from gristmill.core.registry import locate
from gristmill.synth.scorers.base import PairScorer, Scorer
from gristmill.verifiers.loading import load

Named = str | dict[str, Any]
"""How a recipe names a scorer: ``NAME`` or ``{kind: NAME, ...options}``."""


def kind_of(scorer: str | Mapping[str, Any]) -> str:
    """The registered name of a scorer as a recipe names it. ``RecipeError`` where it has none."""
    kind = scorer if isinstance(scorer, str) else scorer.get("kind")
    if not isinstance(kind, str):
        raise RecipeError(
            f"the scorer {scorer!r} has no kind.", remedy="Write scorer: {kind: likelihood, ...}."
        )
    return kind


def load_scorer(scorer: str | Mapping[str, Any]) -> Scorer | PairScorer:
    """The scorer that a recipe names, registered as ``kind`` or at ``MODULE:OBJECT``, with its options.

    Raises ``RecipeError`` for an unknown one, for an option it does not take, and for what is not a scorer.
    """
    kind = kind_of(scorer)
    options = {} if isinstance(scorer, str) else {k: v for k, v in scorer.items() if k != "kind"}
    found: Any = load(kind if ":" in kind else locate("scorers", kind), options, noun="scorer")
    if not isinstance(found, (Scorer, PairScorer)):
        raise RecipeError(
            f"{kind} is not a scorer: it inherits neither Scorer nor PairScorer.",
            remedy="Name a scorer that 'gristmill list scorers' shows.",
        )
    return found
