"""The papers behind a recipe's parts, and what was measured of its filters: read from the pages of docs.

``pages`` holds links to them, which a wheel holds as files: there is one table, for readers and for this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

_PAGES = Path(__file__).parent / "pages"
_NAMED = re.compile(r"`([^`]+)`(?:,? options? `([a-z_]+)(?:: ([a-z_]+))?`)?")
"""A part, and the option of it that follows, with its value."""
_PART_KEYS = ("stage", "kind", "format", "verifier", "judge", "scorer", "rater")


class Paper(Struct, frozen=True):
    """A paper that a part of a recipe follows."""

    title: str
    arxiv: str
    parts: tuple[str, ...]
    """The names of the parts, as recipes write them."""

    @property
    def bibtex(self) -> str:
        """An entry that names the paper by its number; the page behind it has the authors."""
        year = f"20{self.arxiv[:2]}"
        return (
            f"@misc{{arxiv_{self.arxiv.replace('.', '_')},\n"
            f"  title = {{{self.title}}},\n  year = {{{year}}},\n"
            f"  eprint = {{{self.arxiv}}},\n  archivePrefix = {{arXiv}},\n"
            f"  url = {{https://arxiv.org/abs/{self.arxiv}}}\n}}"
        )


def papers_of(recipe: Mapping[str, Any]) -> list[Paper]:
    """The papers that the parts of a recipe (as plain data) follow, in the order of the page.

    A row of the page that names an option is of those recipes alone that set it, and to the value, if one is
    named.
    """
    used = list(_parts(recipe))
    found = []
    for title, number, where in _rows("papers.md", "| paper |"):
        named = [(m[1], m[2], m[3]) for m in _NAMED.finditer(where)]
        parts = [name for name, option, value in named if _used(used, name, option, value)]
        if parts:
            found.append(Paper(title, number, tuple(dict.fromkeys(parts))))
    return found


def _used(
    used: list[tuple[str, Mapping[str, Any]]], name: str, option: str | None, value: str | None
) -> bool:
    """Whether a recipe has the part, with the option set, and to the value."""
    given = [options for part, options in used if part == name]
    if option is not None:
        held = [options.get(option) for options in given]
        return any(str(one) == value if value else bool(one) for one in held)
    return bool(given)


def contamination_recall() -> list[tuple[str, str, str]]:
    """What ``decontaminate`` finds of planted rows, as its page says: the kind, how many rows, the share with
    its 95 % interval."""
    return [(kind, rows, share) for kind, rows, share, *_ in _rows("contamination.md", "| recall of |")]


def _parts(data: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every part that plain data names, with the options beside the name."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            if key in _PART_KEYS and isinstance(value, str):
                yield value, data
            yield from _parts(value)
    elif isinstance(data, list):
        for value in data:
            yield from _parts(value)


def _rows(page: str, head: str) -> Iterator[list[str]]:
    """The cells of the table that begins with ``head``; of the papers the first three."""
    lines = iter((_PAGES / page).read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith(head):
            next(lines)  # the rule below the head
            break
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")][:3]
