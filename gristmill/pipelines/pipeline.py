"""A pipeline: stages with names, each reading what the source or an earlier stage writes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import TypeGuard

from msgspec import Struct

from gristmill.core.engine import Ability
from gristmill.core.errors import RecipeError
from gristmill.core.records import Problem
from gristmill.core.registry import suggest
from gristmill.core.stages import RowStage, Stage, TableStage

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SOURCE = "source"
"""The name under which a stage may ask for the source's problems as its input."""


def is_row_stage(stage: Stage) -> TypeGuard[RowStage]:
    """Whether a stage is called record by record (it is a coroutine function) or with a whole table."""
    return inspect.iscoroutinefunction(type(stage).__call__)


class Node(Struct, frozen=True):
    """A stage in its place. ``parent`` is the index of the node it reads from, ``None`` for the source."""

    name: str
    stage: Stage
    parent: int | None


class Pipeline:
    """Stages in the order in which they run. The order is checked here, before any token is spent."""

    def __init__(self, nodes: Sequence[tuple[str, Stage, str | None]]) -> None:
        """``nodes`` are (name, stage, name of the node to read from; ``None``: the one before)."""
        self.nodes: list[Node] = []
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
            given = Problem if parent is None else self.nodes[parent].stage.writes
            if given is not stage.reads:
                giver = "the source" if parent is None else f"stage {parent + 1} ({self.nodes[parent].name})"
                raise RecipeError(
                    f"{where} reads {stage.reads.__name__} records, but {giver} gives {given.__name__}.",
                    remedy=self._remedy(stage),
                )
            index[name] = position
            self.nodes.append(Node(name, stage, parent))
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
        able = [n.name for n in self.nodes if n.stage.writes is stage.reads]
        if stage.reads is Problem:
            able.insert(0, SOURCE)
        if able:
            return f"Add 'from: {able[-1]}' to it, or change the order of the stages."
        return f"Put a stage that writes {stage.reads.__name__} before it."

    @property
    def needs(self) -> frozenset[Ability]:
        """The engine abilities that some stage cannot do without."""
        return frozenset().union(*(n.stage.needs for n in self.nodes if is_row_stage(n.stage)))

    def check_engine(self, abilities: frozenset[Ability], kind: str) -> None:
        """Refuse an engine that lacks what a stage needs."""
        for node in self.nodes:
            missing = node.stage.needs - abilities if is_row_stage(node.stage) else frozenset()
            if missing:
                raise RecipeError(
                    f"stage {node.name!r} needs an engine that can {' and '.join(sorted(missing))}; "
                    f"{kind!r} cannot.",
                    remedy="Use another engine: llamacpp can do all of these on this machine."
                    if kind != "llamacpp"
                    else "Use the openai engine with a server that can.",
                )

    def row_segment(self, parent: int | None) -> list[int]:
        """The row stages that can stream behind ``parent`` (a table stage's node, or the source).

        They are those whose input is ``parent`` or another row stage of the same segment.
        """
        members: list[int] = []
        for i, node in enumerate(self.nodes):
            if is_row_stage(node.stage) and (node.parent == parent or node.parent in members):
                members.append(i)
        return members


def is_table_stage(stage: Stage) -> TypeGuard[TableStage]:
    """Whether a stage is called with a whole table."""
    return not is_row_stage(stage)
