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
_CODE = re.compile(r"`([^`]+)`")
_OPTION = re.compile(r"options? `([a-z_]+)(?:: ([a-z_]+))?`")
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
    names = {name for name, _ in used}
    found = []
    for title, number, where in _rows("papers.md", "| paper |"):
        named = _CODE.findall(where)
        parts = tuple(name for name in named if name in names)
        option = _OPTION.search(where)
        if option is not None:
            parts = tuple(name for name in parts if any(n == name and _set(o, option) for n, o in used))
        if parts:
            found.append(Paper(title, number, parts))
    return found


def _set(options: Mapping[str, Any], option: re.Match[str]) -> bool:
    value = options.get(option[1])
    return str(value) == option[2] if option[2] else bool(value)


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
