"""What is wrong with a loop that can be told before its first step: names, options, recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import msgspec

from gristmill.core.errors import RecipeError
from gristmill.core.registry import suggest
from gristmill.pipelines.loops.options import Loop, LoopStep
from gristmill.pipelines.loops.places import Places
from gristmill.pipelines.recipe import recipe as recipes
from gristmill.pipelines.recipe.plain import TRAININGS, convert, document, set_value

_LATER = "(made later)"
"""Stands for the run of a step, while there is none."""


def recipe_of(
    given: str | Mapping[str, Any], overrides: Sequence[str], beside: Path
) -> tuple[dict[str, Any], Path]:
    """A recipe of a loop with its overrides, places not filled, and the folder whose files it names first."""
    if isinstance(given, str):
        file = beside / given if (beside / given).exists() else Path(given)
        data, beside = document(file), file.parent
    else:
        data = msgspec.json.decode(msgspec.json.encode(given))
    for override in overrides:
        set_value(data, override)
    return data, beside


def rows_file(given: str, beside: Path, before: Sequence[str]) -> Path:
    """The file of rows that a training names. ``before`` are the steps whose rows it might have meant."""
    for file in (beside / given, Path(given)):
        if file.is_file():
            return file
    raise RecipeError(
        f"data: {given!r} is neither a step's rows nor a file.",
        remedy=f"Steps before it: {', '.join(before) or 'none'}. Rows are named as STEP:STAGE.",
    )


def check(loop: Loop, beside: Path) -> None:
    """Look at all steps as the first round will do them, without doing any.

    Raises ``RecipeError`` for a name of a step, stage or place that there is not, for options that a training
    does not have, and for a recipe that cannot be run. A recipe that reads what a step makes is looked at
    when that is there.
    """
    stages: dict[str, list[str] | None] = {}
    models: dict[str, str] = {"model": "model", "base": "model"}
    trained = frozenset(f"previous.{step.name}" for step in loop.steps if not step.run)
    later = frozenset(f"previous.{name}" for step in loop.steps for name in told_by(step))
    values: set[str] = set()
    for step in loop.steps:
        with _Named(f"the step {step.name!r}"):
            places = _places(models, stages, later | values, trained)
            if step.run is not None:
                found = stages[step.name] = _stages(step.run, step.set, beside, places)
                values |= set(told_by(step)) - {step.name}
                for name, wanted in step.values.items():
                    _check_stage(f"values.{name}", step.name, wanted.stage, found)
                continue
            if step.train is None:
                places.fill(step.merge)
                if step.ending:
                    stages[step.name] = []
                    continue
            else:
                _check_training(step, places, stages, [s.name for s in loop.steps if s.run], beside)
            models[step.name] = "model"
    if loop.evaluate is not None:
        with _Named("evaluate"):
            first = _places({"model": "model", "base": "model"}, {})  # there is no step before round 1
            stages["evaluate"] = _stages(loop.evaluate.run, loop.evaluate.set, beside, first)
    for name, measure in loop.measures.items():
        _check_stage(f"measures.{name}", measure.of, measure.stage, stages.get(measure.of))


def told_by(step: LoopStep) -> list[str]:
    """The names under which a step tells what it has made: its own, and those of its values."""
    return [step.name, *(f"{step.name}.{name}" for name in step.values)]


def _check_stage(place: str, run: str, stage: str | None, known: Sequence[str] | None) -> None:
    if stage is not None and known is not None and stage not in known:
        raise RecipeError(f"{place}.stage: {run!r} has no stage {stage!r}.", remedy=suggest(stage, known))


class _Named:
    """Says of an error inside which part of the loop it is about."""

    def __init__(self, part: str) -> None:
        self._part = part

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RecipeError):
            raise RecipeError(f"{self._part}: {error.message}", remedy=error.remedy) from error


def _places(
    models: Mapping[str, str],
    runs: Mapping[str, object],
    coming: frozenset[str] = frozenset(),
    trained: frozenset[str] = frozenset(),
) -> Places:
    """Places before the first step. Of what is ``coming``, ``trained`` are models."""
    values = {**models, "round": "1", "seed": "1"}
    known = frozenset(models) | trained
    return Places(values, known, "{}.gguf".format, coming=coming | frozenset(runs), stand_in=_LATER)


def _stages(
    given: str | dict[str, Any], overrides: tuple[str, ...], beside: Path, places: Places
) -> list[str] | None:
    """The nodes of a recipe; ``None`` where it reads what is not made yet."""
    data, beside = recipe_of(given, overrides, beside)
    data = places.fill(data)
    if _LATER in str(data):
        return None
    recipes.look_beside(data, beside)
    recipe = recipes.from_dict(data | {"name": "checked"})
    return [node.name for node in recipe.graph.nodes]


def _check_training(
    step: LoopStep,
    places: Places,
    stages: Mapping[str, list[str] | None],
    runs: Sequence[str],
    beside: Path,
) -> None:
    """Its options, and where its rows are to come from."""
    for given in step.data:
        name, _, stage = given.partition(":")
        bare = name.removeprefix("previous.")
        if name != bare:
            if bare not in runs:
                raise RecipeError(
                    f"data: {bare!r} is not a step that runs a recipe.", remedy=suggest(bare, runs)
                )
            continue
        if name not in stages:
            if _LATER not in (file := places.fill(given)):
                rows_file(file, beside, list(stages))
            continue
        known = stages[name]
        if stage and known is not None and stage not in known:
            raise RecipeError(f"data: {name!r} has no stage {stage!r}.", remedy=suggest(stage, known))
    known_now = {k: v for k, v in places.fill(step.options).items() if _LATER not in str(v)}
    options = {"model": "model", **known_now, "data": "rows", "output": "out"}
    convert(options, cast(Any, import_module(f"gristmill.train.{step.train}")).OPTIONS, "with", see=TRAININGS)
