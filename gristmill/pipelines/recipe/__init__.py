"""Recipes: YAML to a checked ``Recipe`` whose stages form a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.pipelines.recipe.recipe import Recipe, from_dict, load, to_dict
    from gristmill.pipelines.recipe.schema import json_schema

__all__ = ["Recipe", "from_dict", "json_schema", "load", "to_dict"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Recipe": ".recipe",
        "from_dict": ".recipe",
        "json_schema": ".schema",
        "load": ".recipe",
        "to_dict": ".recipe",
    },
)
