"""A search tree while it grows. ``Tree`` is the same, at rest: ``thaw`` and ``freeze`` lose nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from gristmill.core.engine import Completion, Message
from gristmill.core.records import Judged
from gristmill.core.steps import ROOT, Node, Tree
from gristmill.core.verdicts import Verdict


class Live(Struct, kw_only=True):
    """A node that may change; its fields are ``Node``'s, and ``children`` its children in order."""

    index: int
    parent: int
    text: str
    depth: int
    visits: int = 0
    value: float | None = None
    prior: float | None = None
    reward: float | None = None
    terminal: bool = False
    verdict: Verdict | None = None
    rollouts: list[Judged] = []
    note: str = ""
    children: list[int] = []


class Growing:
    """A tree to which nodes are added, in an order that the caller declares, and whose nodes change.

    ``completions`` and ``tokens`` count what was drawn (``count``). A search keeps all that decides its
    next move in the nodes and in these counts, so that a tree which was saved goes on as if it had not been.
    """

    def __init__(
        self, id: str, problem: str, answer: str | None, messages: Sequence[Message], algorithm: str
    ) -> None:
        self.id = id
        self.problem = problem
        self.answer = answer
        self.messages = tuple(messages)
        self.algorithm = algorithm
        self.iterations = 0
        self.completions = 0
        self.tokens = 0
        self.nodes = [Live(index=0, parent=ROOT, text="", depth=0)]

    def add(self, parent: int, text: str) -> Live:
        """A new node under ``parent``, after its other children."""
        node = Live(index=len(self.nodes), parent=parent, text=text, depth=self.nodes[parent].depth + 1)
        self.nodes.append(node)
        self.nodes[parent].children.append(node.index)
        return node

    def find(self, parent: int, text: str) -> Live | None:
        """The child of ``parent`` that adds ``text``, if there is one."""
        return next((c for c in self.children(parent) if c.text == text), None)

    def children(self, index: int) -> list[Live]:
        """The children of node ``index``, in order."""
        return [self.nodes[i] for i in self.nodes[index].children]

    def path(self, index: int) -> list[Live]:
        """The nodes from the root to ``index``."""
        back = [self.nodes[index]]
        while back[-1].parent != ROOT:
            back.append(self.nodes[back[-1].parent])
        return back[::-1]

    def prefix(self, index: int) -> str:
        """The text of the solution up to and with node ``index``."""
        return "".join(node.text for node in self.path(index))

    def count(self, drawn: Iterable[Completion]) -> None:
        """Put completions that were drawn on the tree's account."""
        for completion in drawn:
            self.completions += 1
            self.tokens += completion.completion_tokens

    def freeze(self, stopped: str) -> Tree:
        """The tree as a record; ``stopped`` says why it ended."""
        return Tree(
            id=self.id,
            problem=self.problem,
            answer=self.answer,
            messages=self.messages,
            nodes=tuple(map(_rest, self.nodes)),
            algorithm=self.algorithm,
            stopped=stopped,
            iterations=self.iterations,
            completions=self.completions,
            tokens=self.tokens,
        )


def thaw(tree: Tree) -> Growing:
    """A growing tree from a record, which stays as it is."""
    growing = Growing(tree.id, tree.problem, tree.answer, tree.messages, tree.algorithm)
    for node in tree.nodes:
        live = growing.nodes[0] if node.parent == ROOT else growing.add(node.parent, node.text)
        live.visits = node.visits
        live.value = node.value
        live.prior = node.prior
        live.reward = node.reward
        live.terminal = node.terminal
        live.verdict = node.verdict
        live.rollouts = list(node.rollouts)
        live.note = node.note
    growing.iterations = tree.iterations
    growing.completions = tree.completions
    growing.tokens = tree.tokens
    return growing


def _rest(live: Live) -> Node:
    return Node(
        index=live.index,
        parent=live.parent,
        text=live.text,
        visits=live.visits,
        value=live.value,
        prior=live.prior,
        reward=live.reward,
        terminal=live.terminal,
        verdict=live.verdict,
        rollouts=tuple(live.rollouts),
        note=live.note,
    )
