"""Another engine and other data for a recipe, as overrides of its keys: ``--engine`` and ``--data``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from gristmill.core.errors import RecipeError
from gristmill.core.registry import suggest
from gristmill.core.stages import Rejection
from gristmill.pipelines.methods.gallery import entry
from gristmill.pipelines.recipe.method import EMBEDDED, SCRIPTED
from gristmill.pipelines.recipe.plain import document
from gristmill.pipelines.sources import source as reading
from gristmill.pipelines.sources.options import Source

_FIRST = 500
"""Rows of a file by which it is told whether it has answers."""
_REWARDS = ("reward-server", "transformers-reward")
"""Kinds of engine that no model of words can stand in for."""


def choose(path: Path, engine: str | None = None, data: list[str] | None = None) -> list[str]:
    """The overrides that run the recipe at ``path`` with another engine and on other data.

    ``engine`` is ``scripted`` (the answers in the recipe's header), ``embedded`` (the embedded model), or a
    YAML file that holds an engine (``kind`` and options); it takes the place of all engines of the recipe
    (reward models only with ``scripted``). ``data`` are files, each ``FILE`` or ``SOURCE=FILE``. The run's
    name tells of given answers and of other data, so that the recipe's own run stays.
    Raises ``RecipeError``.
    """
    recipe = document(path)
    names = [str(recipe.get("name", path.stem)), *([SCRIPTED] if engine == SCRIPTED else [])]
    changes: dict[str, Any] = {}
    if engine is not None:
        changes |= _engines(path, recipe, engine)
    for given in data or ():
        place, source = _source(path, recipe, given)
        changes[place] = source
        names.append(re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(source["path"]).stem))
    if len(names) > 1:
        changes["name"] = "-".join(names)[:64].rstrip("-.")
    return [f"{place}={json.dumps(value)}" for place, value in changes.items()]


def _engines(path: Path, recipe: dict[str, Any], choice: str) -> dict[str, Any]:
    engines = recipe.get("engines") or {}
    if choice != SCRIPTED:
        given = {"kind": "llamacpp"} if choice == EMBEDDED else _engine(choice)
        asked = [name for name, one in engines.items() if one.get("kind") not in _REWARDS]
        return {"engine": given} | {f"engines.{name}": given for name in asked}
    found = entry(path)
    if found is None or not (found.method.scripted.engine or found.method.scripted.engines):
        raise RecipeError(
            f"{path.stem} has no scripted answers.",
            remedy="'gristmill methods' lists the recipes that have; give --engine embedded, or a file.",
        )
    scripted = found.method.scripted
    made: dict[str, Any] = {"engine": {"kind": SCRIPTED, **scripted.engine}} if scripted.engine else {}
    for name in engines:
        answers = scripted.engines.get(name, scripted.engine)
        made[f"engines.{name}"] = {"kind": SCRIPTED, "model": name, **answers}
    return made | scripted.set


def _engine(file: str) -> dict[str, Any]:
    if not Path(file).is_file():
        raise RecipeError(
            f"{file!r} is neither {SCRIPTED}, nor {EMBEDDED}, nor a file.",
            remedy=suggest(file, [SCRIPTED, EMBEDDED])
            + " A file holds an engine: {kind: openai, model: NAME, base_url: ...}.",
        )
    given = document(Path(file))
    return dict(given["engine"]) if isinstance(given.get("engine"), dict) else given


def _source(path: Path, recipe: dict[str, Any], given: str) -> tuple[str, dict[str, Any]]:
    """The place and the keys of the source that reads ``given`` and no longer its own file and columns."""
    several = recipe.get("sources") or {}
    name, equals, file = given.partition("=")
    if not equals or name not in several:
        name, file = "", given
    if several and not name:
        if len(several) > 1:
            raise RecipeError(
                f"{path.stem} reads several sources: {', '.join(several)}.",
                remedy=f"Say which one the file is for: --data {next(iter(several))}={given}",
            )
        name = next(iter(several))
    place = f"sources.{name}" if several else "source"
    old = several[name] if several else recipe.get("source") or {}
    made = {"path": file} | {key: old[key] for key in ("reads", "verifier") if key in old}
    return place, made


def check_needs(path: Path, sources: Mapping[str, Source]) -> None:
    """Refuse data without answers to a method that needs them, by its first rows. Raises ``RecipeError``."""
    found = entry(path)
    if found is None or "answers" not in found.method.needs:
        return
    for source in sources.values():
        rows = islice((row for row in reading.read(source) if not isinstance(row, Rejection)), _FIRST)
        answers = [row.answer for row in rows if hasattr(row, "answer")]
        if answers and not any(answers):
            raise RecipeError(
                f"{found.name} needs right answers, and none of the first {len(answers)} rows of "
                f"{source.path} has one.",
                remedy="Add a column 'answer', or name the one that holds it: "
                "--set source.columns.answer=COLUMN",
            )
