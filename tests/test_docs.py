"""What the pages name exists: modules, their members, and files of this repository."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from gristmill.core.registry import Group

ROOT = Path(__file__).parent.parent
BY_HAND = [page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent.name != "reference"]
PAGES = [*BY_HAND, ROOT / "README.md", ROOT / "CHANGELOG.md"]
GROUPS = {f"gristmill.{group}" for group in get_args(Group)}
"""Groups of entry points look like modules."""


def dotted(text: str) -> set[str]:
    """Modules and members that a text names, written out or in an import."""
    named = set(re.findall(r"(?<![\w./-])gristmill(?:\.[A-Za-z_]\w*)+", text))
    for module, members in re.findall(r"from (gristmill[\w.]*) import (\w+(?:, \w+)*)", text):
        named |= {f"{module}.{member}" for member in members.split(", ")}
    return named - GROUPS


def exists(name: str) -> bool:
    """Whether ``name`` is a module or a member of one, of any depth."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def missing(page: Path) -> Iterator[str]:
    text = page.read_text(encoding="utf-8")
    yield from (f"{page.name}: {name}" for name in sorted(dotted(text)) if not exists(name))
    for file in sorted(
        set(re.findall(r"(?<![\w./])(?:gristmill|tests|benchmarks|docs|data)/[\w/.-]+\.\w+\b", text))
    ):
        if not (ROOT / file).exists():
            yield f"{page.name}: {file}"
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        if not (page.parent / link).exists():
            yield f"{page.name}: a link to {link}"


def test_the_check_knows_what_exists() -> None:
    assert exists("gristmill.core.errors.GristmillError") and exists("gristmill.core")
    assert not exists("gristmill.core.errors.Nothing") and not exists("gristmill.nothing")


def test_what_the_pages_name_exists() -> None:
    gone = [name for page in PAGES for name in missing(page)]
    assert not gone, "\n".join(gone)
