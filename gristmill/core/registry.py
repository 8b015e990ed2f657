"""Names to things: engines, verifiers (plain, and those that ask a model), scorers, stages, exports, records.

Built-ins are listed in this project's own ``pyproject.toml`` under the same groups that a third-party
package uses, so there is no list to keep and nothing is imported before it is named.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, get_args

from gristmill.core.errors import RecipeError

Group = Literal["engines", "verifiers", "model_verifiers", "scorers", "stages", "exports", "records"]
GROUPS: tuple[Group, ...] = get_args(Group)


@cache
def _every() -> Any:
    # Reads the metadata of every distribution, about 10 ms; of another type on Python 3.11 than later.
    return entry_points()


@cache
def _entries(group: Group) -> dict[str, EntryPoint]:
    return {e.name: e for e in _every().select(group=f"gristmill.{group}")}


def register(group: Group, name: str, target: str) -> None:
    """Put ``MODULE:OBJECT`` under a name for this process, as an entry point does for every process.

    Raises ``RecipeError`` for a name that something else has, or a target that is not of that form.
    """
    module, _, thing = target.partition(":")
    if not (module and thing):
        raise RecipeError(f"{target!r} is not the place of an object.", remedy="Write it as MODULE:OBJECT.")
    held = _entries(group).get(name)
    if held is not None and held.value != target:
        raise RecipeError(f"{_noun(group)} {name!r} is {held.value} already.", remedy="Choose another name.")
    _entries(group)[name] = EntryPoint(name, target, f"gristmill.{group}")


def names(group: Group) -> list[str]:
    """All registered names of a group, sorted."""
    return sorted(_entries(group))


def find(group: Group, name: str) -> Any:
    """The object registered under ``name``; an unknown name is an error that names the nearest one."""
    return _entry(group, name).load()


def locate(group: Group, name: str) -> str:
    """``MODULE:OBJECT`` registered under ``name``, without importing it here."""
    return _entry(group, name).value


def name_of(group: Group, thing: type) -> str | None:
    """The name under which a class is registered; ``None`` for one that is not."""
    for name, entry in _entries(group).items():
        if entry.attr.rpartition(".")[2] == thing.__name__ and entry.load() is thing:
            return name
    return None


def package(group: Group, name: str) -> str:
    """The distribution that registers ``name``, with its version; its module where none does."""
    entry = _entry(group, name)
    if entry.dist is None:
        return entry.value.partition(":")[0]
    return f"{entry.dist.name} {entry.dist.version}"


def _entry(group: Group, name: str) -> EntryPoint:
    entry = _entries(group).get(name)
    if entry is None:
        raise RecipeError(f"unknown {_noun(group)} {name!r}.", remedy=suggest(name, names(group)))
    return entry


def _noun(group: Group) -> str:
    return group[:-1].replace("_", " ")


def suggest(word: str, known: Iterable[str]) -> str:
    """One sentence that names the nearest of ``known``, or lists them all."""
    known = sorted(known)
    begun = [name for name in known if name.startswith(f"{word}_")]
    near = begun[:1] or difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
