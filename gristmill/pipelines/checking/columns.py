"""What only the whole of a JSONL file shows: columns that change behind its beginning, or are of several
types.

The package ``datasets``, through which most trainers read JSONL, takes a file's columns and their types from
its first 10 MB. A key that appears later, a value in a column that was null until then, and a fraction in a
column of whole numbers end the load with an error (tried with datasets 5.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gristmill.pipelines.checking.rows import FileRow
from gristmill.pipelines.checking.typed import Fault

FIRST = 10 << 20
"""The bytes from which ``datasets`` takes the columns: up to the end of the line in which they end."""
_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "whole numbers",
    float: "numbers",
    str: "text",
    list: "lists",
    dict: "objects",
}


class LateColumns:
    """The keys and types seen so far, nested ones by their path."""

    def __init__(self, first: int = FIRST) -> None:
        self._first = first
        self._kinds: dict[str, str] = {}
        """What each path holds; empty where it was only null."""
        self._told: set[str] = set()

    def faults(self, row: FileRow) -> Iterator[Fault]:
        """What is new in ``row``; of each path only once."""
        for path, value in _paths(row.values, ""):
            new = "" if value is None else _KINDS[type(value)]
            had = self._kinds.get(path)
            fault = self._fault(path, had, new, row.start >= self._first)
            if fault is not None and path not in self._told:
                self._told.add(path)
                yield fault
            # A column of whole numbers becomes one of numbers where a fraction comes early enough.
            self._kinds[path] = new if not had or (had, new) == ("whole numbers", "numbers") else had

    def _fault(self, path: str, had: str | None, new: str, late: bool) -> Fault | None:
        behind = f"behind the first {self._first >> 20} MB"
        if late and had is None:
            return Fault(f"{path}: a key that first appears late", behind)
        if late and had == "" and new:
            return Fault(f"{path}: null in all of the first rows", f"{new} {behind}")
        if not had or not new or had == new:
            return None
        if {had, new} == {"whole numbers", "numbers"}:
            early = not late or had == "numbers"
            return None if early else Fault(f"{path}: a fraction that comes late", behind)
        return Fault(f"{path}: a column of several types", f"{new}, and before {had}")


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
