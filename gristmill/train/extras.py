"""The optional packages that training needs, and the error that says how to install them."""

from __future__ import annotations

import importlib.util

from gristmill.core.errors import MissingExtraError

INSTALL = "pip install 'gristmill[train]'"


def need(*packages: str) -> None:
    """Raise ``MissingExtraError`` for the first of ``packages`` that is not installed. Imports nothing."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(f"{package} (for training)", install=INSTALL)
