"""``retrieval_pairs``: what a tree of retrieval steps teaches a critic or a policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Message
from gristmill.core.records import Pair, Score
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.steps import Node, Tree
from gristmill.synth.rag_methods.search import ACTION, FOUND
from gristmill.synth.tree_search.view import View

Kind = Literal["step", "sub-goal", "execution"]


class RetrievalPairs(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes pairs of steps of retrieval that follow the same beginning, from ``retrieval_search``.

    - ``step``: the best and the worst line, of any kind (ReARTeR, arXiv 2501.07861).
    - ``sub-goal``: which kind of line comes next, such as ``Search``: of two kinds the one whose best line is
      worth more; for CR-Planner's critic of sub-goals (arXiv 2410.01428).
    - ``execution``: of lines of one kind the best and the worst; for its critic of executions.

    A pair's prompt is the question and, as the assistant's own turn, the lines so far with all that was
    found; its sides are the lines alone, without what a search found, which nobody wrote. A side with an
    equal value makes no pair. Each pair has one good and one bad side, so that ``unpaired`` makes balanced
    labels of them. The scores ``chosen`` and ``rejected`` are the values, from 0 to 1."""

    reads: ClassVar[type[Struct]] = Tree
    writes: ClassVar[type[Struct]] = Pair
    needs: ClassVar[frozenset[Ability]] = frozenset()

    kinds: Annotated[tuple[Kind, ...], Meta(min_length=1)] = ("step",)
    """The kinds of pairs that are made."""
    margin: Annotated[float, Meta(gt=0, le=1)] = 0.1
    """The least difference of the two values, in (0, 1]."""

    async def __call__(self, record: Tree, context: Context) -> list[Struct]:
        """The pairs of one tree, or a rejection where no two lines differ enough."""
        view = View(record)
        made: list[Struct] = []
        for node in record.nodes:
            lines = [_Line(n, view) for n in view.usable(node.index) if ACTION.match(n.text)]
            for kind in dict.fromkeys(self.kinds):
                for chosen, rejected in _COMPARED[kind](lines):
                    if chosen.value - rejected.value >= self.margin:
                        made.append(_pair(record, node, kind, chosen, rejected))
        return made or [
            Rejection(record.id, "retrieval_pairs: no two lines after one beginning differ enough")
        ]

    def estimate(self, record: Tree) -> Estimate:
        """Nothing: no engine is called."""
        return Estimate(0, 0, 0, 0, rows_max=8 * len(self.kinds) * len(record.nodes))


class _Line:
    """A line that the model wrote, its kind and its value in [0, 1]."""

    def __init__(self, node: Node, view: View) -> None:
        self.node = node
        self.text = node.text.split(f"\n{FOUND}", 1)[0].strip()
        self.kind = self.text.split(":", 1)[0]
        self.value = view.searched(node) or 0.0


Compared = Iterator[tuple[_Line, _Line]]


def _steps(lines: Sequence[_Line]) -> Compared:
    """The best line and the worst; the first of equals."""
    if len(lines) > 1:
        yield max(lines, key=lambda one: one.value), min(lines, key=lambda one: one.value)


def _sub_goals(lines: Sequence[_Line]) -> Compared:
    """Every two kinds, by the best line of each."""
    for own in combinations([max(group, key=lambda one: one.value) for group in _by_kind(lines)], 2):
        better, worse = sorted(own, key=lambda one: -one.value)
        yield better, worse


def _executions(lines: Sequence[_Line]) -> Compared:
    """The best line of a kind and the worst of it."""
    for group in _by_kind(lines):
        yield from _steps(group)


_COMPARED = {"step": _steps, "sub-goal": _sub_goals, "execution": _executions}


def _by_kind(lines: Sequence[_Line]) -> list[list[_Line]]:
    kinds: dict[str, list[_Line]] = {}
    for one in lines:
        kinds.setdefault(one.kind, []).append(one)
    return list(kinds.values())


def _pair(tree: Tree, parent: Node, kind: Kind, chosen: _Line, rejected: _Line) -> Pair:
    before = tree.prefix(parent.index)
    texts = [one.kind if kind == "sub-goal" else one.text for one in (chosen, rejected)]
    return Pair(
        id=f"{tree.id}/{kind}/{chosen.node.index}-{rejected.node.index}",
        problem_id=tree.id,
        kind=kind,
        prompt=(*tree.messages, *((Message("assistant", before),) if before else ())),
        chosen=(Message("assistant", texts[0]),),
        rejected=(Message("assistant", texts[1]),),
        scores=(Score("chosen", chosen.value), Score("rejected", rejected.value)),
    )
