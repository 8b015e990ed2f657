"""Text of unknown origin in a card: it is shown as it is, and can become neither markup nor a link."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from gristmill.pipelines.rundir.summary import printable

_TICKS = re.compile(r"`+")
_SPECIAL = re.compile(r"([\\`*_{}\[\]|~#])")
_NUMBER = re.compile(r"[\d,]+")
_WIDTH = 30
"""Characters of the longest bar."""


def plain(text: str) -> str:
    """One line of text with everything escaped that Markdown or HTML would take for markup."""
    line = printable(" ".join(text.split()))
    return _SPECIAL.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;"))


def code(text: str) -> str:
    """One line as code, in as many ticks as it takes; good for a cell of a table."""
    line = printable(text).replace("|", "\\|") or " "
    ticks = "`" * (1 + max((len(run) for run in _TICKS.findall(line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def fenced(text: str, kind: str = "text") -> str:
    """Lines as a block of code, whose fence is longer than any in the text."""
    lines = [printable(line) for line in text.splitlines()]
    longest = max((len(run) for line in lines for run in _TICKS.findall(line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}{kind}", *lines, fence])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the cells are Markdown already. Columns of whole numbers are to the right."""
    held = list(rows)
    numbers = [
        bool(held) and all(_NUMBER.fullmatch(cell) for cell in column) for column in zip(*held, strict=True)
    ]
    rule = ["---:" if number else "---" for number in numbers or [False] * len(head)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *held))


def bars(counts: Sequence[tuple[str, int]]) -> str:
    """Counts as bars of text, the longest of a fixed width; a count above 0 has at least one mark."""
    most = max((count for _, count in counts), default=0)
    wide = max((len(name) for name, _ in counts), default=0)
    lines = []
    for name, count in counts:
        marks = max(1, round(_WIDTH * count / most)) if count else 0
        lines.append(f"{name.rjust(wide)}  {'█' * marks}{' ' if marks else ''}{count:,}")
    return fenced("\n".join(lines))
