"""Splits as they are written in a source: ``train``, ``train[:10%]``, ``train[100:200]``, ``train+test``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from gristmill.pipelines.sources.text import Row

_PIECE = re.compile(r"(?P<name>\w[\w.-]*)(?:\[(?P<start>-?\d+%?)?:(?P<end>-?\d+%?)?\])?")


class Opened(NamedTuple):
    """A file (or a split of a data set): its name, its columns where it has a header, its rows, and how many
    they are where that is known before they are read."""

    where: str
    header: list[str] | None
    rows: Iterator[Row]
    total: int | None = None


class Piece(NamedTuple):
    """The rows ``start:end`` of a split. A bound is a number of rows or a share in percent; a negative one
    counts from the end."""

    name: str
    start: str | None
    end: str | None

    def of(self, open_all: Callable[[], Iterator[Opened]]) -> Iterator[Opened]:
        """Only these rows of what ``open_all`` opens. It is opened twice where the number of rows decides and
        is not known."""
        if self.start is None and self.end is None:
            return open_all()
        total = None
        if any(b is not None and ("%" in b or b.startswith("-")) for b in (self.start, self.end)):
            total = sum(_count(opened) for opened in open_all())
        end = None if self.end is None else _place(self.end, total)
        return _cut(open_all(), _place(self.start or "0", total), end)


def pieces(split: str) -> list[Piece]:
    """The parts of a split's name. Raises ``ValueError`` for what is not one."""
    found = []
    for part in split.split("+"):
        match = _PIECE.fullmatch(part.strip())
        if match is None:
            raise ValueError(
                f"{split!r} is not a split; write it as NAME, NAME[:10%], NAME[100:200] or NAME+NAME"
            )
        found.append(Piece(match["name"], match["start"], match["end"]))
    return found


def _count(opened: Opened) -> int:
    return sum(1 for _ in opened.rows) if opened.total is None else opened.total


def _place(bound: str, total: int | None) -> int:
    """The bound as a row's index; a share is rounded to the nearest row."""
    value = int(bound.rstrip("%"))
    if total is None:
        return value
    if bound.endswith("%"):
        value = round(total * value / 100)
    return min(total, max(0, value + total if bound.startswith("-") else value))


def _cut(opened: Iterator[Opened], start: int, end: int | None) -> Iterator[Opened]:
    at = 0

    def kept(rows: Iterator[Row]) -> Iterator[Row]:
        nonlocal at
        for row in rows:
            if end is not None and at >= end:
                return
            at += 1
            if at > start:
                yield row

    for one in opened:
        if end is not None and at >= end:
            return
        yield one._replace(rows=kept(one.rows), total=None)
