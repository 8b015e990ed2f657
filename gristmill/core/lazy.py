"""Public names of a package, imported when they are first used (PEP 562).

Not the library ``lazy_loader``: it reads a stub file at every import, and ``import gristmill`` has a tenth of
a second for everything.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` for the package's ``__init__``: each name with the module it is in,
    relative to ``package`` where that begins with a dot.

    The same names are in its ``__all__`` and, for type checkers, in an import under ``TYPE_CHECKING``.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(homes[name], package), name)
        setattr(sys.modules[package], name, found)
        return found

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, names
