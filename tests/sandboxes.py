"""The sandbox that tests of programs run in: the one that users get, or none where no sandbox works."""

from __future__ import annotations

from gristmill.core.errors import RecipeError
from gristmill.verifiers.code.sandbox import Kind, choose


def usable() -> Kind:
    """``auto``, or ``none`` on a machine without sandboxes, where the tests' own programs are no danger."""
    try:
        choose("auto")
    except RecipeError:
        return "none"
    return "auto"


USABLE = usable()
