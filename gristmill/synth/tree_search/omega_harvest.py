"""What an OmegaPRM tree gives a trainer: process-reward rows, and step-level preference pairs.

Source: arXiv 2406.06592, section 3.4: pointwise soft labels MC(s) (best in its table), pointwise hard
labels 1[MC(s) > 0], and pairwise ones (Bradley-Terry).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Message
from gristmill.core.records import Pair
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.steps import Node, ProcessRow, Tree
from gristmill.synth.tree_search.omega_search import FIRST_ERROR, UNSETTLED
from gristmill.synth.tree_search.view import process_row


class OmegaLabels(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row for each path from the root to the end of what was explored, with a value for each of its steps.

    A step is the text between two visited prefixes. A path ends with the first error found on it, or with
    the last state. The error in the last piece of a rollout, which is known by
    the wrong answer alone, has value 0 and 0 decided rollouts. Paths share prefixes, so a prefix comes in as
    many rows as paths go through it.
    """

    reads: ClassVar[type[Struct]] = Tree
    writes: ClassVar[type[Struct]] = ProcessRow
    needs: ClassVar[frozenset[Ability]] = frozenset()

    label: Literal["soft", "hard"] = "soft"
    """``soft`` labels are MC(s), ``hard`` ones 1 where MC(s) > 0, and 0 at a first error, also where its
    check overturned a right rollout."""

    async def __call__(self, record: Tree, context: Context) -> Sequence[ProcessRow | Rejection]:
        """The rows in the order of the nodes that end them, or a ``Rejection`` where there is no step."""
        steps = labelled(record)
        inner = {node.parent for node in steps}
        rows = [self._row(record, node.index) for node in steps if node.index not in inner]
        return rows or [Rejection(record.id, "no step was valued", record.stopped)]

    def estimate(self, record: Tree) -> Estimate:
        """Nothing is drawn."""
        return Estimate(0, 0, 0, 0, rows_max=len(record.nodes))

    def _row(self, tree: Tree, end: int) -> ProcessRow:
        nodes = [tree.nodes[i] for i in tree.path(end)[1:]]
        means = [mean_of(n) for n in nodes]
        values = (
            means
            if self.label == "soft"
            else [float(n.note != FIRST_ERROR and m > 0.0) for n, m in zip(nodes, means, strict=True)]
        )
        return process_row(tree, nodes[-1], nodes, values, self.label)


class OmegaPairs(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Preference pairs of steps that continue the same state: the higher MC(s) is chosen.

    The best step is paired with the worst, then the next best with the next worst, and so on. Both sides are
    the prefix that they share followed by the step, as an assistant's turn.
    """

    reads: ClassVar[type[Struct]] = Tree
    writes: ClassVar[type[Struct]] = Pair
    needs: ClassVar[frozenset[Ability]] = frozenset()

    margin: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """By how much the values of a pair's steps must differ; equal ones never make a pair."""
    per_state: Annotated[int, Meta(ge=1)] = 1
    """The most pairs of one state."""

    async def __call__(self, record: Tree, context: Context) -> Sequence[Pair | Rejection]:
        """The pairs in the order of the states, or a ``Rejection`` where there is none."""
        siblings: dict[int, list[Node]] = {}
        for node in labelled(record):
            siblings.setdefault(node.parent, []).append(node)
        pairs = []
        for nodes in siblings.values():
            ranked = sorted(nodes, key=mean_of, reverse=True)  # stable: the first node among equals
            both = list(zip(ranked, reversed(ranked), strict=True))[: len(ranked) // 2]
            kept = [(c, r) for c, r in both if mean_of(c) - mean_of(r) > self.margin]
            pairs += [_pair(record, c, r) for c, r in kept[: self.per_state]]
        return pairs or [Rejection(record.id, "no pair of steps", f"{len(siblings)} states have steps")]

    def estimate(self, record: Tree) -> Estimate:
        """Nothing is drawn."""
        return Estimate(0, 0, 0, 0, rows_max=len(record.nodes))


def labelled(tree: Tree) -> list[Node]:
    """The nodes whose value says something of their step: states, and those that end with the first error.

    What comes after an error is not a step to learn from, nor is a wrong prefix that a spent budget left
    unsettled, since its error may be anywhere in it.
    """
    found: dict[int, Node] = {}
    for node in tree.nodes:
        useful = node.note in ("", FIRST_ERROR) or (node.note == UNSETTLED and bool(node.value))
        if useful and node.value is not None and (node.parent == 0 or node.parent in found):
            found[node.index] = node
    return list(found.values())


def mean_of(node: Node) -> float:
    """MC(s) of a labelled node."""
    return node.value or 0.0


def _pair(tree: Tree, chosen: Node, rejected: Node) -> Pair:
    def side(node: Node) -> tuple[Message, ...]:
        return (Message("assistant", tree.prefix(node.index)),)

    return Pair(
        id=f"{tree.id}/{chosen.index}-{rejected.index}",
        problem_id=tree.id,
        kind="omega-step",
        prompt=tree.messages,
        chosen=side(chosen),
        rejected=side(rejected),
    )
