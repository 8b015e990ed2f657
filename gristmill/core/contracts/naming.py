"""How a contract's errors name the part at fault and show a value."""

from __future__ import annotations

from typing import Any

from gristmill.core.errors import RecipeError
from gristmill.core.registry import Group


class Part:
    """A part under test, to name it in errors."""

    def __init__(self, group: Group, name: str, thing: Any) -> None:
        self.kind = group[:-1].replace("_", " ")
        self.name = name
        self.thing = thing

    def fault(self, what: str, remedy: str) -> RecipeError:
        """The error that says ``what`` is wrong with this part, and the ``remedy``."""
        return RecipeError(f"{self.kind} {self.name!r} ({place_of(self.thing)}): {what}.", remedy=remedy)


def place_of(thing: Any) -> str:
    """``MODULE:OBJECT`` of a class or function, or of the class of any other object."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}:{named.__qualname__}"


def shown(value: Any) -> str:
    """A value as an error shows it: short, and by its type where it says more."""
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    article = "an" if type(value).__name__[0].lower() in "aeiou" else "a"
    return f"{article} {type(value).__name__}"
