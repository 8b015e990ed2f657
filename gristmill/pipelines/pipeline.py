"""A pipeline under its public name."""

from gristmill.pipelines.recipe.graph import Graph as Pipeline

__all__ = ["Pipeline"]
