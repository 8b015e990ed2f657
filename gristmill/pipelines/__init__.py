"""Pipelines: sources, recipes, runs and their directories, plans, exports, and evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.pipelines.pipeline import Named, Pipeline
    from gristmill.pipelines.planning.bounds import Plan, plan
    from gristmill.pipelines.recipe.entries import Until
    from gristmill.pipelines.recipe.recipe import Recipe, load
    from gristmill.pipelines.rundir.results import Run, open_run
    from gristmill.pipelines.running.runner import Interrupted, run
    from gristmill.pipelines.sources.options import Source

__all__ = [
    "Interrupted",
    "Named",
    "Pipeline",
    "Plan",
    "Recipe",
    "Run",
    "Source",
    "Until",
    "load",
    "open_run",
    "plan",
    "run",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Interrupted": ".running.runner",
        "Named": ".pipeline",
        "Pipeline": ".pipeline",
        "Plan": ".planning.bounds",
        "Recipe": ".recipe.recipe",
        "Run": ".rundir.results",
        "Source": ".sources.options",
        "Until": ".recipe.entries",
        "load": ".recipe.recipe",
        "open_run": ".rundir.results",
        "plan": ".planning.bounds",
        "run": ".running.runner",
    },
)
