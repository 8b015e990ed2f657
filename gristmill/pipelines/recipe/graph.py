"""The graph of a recipe: sources, and stages with names that read sources and earlier stages.

Sources are its first nodes. A row stage reads one node and streams behind it; a filter or a relation reads
whole tables, so it waits until they are there. The order of the nodes is the order in which they run.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from gristmill.core.contracts import check_filter, dry_run
from gristmill.core.engine import Ability
from gristmill.core.errors import RecipeError
from gristmill.core.records import Conversation, Demonstration, Labelled, Pair, Passage, Problem, Sampled
from gristmill.core.registry import suggest
from gristmill.core.schema import gives, record_of, schema
from gristmill.core.stages import REJECTED_DETAIL, REJECTED_REASON, Filter, Relation, RowStage, Stage
from gristmill.engines.options import NONE

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SOURCE = "source"
"""The name of the source of a recipe that has one."""
_PLAIN: tuple[type[Struct], ...] = (Problem, Sampled, Pair, Labelled, Demonstration, Conversation, Passage)
"""Records that a relation may write without declaring them, as where an option decides which."""


class GraphNode(Struct, frozen=True):
    """A source or a stage in its place.

    ``inputs`` are the indices of the nodes that it reads (none for a source), ``writes`` is the record that
    it puts out, ``engine`` the name of the engine that is its own (``None``: the recipe's main one), ``kind``
    the name under which the stage is registered. ``stage`` is ``None`` for a source.
    """

    name: str
    writes: type[Struct]
    stage: Stage | None = None
    inputs: tuple[int, ...] = ()
    engine: str | None = None
    kind: str = ""

    @property
    def row_stage(self) -> RowStage | None:
        """The stage, if it is called record by record."""
        return self.stage if isinstance(self.stage, RowStage) else None

    @property
    def asks(self) -> bool:
        """Whether it is a row stage that asks a model."""
        return (stage := self.row_stage) is not None and bool(stage.needs or stage.uses)

    @property
    def table_stage(self) -> Filter | Relation | None:
        """The stage, if it is called with whole tables."""
        return self.stage if isinstance(self.stage, Filter | Relation) else None


class Placed(NamedTuple):
    """A stage as a recipe names it: what it is registered as, its name there, the names of what it reads
    (none: the node before it), and the name of its engine."""

    kind: str
    name: str
    stage: Stage
    reads: Sequence[str] = ()
    engine: str | None = None


class Skills(NamedTuple):
    """What is asked of an engine before it is used: the kind that it is, and what it can do."""

    kind: str
    abilities: frozenset[Ability]


class Graph:
    """Nodes in the order in which they run. Everything that can be wrong with it is an error here."""

    def __init__(self, sources: Mapping[str, type[Struct]], stages: Sequence[Placed]) -> None:
        """``sources`` are the records that each source gives, by its name. Raises ``RecipeError``."""
        self.nodes: list[GraphNode] = []
        self._index: dict[str, int] = {}
        self._placed = {placed.name for placed in stages}
        for name, record in sources.items():
            self._add(f"source {name!r}", GraphNode(name, record))
        for position, placed in enumerate(stages, 1):
            self._place(f"stage {position} ({placed.name})", placed)
        if not stages:
            raise RecipeError("the pipeline has no stages.", remedy="Name at least one under 'stages:'.")

    def _add(self, where: str, node: GraphNode) -> None:
        if not _NAME.fullmatch(node.name):
            raise RecipeError(
                f"{where}: {node.name!r} is not a valid name.",
                remedy="Use up to 64 letters, digits, '_', '-' and '.'; begin with a letter or digit.",
            )
        if node.name in self._index:
            taken = self.nodes[self._index[node.name]]
            what = f"stage {self._index[node.name] - len(self.sources) + 1}" if taken.stage else "a source"
            raise RecipeError(
                f"{where}: the name is already taken by {what}.",
                remedy="Give one of them another name with 'as: NAME'.",
            )
        self._index[node.name] = len(self.nodes)
        self.nodes.append(node)

    def _place(self, where: str, placed: Placed) -> None:
        stage = placed.stage
        inputs = tuple(self._input(where, name) for name in placed.reads) or (len(self.nodes) - 1,)
        least, most = stage.inputs if isinstance(stage, Relation) else (1, 1)
        if not least <= len(inputs) <= (len(inputs) if most is None else most):
            wanted = f"{least}" + ("" if least == most else " or more" if most is None else f" to {most}")
            raise RecipeError(
                f"{where} reads {wanted} input{'s' * (wanted != '1')}, and its 'from' names {len(inputs)}.",
                remedy="Name one: from: NAME. 'union' makes one of several."
                if most == 1
                else "List them in order: from: [FIRST, SECOND].",
            )
        for i in inputs:
            if not gives(self.nodes[i].writes, stage.reads):
                node = self.nodes[i]
                raise RecipeError(
                    f"{where} reads {stage.reads.__name__} records, but the "
                    f"{'stage' if node.stage else 'source'} {node.name!r} gives {node.writes.__name__}.",
                    remedy=self._remedy(stage),
                )
        if placed.engine is not None and not isinstance(stage, RowStage):
            raise RecipeError(
                f"{where} asks no model, so it has no use for the engine {placed.engine!r}.",
                remedy="Leave out its 'engine:'.",
            )
        if isinstance(stage, Relation):
            stage = stage.for_inputs([self.nodes[i].name for i in inputs])
        further = sorted(set().union(*map(self.ancestors, inputs)) - set(inputs), reverse=True)
        known = [self.nodes[i].writes for i in further]
        writes = written(where, stage, [self.nodes[i].writes for i in inputs], known)
        self._add(where, GraphNode(placed.name, writes, stage, inputs, placed.engine, placed.kind))

    def _input(self, where: str, name: str) -> int:
        if name in self._placed and name not in self._index:
            raise RecipeError(
                f"{where}: 'from: {name}' names a stage that does not come before it.",
                remedy=f"Put {name!r} first; a stage cannot read what is made from it.",
            )
        if name not in self._index:
            raise RecipeError(
                f"{where}: 'from: {name}' names no source and no stage.",
                remedy=suggest(name, self._index),
            )
        return self._index[name]

    def _remedy(self, stage: Stage) -> str:
        able = [n.name for n in self.nodes if gives(n.writes, stage.reads)]
        if able:
            return f"Add 'from: {able[-1]}' to it, or change the order of the stages."
        return f"Put a stage that writes {stage.reads.__name__} before it."

    @property
    def sources(self) -> list[int]:
        """The nodes that are sources."""
        return [i for i, node in enumerate(self.nodes) if node.stage is None]

    @property
    def roots(self) -> list[int]:
        """The nodes behind which row stages stream: sources, then filters and relations, in order."""
        return [i for i, node in enumerate(self.nodes) if node.row_stage is None]

    @property
    def names(self) -> list[str]:
        """The names of all nodes, in order."""
        return [node.name for node in self.nodes]

    @property
    def judged_sources(self) -> frozenset[int]:
        """The sources whose rows have a reference answer that a stage judges by."""
        judging = [i for i, node in enumerate(self.nodes) if (stage := node.row_stage) and stage.verifies]
        behind = set().union(*map(self.ancestors, judging))
        answered = (i for i in self.sources if "answer" in self.nodes[i].writes.__struct_fields__)
        return frozenset(i for i in answered if i in behind)

    def find(self, name: str) -> int:
        """The node of a name. ``RecipeError`` where there is none."""
        if name not in self._index:
            raise RecipeError(f"{name!r} names no source and no stage.", remedy=suggest(name, self._index))
        return self._index[name]

    def members(self, root: int) -> list[int]:
        """The row stages that stream behind ``root``: those that read it, or another one of them."""
        found: list[int] = []
        for i, node in enumerate(self.nodes):
            if node.row_stage is not None and (node.inputs[0] == root or node.inputs[0] in found):
                found.append(i)
        return found

    def children(self, index: int) -> list[int]:
        """The row stages that read this node directly."""
        return [i for i, n in enumerate(self.nodes) if n.row_stage is not None and n.inputs[0] == index]

    def tables_behind(self, index: int) -> list[int]:
        """The filters and relations that read this node directly."""
        return [i for i, n in enumerate(self.nodes) if n.table_stage is not None and index in n.inputs]

    def ancestors(self, index: int) -> set[int]:
        """The node and all that it is made from."""
        found = {index}
        for i in self.nodes[index].inputs:
            found |= self.ancestors(i)
        return found

    def wanted(self) -> Iterator[tuple[str, str | None, frozenset[Ability]]]:
        """What the row stages ask of engines: stage, engine (``None``: the main one), abilities."""
        for node in self.nodes:
            if (stage := node.row_stage) is not None:
                yield node.name, node.engine, stage.needs
                yield from ((node.name, engine, needs) for engine, needs in stage.uses.items())

    def check_names(self, engines: Collection[str], verifiers: Collection[str] = ()) -> None:
        """Refuse a stage that wants an engine or a verifier by a name that none has."""
        wanted = [("engine", stage, name) for stage, name, _ in self.wanted() if name is not None]
        for node in self.nodes:
            if node.row_stage is not None:
                wanted += [("verifier", node.name, name) for name in node.row_stage.verifiers]
        for what, stage, name in wanted:
            known = engines if what == "engine" else verifiers
            if name not in known:
                remedy = f"{suggest(name, known)} Or add" if known else "Add"
                raise RecipeError(
                    f"stage {stage!r} wants the {what} {name!r}, which the recipe does not have.",
                    remedy=f"{remedy} it: {what}s: {{{name}: {{kind: ...}}}}.",
                )

    def check_engine(self, engines: Mapping[str | None, Skills]) -> None:
        """Refuse engines, by their names (``None``: the main one), that lack what a stage needs."""
        for stage, name, needs in self.wanted():
            kind, abilities = engines[name]
            missing = needs - abilities
            if missing and name is None and kind == NONE:
                raise RecipeError(
                    f"stage {stage!r} needs an engine that can {' and '.join(sorted(missing))}, and the "
                    "recipe names none.",
                    remedy="Add 'engine: {kind: NAME}'; 'gristmill list engines' shows the kinds.",
                )
            if missing:
                which = f"{kind!r}" if name is None else f"{name!r} (of kind {kind!r})"
                raise RecipeError(
                    f"stage {stage!r} needs an engine that can {' and '.join(sorted(missing))}; "
                    f"{which} cannot.",
                    remedy=_able(kind, missing),
                )


def _able(kind: str, missing: frozenset[Ability]) -> str:
    """Which engine can do what one of this ``kind`` cannot."""
    if Ability.REWARD in missing:
        return "Use an engine of kind reward-server or transformers-reward."
    if Ability.SCORE in missing:
        return (
            "Use the openai engine with a vLLM server, and name 'score' among its abilities; or the kind "
            "transformers."
        )
    if kind != "llamacpp":
        return "Use another engine: llamacpp can do that on this machine."
    return "Use the openai engine with a server that can, and name it among its abilities."


def written(
    where: str, stage: Stage, inputs: Sequence[type[Struct]], known: Sequence[type[Struct]] = ()
) -> type[Struct]:
    """The record that a stage puts out of these.

    A stage that writes what it reads keeps the columns that its input has besides. What a relation writes is
    told by a run on empty frames: the record that it declares, if that has these columns; ``known`` are the
    records that its inputs are made of, which may come out again (of ``explode``). Columns that are exactly
    those of another plain record, such as a pair, make that record. Raises ``RecipeError`` where that fails.
    """
    if isinstance(stage, RowStage):
        return inputs[0] if stage.writes is stage.reads else stage.writes
    if isinstance(stage, Filter):
        check_filter(where, stage, inputs[0])
        own = stage.writes is None or stage.writes is stage.reads
        return inputs[0] if own or stage.writes is None else stage.writes
    columns = dict(dry_run(where, stage, *inputs))
    columns.pop(REJECTED_REASON, None)
    columns.pop(REJECTED_DETAIL, None)
    like = [*([] if stage.writes is None else [stage.writes]), *inputs, *known]
    same = next((kind for kind in (*like, *_PLAIN) if dict(schema(kind)) == columns), None)
    return record_of(columns, like, name=f"{type(stage).__name__}Row") if same is None else same
