"""Verifiers that ask a model, by their registered names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

from gristmill.core.errors import RecipeError
from gristmill.core.registry import locate
from gristmill.verifiers.judges.base import Comparer, ModelVerifier
from gristmill.verifiers.loading import load


def load_model_verifier(kind: str, options: Mapping[str, Any]) -> ModelVerifier:
    """The model verifier registered as ``kind``, or at ``MODULE:OBJECT``, which judges one answer.

    Raises ``RecipeError`` for an unknown one, an option it does not take, or one that only compares.
    """
    found = load_any(kind, options)
    if not inspect.iscoroutinefunction(type(found).__call__):
        raise RecipeError(
            f"{kind} does not judge single answers.", remedy="Use judge, or another that judges one answer."
        )
    return cast(ModelVerifier, found)


def load_comparer(kind: str, options: Mapping[str, Any]) -> Comparer:
    """The model verifier registered as ``kind``, or at ``MODULE:OBJECT``, which compares two answers.

    Raises ``RecipeError`` as ``load_model_verifier`` does.
    """
    found = load_any(kind, options)
    if not hasattr(found, "compare"):
        raise RecipeError(f"{kind} does not compare two answers.", remedy="Use judge, checklist or salmon.")
    return cast(Comparer, found)


def load_any(kind: str, options: Mapping[str, Any]) -> Any:
    """The model verifier of any kind registered as ``kind``, or at ``MODULE:OBJECT``."""
    return load(kind if ":" in kind else locate("model_verifiers", kind), options)
