"""``gristmill list``: every part that is registered here, and one part with its options."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

from gristmill.core.errors import RecipeError
from gristmill.core.options_doc import options, papers, summary
from gristmill.core.registry import GROUPS, Group, find, locate, names, package, suggest

_WIDTH = 100


def catalogue(kind: str | None = None, name: str | None = None) -> str:
    """The parts of a kind (``None``: of all), or the one of that ``name``, as plain text.

    ``kind`` may itself be the name of a part. Raises ``RecipeError`` for what is neither.
    """
    if kind is not None and name is None and kind not in GROUPS:
        kind, name = _kind_of(kind), kind
    if kind is None:
        return "\n\n".join(_group(group) for group in GROUPS)
    group = next((g for g in GROUPS if g == kind), None)
    if group is None:
        raise RecipeError(f"{kind!r} is not a kind of part.", remedy=suggest(kind, GROUPS))
    return _group(group) if name is None else "\n".join(_part(group, name))


def _kind_of(name: str) -> Group:
    """The group in which there is a part of this name, the first of several."""
    for group in ("stages", *GROUPS):
        if name in names(group):
            return group
    raise RecipeError(
        f"{name!r} is neither a kind of part nor a part.",
        remedy=suggest(name, [*GROUPS, *(n for group in GROUPS for n in names(group))]),
    )


def _group(group: Group) -> str:
    known = names(group)
    width = max(map(len, known), default=0)
    lines = [f"{group}:"]
    for name in known:
        try:
            part = find(group, name)
        except (ImportError, AttributeError) as error:
            said = f"cannot be imported: {error}"
        else:
            said = " ".join([summary(part), *(f"[arXiv {p}]" for p in papers(part))])
        from_ = package(group, name)
        said += "" if from_.startswith("gristmill ") else f" ({from_})"
        lines += _hanging(f"  {name:{width}}  ", said)
    return "\n".join(lines)


def _part(group: Group, name: str) -> Iterator[str]:
    part: Any = find(group, name)
    yield f"{name} ({group}), {locate(group, name)}, from {package(group, name)}"
    yield from _paragraphs(part.__doc__ or "")
    reads, writes = getattr(part, "reads", None), getattr(part, "writes", None)
    if isinstance(reads, type):
        yield f"Reads {reads.__name__}, writes {writes.__name__ if isinstance(writes, type) else 'the same'}."
    if found := papers(part):
        yield f"Source: {', '.join(f'arXiv {paper}' for paper in found)}."
    for option in options(part):
        yield ""
        default = f" = {option.default}" if option.default else " (required)"
        yield from _hanging("  ", f"{option.name}: {option.type}{default}")
        if option.description:
            yield from _hanging("      ", option.description)


def _paragraphs(text: str) -> Iterator[str]:
    """A docstring as it stands, without its indent."""
    yield ""
    yield from inspect.cleandoc(text).splitlines()
    yield ""


def _hanging(begin: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin), break_on_hyphens=False
    )
