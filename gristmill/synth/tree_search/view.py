"""A finished tree, read: what ends below each node, and how good the way there was."""

from __future__ import annotations

from collections.abc import Sequence

from gristmill.core.errors import RowRejected
from gristmill.core.records import Sampled
from gristmill.core.shares import wilson
from gristmill.core.steps import ROOT, Node, ProcessRow, Tree, tally
from gristmill.core.verdicts import Outcome
from gristmill.synth.tree_search.expand import FAILED
from gristmill.synth.tree_search.presets import PRESETS

_WRONG = (Outcome.INCORRECT, Outcome.UNPARSEABLE)


class View:
    """A tree with its children by node, and the ends of solutions at or below each node.

    ``right`` and ``wrong`` hold their indices, in order. An end whose verdict failed (timeout, error), or
    that has none, is neither. ``good`` and ``bad`` are these where the problem has an answer; where it has
    none, both are all ends that the search's judge valued, to be told apart by their values.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.children: list[list[int]] = [[] for _ in tree.nodes]
        self.right: list[list[int]] = [[] for _ in tree.nodes]
        self.wrong: list[list[int]] = [[] for _ in tree.nodes]
        self.valued: list[list[int]] = [[] for _ in tree.nodes]
        for node in tree.nodes:
            if node.parent != ROOT:
                self.children[node.parent].append(node.index)
            if node.terminal and node.value is not None and not node.note.startswith(FAILED):
                for at in tree.path(node.index):
                    self.valued[at].append(node.index)
            if node.verdict is None or not node.terminal:
                continue
            if node.verdict.correct or _is_wrong(node):
                ends = self.right if node.verdict.correct else self.wrong
                for at in tree.path(node.index):
                    ends[at].append(node.index)

    @property
    def good(self) -> list[list[int]]:
        """The ends to learn from, by node."""
        return self.valued if self.tree.answer is None else self.right

    @property
    def bad(self) -> list[list[int]]:
        """The ends to turn from, by node."""
        return self.valued if self.tree.answer is None else self.wrong

    def usable(self, index: int) -> list[Node]:
        """The children of a node that have a value and did not fail."""
        nodes = (self.tree.nodes[i] for i in self.children[index])
        return [n for n in nodes if n.value is not None and not n.note.startswith(FAILED)]

    def values(self, leaf: int) -> list[float]:
        """The search's values on the way to ``leaf``, without the root's."""
        nodes = (self.tree.nodes[i] for i in self.tree.path(leaf)[1:])
        return [n.value for n in nodes if n.value is not None]

    def merit(self, leaf: int) -> tuple[float, float]:
        """(mean, least) of the values on the way to ``leaf``: by these rStar-Math ranks whole solutions."""
        values = self.values(leaf)
        return (sum(values) / len(values), min(values)) if values else (0.0, 0.0)

    def best_end(self, index: int) -> int | None:
        """The good end below a node by the best way there; the first of equals."""
        return max(self.good[index], key=self.merit, default=None)

    def worst_end(self, index: int) -> int | None:
        """The bad end below a node by the worst way there; the first of equals."""
        return min(self.bad[index], key=self.merit, default=None)

    def steps(self, leaf: int) -> list[Node]:
        """The nodes on the way to ``leaf`` that add text: an end that only closes the turn is not a step."""
        return [n for i in self.tree.path(leaf) if (n := self.tree.nodes[i]).text]

    def chance(self, node: Node) -> float | None:
        """The share of right among a node's rollouts, or for an end its verdict as 0 or 1."""
        if node.terminal and node.verdict is not None:
            return float(node.verdict.correct) if node.verdict.correct or _is_wrong(node) else None
        return tally(node.rollouts).mean

    def holds(self, leaf: int, least: float) -> bool:
        """Whether every step on the way to ``leaf`` with rollouts of its own has at least this share of right
        ones."""
        nodes = (self.tree.nodes[i] for i in self.tree.path(leaf)[1:])
        return all(share >= least for n in nodes if (share := tally(n.rollouts).mean) is not None)

    def searched(self, node: Node) -> float | None:
        """The search's own value of a node, in [0, 1]. ``RowRejected`` for a tree of step rewards
        (MCTS-DPO), whose Q is not a probability."""
        if any(n.reward is not None for n in self.tree.nodes):
            raise RowRejected("its values are not probabilities", f"{self.tree.algorithm}: Q adds up rewards")
        if node.value is None:
            return None
        worst = next((p.worst for name, p in PRESETS.items() if name == self.tree.algorithm), 0.0)
        return (node.value - worst) / (1 - worst)

    def remaining(self) -> list[int | None]:
        """For each node the least number of further steps to a right end; ``None`` where none is below."""
        least: list[int | None] = [None] * len(self.tree.nodes)
        for leaf in self.right[0]:
            steps = 0
            for index in reversed(self.tree.path(leaf)):
                known = least[index]
                least[index] = steps if known is None else min(known, steps)
                steps += bool(self.tree.nodes[index].text)
        return least


def process_row(
    tree: Tree, end: Node, nodes: Sequence[Node], values: Sequence[float], kind: str
) -> ProcessRow:
    """The row of the path to ``end`` whose steps are ``nodes``, with the counts of their rollouts."""
    counts = [tally(node.rollouts) for node in nodes]
    spans = [wilson(c.correct, c.decided) for c in counts]
    return ProcessRow(
        id=f"{tree.id}/{end.index}",
        problem_id=tree.id,
        problem=tree.problem,
        prompt=tree.messages,
        steps=tuple(node.text for node in nodes),
        values=tuple(values),
        correct=tuple(c.correct for c in counts),
        decided=tuple(c.decided for c in counts),
        low=tuple(low for low, _ in spans),
        high=tuple(high for _, high in spans),
        kind=kind,
        solved=None if end.verdict is None else end.verdict.correct,
    )


def solution(texts: Sequence[str]) -> str:
    """Steps as they are in data: without the boundary that ends the last of them."""
    return "".join(texts).rstrip()


def leaf_sample(tree: Tree, leaf: int, index: int, text: str, meta: str = "{}") -> Sampled:
    """A tree's whole answer as a sample, the ``index``-th of its problem: it was paid for by the search."""
    return Sampled(
        id=f"{tree.id}/{leaf}",
        problem_id=tree.id,
        index=index,
        problem=tree.problem,
        answer=tree.answer,
        messages=tree.messages,
        completion=text,
        finish_reason="stop",
        prompt_tokens=0,
        completion_tokens=0,
        verdict=tree.nodes[leaf].verdict,
        meta=meta,
    )


def _is_wrong(node: Node) -> bool:
    return node.verdict is not None and node.verdict.outcome in _WRONG
