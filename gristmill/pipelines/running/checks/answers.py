"""Answers by which nothing can be judged, found before an engine is asked about their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from gristmill.core.errors import InputError
from gristmill.core.prompts import RowValues
from gristmill.core.stages import Rejection
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.sources import source as sources
from gristmill.pipelines.sources.options import Source

UNUSABLE = "answer that nothing can be judged by"
_AHEAD = 100_000
"""Rows of each source that are looked at before a run asks its engines; those behind it as they are read."""

_NONE_OF = 500
"""Where none of so many rows at the beginning has an answer, the others are not looked at beforehand."""

Why = Callable[[Any], str]
"""From a record to why nothing can be judged by its answer; empty where it can."""


def usable(recipe: Recipe, node: int, source: Source, rows: Iterator[Any]) -> Iterator[Any]:
    """The rows of a source; those by whose answers nothing can be judged stop the run or are rejected, as its
    ``unusable_answers`` says. ``InputError`` names the file, the row and what to do."""
    why = _judge(recipe, node)
    return rows if why is None else _checked(source, rows, why)


def check_answers(recipe: Recipe) -> None:
    """Look at the answers of every source whose ``unusable_answers`` is ``stop``. Raises ``InputError``."""
    for node, source in zip(recipe.graph.sources, recipe.sources.values(), strict=True):
        why = _judge(recipe, node) if source.unusable_answers == "stop" else None
        if why is not None:
            taken = _AHEAD if recipe.limit is None else min(_AHEAD, recipe.limit)
            answered = False
            for number, row in enumerate(islice(_checked(source, sources.read(source), why), taken), 1):
                answered = answered or getattr(row, "answer", None) is not None
                if number == _NONE_OF and not answered:
                    break  # most likely none has one; those that do are looked at as they are read


def _judge(recipe: Recipe, node: int) -> Why | None:
    """How to tell for the rows of a node; ``None`` where no stage judges by their answers."""
    if node not in recipe.graph.judged_sources:
        return None
    refuses, refer = recipe.verifier.refuses(), recipe.verifier.refer()
    if refuses is None:
        return None

    def why(record: Any) -> str:
        if record.answer is None:
            return ""
        if refer is None:
            return refuses(record.answer)
        return refuses(refer(record.problem, record.answer, RowValues(record)))

    return why


def _checked(source: Source, rows: Iterator[Any], why: Why) -> Iterator[Any]:
    for row in rows:
        if isinstance(row, Rejection) or not (told := why(row)):
            yield row
        elif source.unusable_answers == "reject":
            yield Rejection(row.id, UNUSABLE, told)
        else:
            path, number = sources.place_of(source, row.id)
            raise InputError(
                f"the answer of {row.id!r} cannot be used: {told}.",
                path=path,
                row=number,
                remedy="Correct it, or leave such rows out: unusable_answers: reject in the source.",
            )
