"""Where the fields of a record are in the rows of a source: columns, and paths into nested ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from gristmill.core.errors import InputError, RowRejected
from gristmill.core.registry import suggest
from gristmill.pipelines.sources.text import NoRowsError

MISSING: Final = object()
"""What a row has in a place that it does not have."""
PEEK = 1000
"""Rows after which a column that none of them has is taken for one that is not there. They are held."""
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_PATH = re.compile(r"[^.\[\]]+(?:\.[^.\[\]]+|\[\d+\])+")


class Located(NamedTuple):
    """A row as it was read, with the file and the number by which errors name it."""

    where: str
    number: int
    value: dict[str, Any] | RowRejected


@cache
def steps(column: str) -> tuple[str | int, ...]:
    """The steps of a path: ``metadata.levels[0]`` is "metadata", "levels", 0. Other names are one step."""
    if not _PATH.fullmatch(column):
        return (column,)
    return tuple(int(m[2]) if m[2] else m[1] for m in _STEP.finditer(column))


def at(row: Mapping[str, Any], column: str) -> Any:
    """What ``row`` has in a column or at a path, ``MISSING`` if nothing. A column of that name goes first."""
    if column in row:
        return row[column]
    value: Any = row
    for step in steps(column):
        if isinstance(step, int):
            there = isinstance(value, list) and step < len(value)
        else:
            there = isinstance(value, dict) and step in value
        if not there:
            return MISSING
        value = value[step]
    return value


class Columns:
    """The columns of fields: those that the source maps, and for others the first of ``defaults`` there is.

    ``needed`` are the fields without which there is no record; of a tuple one is enough.
    """

    def __init__(
        self,
        where: str,
        mapped: Mapping[str, str],
        defaults: Mapping[str, Sequence[str]],
        needed: Sequence[str | tuple[str, ...]],
    ) -> None:
        self.where = where
        self.mapped = mapped
        self.defaults = defaults
        self.needed = [(n,) if isinstance(n, str) else n for n in needed]
        self._settled = dict(mapped)

    def value(self, field: str, row: Mapping[str, Any]) -> Any:
        """What ``row`` has for a field, or ``MISSING``. The first row with one of its default columns settles
        which it is."""
        column = self._settled.get(field)
        if column is None:
            column = next((c for c in self.defaults.get(field, (field,)) if c in row), None)
            if column is None:
                return MISSING
            self._settled[field] = column
        return row[column] if column in row else at(row, column)

    def given(self, field: str, row: Mapping[str, Any]) -> Any:
        """The same, and a row that lacks what the source maps is rejected. ``None`` for no value."""
        value = self.value(field, row)
        if value is MISSING and field in self.mapped:
            raise self.lacks(field, row)
        return None if value is MISSING else value

    def lacks(self, field: str, row: Mapping[str, Any]) -> RowRejected:
        """The rejection of a row that lacks a field's column."""
        has = ", ".join(repr(c)[:40] for c in list(row)[:10]) or "no column"
        column = self._settled.get(field) or field
        return RowRejected(f"no {field} column", f"this row has no column {column!r} (it has {has}).")

    def used(self, row: Mapping[str, Any], fields: Iterable[str]) -> set[str]:
        """The columns of ``row`` that are the values of ``fields`` as a whole."""
        columns = map(self._settled.get, fields)
        return {column for column in columns if column in row}  # type: ignore[misc]

    def check_header(self, header: list[str], where: str) -> None:
        """Raises ``InputError`` for a table that lacks a column that is needed or mapped."""
        row = Counter(header)
        if twice := min((c for c, n in row.items() if n > 1), default=None):
            raise InputError(f"the column {twice!r} occurs twice.", path=where, row=1)
        for field, column in self.mapped.items():
            if column not in row and steps(column)[0] not in row:
                raise self._no_column(f"the {field} column {column!r}", header, column)
        for fields in self.needed:
            if not any(f in self.mapped or self.value(f, row) is not MISSING for f in fields):
                raise self._no_column(f"a column for the {' or the '.join(fields)}", header, fields[0])

    def peek(self, found: Iterator[Located]) -> Iterator[Located]:
        """The same rows. Raises ``InputError`` where none of the first ``PEEK`` has a column that is needed
        or mapped. They are held back until one has each."""
        held: list[Located] = []
        columns: dict[str, None] = {}
        open_: list[tuple[str, ...]] = [*self.needed, *((f,) for f in self.mapped)]
        for row in found:
            held.append(row)
            value = row.value
            if isinstance(value, dict):
                columns |= dict.fromkeys(value)
                open_ = [any_ for any_ in open_ if all(self.value(f, value) is MISSING for f in any_)]
            if not open_ or len(held) == PEEK:
                break
        if open_ and any(isinstance(row.value, dict) for row in held):
            field = open_[0][0]
            mapped = self.mapped.get(field)
            wanted = f"a column for the {' or the '.join(open_[0])}"
            if mapped is not None:
                wanted = f"the {field} column {mapped!r}"
            raise self._no_column(wanted, list(columns), mapped or field)
        return _again(held, found)

    def _no_column(self, wanted: str, columns: list[str], near: str) -> InputError:
        shown = ", ".join(repr(c) for c in columns[:20]) + (", ..." if len(columns) > 20 else "")
        field = next((f for f, c in self.mapped.items() if c == near), near)
        return InputError(
            f"{wanted} is missing; the columns are {shown}.",
            path=self.where,
            remedy=f"{suggest(near, columns)} Name it in the source: columns: {{{field}: NAME}}.",
        )


def first_columns(where: str, found: Iterator[Located]) -> tuple[list[str], Iterator[Located]]:
    """The columns of the first object, and the same rows. ``InputError`` where none of the first is one."""
    held: list[Located] = []
    for row in found:
        held.append(row)
        if isinstance(row.value, dict):
            return list(row.value), _again(held, found)
        if len(held) == PEEK:
            break
    if not held:
        raise NoRowsError(where)
    first = held[0].value
    detail = first.message if isinstance(first, RowRejected) else ""
    raise InputError(
        f"no row of the first {len(held)} is a JSON object ({detail}).",
        path=where,
        row=held[0].number,
        remedy="JSONL has one object a line; is it another format under this name?",
    )


def _again(held: Iterable[Located], found: Iterator[Located]) -> Iterator[Located]:
    yield from held
    yield from found
