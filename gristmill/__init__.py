"""Gristmill turns a language model's own samples into training corpora that can be trusted.

The sub-packages are, lowest first: ``core``, ``engines``, ``verifiers``, ``filters``, ``synth``, ``train``,
``testing``, ``pipelines`` and ``cli``; each imports only from those before it. Importing ``gristmill`` itself
loads none of them: a name is loaded with what it needs when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily
from gristmill.core.version import __version__ as __version__

if TYPE_CHECKING:
    from gristmill.pipelines.pipeline import Pipeline
    from gristmill.pipelines.planning.bounds import plan
    from gristmill.pipelines.recipe.recipe import Recipe
    from gristmill.pipelines.rundir.results import open_run
    from gristmill.pipelines.running.runner import run

__all__ = [
    "Pipeline",
    "Recipe",
    "open_run",
    "plan",
    "run",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Pipeline": ".pipelines.pipeline",
        "Recipe": ".pipelines.recipe.recipe",
        "open_run": ".pipelines.rundir.results",
        "plan": ".pipelines.planning.bounds",
        "run": ".pipelines.running.runner",
    },
)
