"""A pipeline: stages with names, each reading what the source or an earlier stage writes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeGuard

from msgspec import Struct

from gristmill.core.engine import Ability
from gristmill.core.errors import RecipeError
from gristmill.core.records import Problem
from gristmill.core.registry import suggest
from gristmill.core.stages import Filter, RowStage, Stage

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SOURCE = "source"
"""The name under which a stage may ask for the source's problems as its input."""


def is_row_stage(stage: Stage) -> TypeGuard[RowStage]:
    """Whether a stage is called record by record (it is a coroutine function) or with a whole table."""
    return inspect.iscoroutinefunction(type(stage).__call__)


class GraphNode(Struct, frozen=True):
    """A stage in its place. ``parent`` is the index of the node it reads from, ``None`` for the source;
    ``engine`` the name of the engine that is its own, ``None`` for the recipe's main one."""

    name: str
    stage: Stage
    parent: int | None
    engine: str | None = None

    @property
    def writes(self) -> type[Struct]:
        """The record that it puts out."""
        return self.stage.writes or self.stage.reads


class Skills(NamedTuple):
    """What is asked of an engine before it is used: the kind that it is, and what it can do."""

    kind: str
    abilities: frozenset[Ability]


class Pipeline:
    """Stages in the order in which they run. The order is checked here, before any token is spent."""

    def __init__(
        self, nodes: Sequence[tuple[str, Stage, str | None]], engines: Mapping[str, str] | None = None
    ) -> None:
        """``nodes`` are (name, stage, name of the node to read from; ``None``: the one before);
        ``engines`` the names of the engines of those nodes whose own is not the main one."""
        self.nodes: list[GraphNode] = []
        index: dict[str, int] = {}
        for position, (name, stage, reads_from) in enumerate(nodes):
            where = f"stage {position + 1} ({name})"
            if not _NAME.fullmatch(name) or name == SOURCE:
                raise RecipeError(
                    f"{where}: {name!r} is no name for a stage.",
                    remedy="Use up to 64 letters, digits, '_', '-' and '.'; begin with a letter or digit.",
                )
            if name in index:
                raise RecipeError(
                    f"{where}: the name is already taken by stage {index[name] + 1}.",
                    remedy="Give one of them another name with 'as: NAME'.",
                )
            parent = self._parent(where, position, reads_from, index)
            given = Problem if parent is None else self.nodes[parent].writes
            if given is not stage.reads:
                giver = "the source" if parent is None else f"stage {parent + 1} ({self.nodes[parent].name})"
                raise RecipeError(
                    f"{where} reads {stage.reads.__name__} records, but {giver} gives {given.__name__}.",
                    remedy=self._remedy(stage),
                )
            index[name] = position
            engine = (engines or {}).get(name)
            if engine is not None and not is_row_stage(stage):
                raise RecipeError(
                    f"{where} asks no model, so it has no use for the engine {engine!r}.",
                    remedy="Leave out its 'engine:'.",
                )
            self.nodes.append(GraphNode(name, stage, parent, engine))
        if not self.nodes:
            raise RecipeError("the pipeline has no stages.", remedy="Name at least one under 'stages:'.")

    @staticmethod
    def _parent(where: str, position: int, reads_from: str | None, index: dict[str, int]) -> int | None:
        if reads_from == SOURCE or (reads_from is None and position == 0):
            return None
        if reads_from is None:
            return position - 1
        if reads_from not in index:
            raise RecipeError(
                f"{where}: 'from: {reads_from}' names no earlier stage.",
                remedy=suggest(reads_from, [SOURCE, *index]),
            )
        return index[reads_from]

    def _remedy(self, stage: Stage) -> str:
        able = [n.name for n in self.nodes if n.writes is stage.reads]
        if stage.reads is Problem:
            able.insert(0, SOURCE)
        if able:
            return f"Add 'from: {able[-1]}' to it, or change the order of the stages."
        return f"Put a stage that writes {stage.reads.__name__} before it."

    def wanted(self) -> Iterator[tuple[str, str | None, frozenset[Ability]]]:
        """What the row stages ask of engines: stage, engine (``None``: the main one), abilities."""
        for node in self.nodes:
            if is_row_stage(node.stage):
                yield node.name, node.engine, node.stage.needs
                uses: Mapping[str, frozenset[Ability]] = getattr(node.stage, "uses", {})
                yield from ((node.name, engine, needs) for engine, needs in uses.items())

    def check_names(self, known: Collection[str]) -> None:
        """Refuse a stage that wants an engine by a name that none has."""
        for stage, engine, _ in self.wanted():
            if engine is not None and engine not in known:
                remedy = f"{suggest(engine, known)} Or add" if known else "Add"
                raise RecipeError(
                    f"stage {stage!r} wants an engine named {engine!r}, which the recipe does not have.",
                    remedy=f"{remedy} it: engines: {{{engine}: {{kind: ...}}}}.",
                )

    def check_engine(self, engines: Mapping[str | None, Skills]) -> None:
        """Refuse engines, by their names (``None``: the main one), that lack what a stage needs."""
        self.check_names([name for name in engines if name is not None])
        for stage, name, needs in self.wanted():
            kind, abilities = engines[name]
            missing = needs - abilities
            if missing:
                which = f"{kind!r}" if name is None else f"{name!r} (of kind {kind!r})"
                raise RecipeError(
                    f"stage {stage!r} needs an engine that can {' and '.join(sorted(missing))}; "
                    f"{which} cannot.",
                    remedy="Use another engine: llamacpp can do that on this machine."
                    if kind != "llamacpp" and Ability.SCORE not in missing
                    else "Use the openai engine with a server that can, and name it among its abilities.",
                )

    @property
    def keeps_source(self) -> bool:
        """Whether the problems are written to the source's folder: a table stage reads them."""
        return any(n.parent is None and is_table_stage(n.stage) for n in self.nodes)

    def row_segment(self, parent: int | None) -> list[int]:
        """The row stages that can stream behind ``parent`` (a table stage's node, or the source).

        They are those whose input is ``parent`` or another row stage of the same segment.
        """
        members: list[int] = []
        for i, node in enumerate(self.nodes):
            if is_row_stage(node.stage) and (node.parent == parent or node.parent in members):
                members.append(i)
        return members


def is_table_stage(stage: Stage) -> TypeGuard[Filter]:
    """Whether a stage is called with a whole table."""
    return not is_row_stage(stage)
