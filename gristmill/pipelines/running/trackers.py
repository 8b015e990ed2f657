"""Experiment trackers: what the progress says, sent to ``wandb`` or to ``trackio``, which works alike."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gristmill.core.errors import MissingExtraError, RecipeError
from gristmill.core.registry import suggest
from gristmill.pipelines.running.progress import Watch

TRACKERS = ("wandb", "trackio")
_PROJECT = "gristmill"


@contextmanager
def tracked(name: str | None, run: str) -> Iterator[Watch | None]:
    """What to give to ``run`` as ``watch``: numbers go to the tracker, under the project ``gristmill``.

    ``None`` without a name. Raises ``RecipeError`` for a tracker that is not known, ``MissingExtraError`` for
    one that is not installed.
    """
    if name is None:
        yield None
        return
    if name not in TRACKERS:
        raise RecipeError(f"--track: {name!r} is not a known tracker.", remedy=suggest(name, TRACKERS))
    try:
        tracker: Any = importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"The tracker {name}", install=f"pip install {name}") from error
    tracker.init(project=_PROJECT, name=run)
    try:
        yield lambda report: tracker.log(_numbers(report))
    finally:
        tracker.finish()


def _numbers(report: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in report.items() if isinstance(value, int | float)}
