"""What stands for ``${...}`` in the texts of a loop."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from gristmill.core.errors import RecipeError
from gristmill.core.registry import suggest

_PLACE = re.compile(r"\$\{([^{}]*)\}")


class Places:
    """Values by name; ``pack`` makes a GGUF file of a model's folder when ``.gguf`` first asks for it."""

    def __init__(self, values: Mapping[str, str], models: frozenset[str], pack: Callable[[str], str]) -> None:
        self._values, self._models, self._pack = values, models, pack

    def fill(self, data: Any) -> Any:
        """The same data with every place in its texts filled. ``RecipeError`` for an unknown one."""
        if isinstance(data, str):
            return _PLACE.sub(lambda found: self._value(found[1].strip()), data)
        if isinstance(data, Mapping):
            return {key: self.fill(value) for key, value in data.items()}
        if isinstance(data, list | tuple):
            return [self.fill(value) for value in data]
        return data

    def _value(self, name: str) -> str:
        bare = name.removesuffix(".gguf")
        if bare not in self._values:
            raise RecipeError(f"${{{name}}} is not known here.", remedy=suggest(bare, self._values))
        if bare == name:
            return self._values[bare]
        if bare not in self._models:
            raise RecipeError(f"${{{name}}}: {bare!r} is not a model.", remedy="Leave out '.gguf'.")
        return self._pack(self._values[bare])
