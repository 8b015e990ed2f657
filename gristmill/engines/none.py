"""No engine: what a recipe has that names none, because no stage of it asks a model."""

from __future__ import annotations

from typing import NoReturn

from gristmill.core.engine import Request
from gristmill.core.errors import RequestRefusedError
from gristmill.engines.options import NONE, EngineOptions
from gristmill.engines.scripted import ScriptedEngine


class NoEngine(EngineOptions, frozen=True, kw_only=True):
    """No model: an engine that can do nothing, so that a recipe in which a stage needs one is refused."""

    def open(self) -> ScriptedEngine:
        """An engine that refuses every request."""
        return ScriptedEngine(_refuse, model=NONE, abilities=frozenset(), concurrency=self.concurrency)


def _refuse(request: Request, index: int) -> NoReturn:
    raise RequestRefusedError("the recipe has no engine, and a stage asks it: add 'engine: {kind: NAME}'")
