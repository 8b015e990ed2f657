"""Pipelines: sources, recipes, the runner and its run directory, exports, reports and the CLI.

``run`` runs a recipe, ``plan`` says what it would cost, ``load`` reads a recipe and ``open_run`` a run;
each is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gristmill.pipelines.planner import Plan, plan
    from gristmill.pipelines.recipe import Recipe, load
    from gristmill.pipelines.results import Run, open_run
    from gristmill.pipelines.runner import Interrupted, run

_HOME = {
    "Interrupted": "runner",
    "Plan": "planner",
    "Recipe": "recipe",
    "Run": "results",
    "load": "recipe",
    "open_run": "results",
    "plan": "planner",
    "run": "runner",
}

__all__ = ["Interrupted", "Plan", "Recipe", "Run", "load", "open_run", "plan", "run"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
