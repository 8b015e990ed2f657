"""The pipeline of a recipe as lines of text, which every page and terminal can show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gristmill.pipelines.rundir.summary import Summary


def drawn(recipe: Mapping[str, Any], summary: Summary) -> str:
    """A line for each source, stage and export, below the one that it reads; with the rows that came out.

    What reads several is drawn below the first of them and names the others.
    """
    counts = {stage.name: stage.rows_out for stage in summary.stages}
    sources = ["source"] if recipe.get("source") else list(recipe.get("sources") or {})
    below: dict[str, list[tuple[str, str]]] = {}
    before = sources[0] if sources else ""
    for entry in recipe.get("stages") or ():
        name = str(entry.get("as") or entry.get("stage"))
        given = entry.get("from") or before
        reads = [given] if isinstance(given, str) else list(given)
        told = name if name == entry.get("stage") else f"{name} ({entry.get('stage')})"
        told += f": {counts[name]:,} rows" if name in counts else ""
        told += f", with {', '.join(reads[1:])}" if reads[1:] else ""
        below.setdefault(reads[0], []).append((name, told))
        before = name
    for entry in recipe.get("exports") or ():
        reads = [str(entry.get("from"))]
        below.setdefault(reads[0], []).append(("", f"=> {entry.get('path') or entry.get('format')}"))
    lines: list[str] = []

    def draw(name: str, told: str, depth: int) -> None:
        lines.append("   " * depth + told)
        for child, said in below.get(name, []) if name else []:
            draw(child, said, depth + 1)

    for source in sources:
        rows = f": {counts[source]:,} rows" if source in counts else ""
        draw(source, source + rows, 0)
    return "\n".join(lines)
