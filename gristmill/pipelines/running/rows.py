"""The rows of a recipe's sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gristmill.core.stages import Rejection
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.running.checks.answers import usable
from gristmill.pipelines.sources import source as sources


def read_sources(recipe: Recipe, limits: Mapping[int, int] | None = None) -> dict[int, Iterator[Any]]:
    """The rows of every source, by its node, up to the recipe's limit and its own among ``limits``."""
    found = {}
    for node, source in zip(recipe.graph.sources, recipe.sources.values(), strict=True):
        given = [n for n in (recipe.limit, (limits or {}).get(node)) if n is not None]
        rows = usable(recipe, node, source, sources.read(source))
        found[node] = limited(rows, min(given, default=None))
    return found


def tried(recipe: Recipe) -> tuple[int, int] | None:
    """The node whose rows are the recipe's target, and the source of which rows are tried for it.

    That is the first from whose rows the target is made by asking a model: the others cost nothing.
    """
    if recipe.until is None or recipe.until.stage is None:
        return None
    graph = recipe.graph
    goal = graph.find(recipe.until.stage)
    made_of = graph.ancestors(goal)
    asked = [i for i in made_of if (stage := graph.nodes[i].row_stage) and (stage.needs or stage.uses)]
    return goal, min(set().union(*map(graph.ancestors, asked)) or made_of)


def at_most(recipe: Recipe) -> dict[int, int]:
    """The most rows that ``until`` takes of a source."""
    target = tried(recipe)
    if target is None or recipe.until is None or recipe.until.at_most is None:
        return {}
    return {target[1]: recipe.until.at_most}


def kept_sources(recipe: Recipe) -> frozenset[int]:
    """The sources whose rows are written to their folder: a filter, a relation or an export reads them."""
    exported = {recipe.graph.find(entry.reads_from) for entry in recipe.exports}
    return frozenset(i for i in recipe.graph.sources if i in exported or recipe.graph.tables_behind(i))


def limited(rows: Iterator[Any], limit: int | None) -> Iterator[Any]:
    """The rows up to the ``limit``-th that can be used."""
    taken = 0
    for row in rows:
        yield row
        taken += not isinstance(row, Rejection)
        if taken == limit:
            return
