"""The methods that come with Gristmill: one YAML file each, read for their headers."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.registry import suggest
from gristmill.pipelines.recipe.method import Method
from gristmill.pipelines.recipe.plain import convert, document

METHODS = Path(__file__).parents[2] / "data" / "methods"
_WIDTH = 100


class Entry(Struct, frozen=True):
    """A method: the name for ``gristmill run`` and ``gristmill new recipe``, its file and its header."""

    name: str
    path: Path
    method: Method

    def plain(self) -> dict[str, Any]:
        """The header as ``gristmill methods --json`` gives it: all but how it is run and checked."""
        given = msgspec.to_builtins(self.method)
        return {"name": self.name} | {
            key: value
            for key, value in given.items()
            if key not in ("scripted", "expect", "without") and value not in ("", None)
        }


def entries(family: str | None = None, folder: Path = METHODS) -> list[Entry]:
    """All methods, or those of a family, by name. ``RecipeError`` for a family that there is not, and for a
    file whose header cannot be read."""
    found = [Entry(path.stem, path, _header(path)) for path in sorted(folder.glob("*.yaml"))]
    families = {e.method.family for e in found}
    if family is not None and family not in families:
        raise RecipeError(f"{family!r} is not a family of methods.", remedy=suggest(family, families))
    return [e for e in found if family in (None, e.method.family)]


def entry(path: Path) -> Entry | None:
    """The recipe at ``path`` as a method; ``None`` where it has no header. Raises ``RecipeError``."""
    data = document(path)
    if data.get("method") is None:
        return None
    return Entry(path.stem, path, convert(data["method"], Method, "method"))


def table(found: list[Entry]) -> str:
    """The methods as text, by family, with how many work."""
    lines: list[str] = []
    for family in sorted({e.method.family for e in found}):
        here = [e for e in found if e.method.family == family]
        lines += [f"{family}:", *(line for e in here for line in _lines(e)), ""]
    works = sum(e.method.status == "works" for e in found)
    lines.append(f"{works} of {len(found)} work. Run one: gristmill run NAME --engine scripted")
    return "\n".join(lines)


def _lines(found: Entry) -> list[str]:
    method = found.method
    papers = "".join(f" [arXiv {paper}]" for paper in method.papers)
    needs = f" Needs {', '.join(method.needs)}." if method.needs else ""
    state = "" if method.status == "works" else f" {method.status.capitalize()}: {method.why}"
    said = f"{method.title}{papers}: {method.makes.rstrip('.')}.{needs}{state}"
    begin = f"  {found.name}  "
    return textwrap.wrap(
        said, _WIDTH, initial_indent=begin, subsequent_indent="      ", break_on_hyphens=False
    )


def _header(path: Path) -> Method:
    found = entry(path)
    if found is None:
        raise RecipeError(f"{path} has no 'method'.", remedy="Give it a header, or move it elsewhere.")
    return found.method
