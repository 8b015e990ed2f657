"""What stands for ``${...}`` in the texts of a loop."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gristmill.core.errors import RecipeError
from gristmill.core.registry import suggest

_PLACE = re.compile(r"\$\{([^{}]*)\}")
_OR = re.compile(r"\s+or\s+")
_NUMBER = re.compile(r"-?[0-9][0-9.eE+-]*")


class Places:
    """Values by name; ``pack`` makes a GGUF file of a model's folder when ``.gguf`` first asks for it.

    ``coming`` are names that have a value in other rounds or when a step is done; a place of which nothing
    else is known is filled with ``stand_in``, and refused where that is ``None``.
    """

    def __init__(
        self,
        values: Mapping[str, str | float],
        models: frozenset[str],
        pack: Callable[[str], str],
        *,
        coming: frozenset[str] = frozenset(),
        stand_in: str | None = None,
    ) -> None:
        self._values, self._models, self._pack = values, models, pack
        self._coming, self._stand_in = coming, stand_in

    def fill(self, data: Any) -> Any:
        """The same data with every place in its texts filled; a text that is one place becomes what stands
        there, which may be a number. ``RecipeError`` for an unknown one."""
        if isinstance(data, str):
            if whole := _PLACE.fullmatch(data):
                return self._value(whole[1].strip())
            return _PLACE.sub(lambda found: str(self._value(found[1].strip())), data)
        if isinstance(data, Mapping):
            return {key: self.fill(value) for key, value in data.items()}
        if isinstance(data, list | tuple):
            return [self.fill(value) for value in data]
        return data

    def _value(self, place: str) -> str | float:
        """What stands for the first name in a place that has a value."""
        names = _OR.split(place)
        found = [self._named(name, place) for name in names]  # all are looked at: none may be misspelt
        if (first := next((value for value in found if value is not None), None)) is not None:
            return first() if callable(first) else first
        if self._stand_in is not None:
            return self._stand_in
        raise RecipeError(
            f"${{{place}}} is not known in this round.",
            remedy=f"Say what stands for it there: ${{{place} or base}}, or a number.",
        )

    def _named(self, name: str, place: str) -> str | float | Callable[[], str] | None:
        """The value of a name, or what makes it; ``None`` where it has none yet."""
        if _NUMBER.fullmatch(name):
            return _number(name, place)
        bare = name.removesuffix(".gguf")
        if bare not in self._values and bare not in self._coming:
            raise RecipeError(
                f"${{{place}}} is not known here.", remedy=suggest(bare, [*self._values, *self._coming])
            )
        if bare != name and bare not in self._models:
            raise RecipeError(f"${{{place}}}: {bare!r} is not a model.", remedy="Leave out '.gguf'.")
        value = self._values.get(bare)
        return value if value is None or bare == name else lambda: self._pack(str(value))


def _number(text: str, place: str) -> float:
    try:
        return msgspec.json.decode(text, type=int | float)
    except msgspec.DecodeError:
        raise RecipeError(
            f"${{{place}}}: {text!r} is not a number.", remedy="Write a number such as 0.8, or a name."
        ) from None
