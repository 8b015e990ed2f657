"""Places of prompts that no row can fill: an error when a recipe loads."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from gristmill.core.errors import InputError, RecipeError, RunError
from gristmill.core.prompts import fields, unknown_places
from gristmill.core.stages import Rejection
from gristmill.pipelines.recipe.graph import Graph, GraphNode
from gristmill.pipelines.sources import source as reading
from gristmill.pipelines.sources.source import Source

_PEEK = 1000
"""Rows of a source by which it is told which columns it has."""


def check_places(graph: Graph, sources: Mapping[str, Source]) -> None:
    """Refuse a stage whose prompt has a place that neither its records nor their ``meta`` can fill.

    What ``meta`` holds is told by the first rows of the sources, which are read only where a place needs it.
    A source that cannot be read yet tells nothing: then a row that lacks a place is rejected when its turn
    comes. Raises ``RecipeError``.
    """
    for index, node in enumerate(graph.nodes):
        stage = node.row_stage
        if stage is None or not any(unknown_places(stage, ())):
            continue
        columns: set[str] | None = set(graph.nodes[node.inputs[0]].writes.__struct_fields__)
        for i in graph.ancestors(index):
            above = graph.nodes[i]
            found = _columns(sources[above.name]) if above.stage is None else _written(above)
            columns = None if columns is None or found is None else {*columns, *found}
        for place in unknown_places(stage, columns):
            error = place.error()
            raise RecipeError(f"stage {node.name!r}: {error.message}", remedy=error.remedy)


def _written(node: GraphNode) -> set[str]:
    """The fields of what a stage writes, and the keys that it says it ``adds`` to ``meta``."""
    return {*node.writes.__struct_fields__, *getattr(node.stage, "adds", ())}


def _columns(source: Source) -> set[str] | None:
    """The fields of the source's records and the keys of their ``meta``; ``None`` where it cannot be read."""
    found: set[str] = set(source.record.__struct_fields__)
    try:
        for record in islice(reading.read(source), _PEEK):
            if not isinstance(record, Rejection):
                found |= fields(getattr(record, "meta", "{}")).keys()
    except (InputError, RunError):  # whoever runs the recipe is told
        return None
    return found
