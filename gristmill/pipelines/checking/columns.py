"""What only the whole of a JSONL file shows: keys that first appear late, and columns of several types.

The package ``datasets``, through which most trainers read JSONL, takes a file's columns from its first 10 MB.
A key that appears later is no column, and the load ends with an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gristmill.pipelines.checking.rows import Row
from gristmill.pipelines.checking.typed import Fault
from gristmill.pipelines.sources.values import kind

FIRST = 10 << 20
"""The bytes from which ``datasets`` takes the columns: up to the end of the line in which they end."""


class Columns:
    """The keys and types seen so far, nested ones by their path."""

    def __init__(self, first: int = FIRST) -> None:
        self._first = first
        self._kinds: dict[str, str] = {}
        self._keys: set[str] = set()
        self._told: set[str] = set()

    def faults(self, row: Row) -> Iterator[Fault]:
        """What ``row`` has that the rows before it have not; each path is told of once."""
        for path, value in _paths(row.values, ""):
            if path not in self._keys:
                if row.start >= self._first:
                    yield Fault(f"{path}: a key that first appears late", f"behind {self._first >> 20} MB")
                self._keys.add(path)
            if value is None:
                continue
            had = self._kinds.setdefault(path, kind(value))
            if had != kind(value) and path not in self._told:
                self._told.add(path)
                yield Fault(f"{path}: a column of several types", f"{kind(value)}, and before {had}")


def _paths(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            place = f"{path}.{key}" if path else key
            yield place, inner
            yield from _paths(inner, place)
    elif isinstance(value, list):
        for inner in value:
            yield f"{path}[]", inner
            yield from _paths(inner, f"{path}[]")
