"""The records of process supervision: steps with their rollouts, and search trees.

What is kept is the evidence, that is rollouts with their verdicts. Values are formed from it later, so
that one set of rollouts serves every formula.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from gristmill.core.engine import Message
from gristmill.core.records import Judged
from gristmill.core.verdicts import Outcome, Verdict

ROOT = -1
"""The parent of a tree's first node."""
_FAILED = (Outcome.INCORRECT, Outcome.UNPARSEABLE)


class Tally(Struct, frozen=True):
    """Rollouts by what came of them: ``correct`` of ``decided``.

    A rollout without a readable answer, or cut off, did not reach the right one: it is decided. A verdict
    of ``timeout`` or ``error`` says nothing of the rollout, and is not.
    """

    correct: int = 0
    decided: int = 0

    @property
    def mean(self) -> float | None:
        """The share of correct rollouts; ``None`` where none is decided."""
        return self.correct / self.decided if self.decided else None


def tally(rollouts: Iterable[Judged]) -> Tally:
    """Count rollouts; see ``Tally``."""
    correct = failed = 0
    for rollout in rollouts:
        correct += rollout.verdict.correct
        failed += rollout.verdict.outcome in _FAILED
    return Tally(correct, correct + failed)


class Step(Struct, frozen=True):
    """A step's text, and the rollouts from the prefix that ends with it (its completion the rest alone).

    ``prover`` holds those of another policy from the same prefix, where a prover engine is named. ``acted``
    is the step as turns, where it is not a part of one text: what the model wrote (which is ``text`` too),
    then the results of the tools that it called.
    """

    text: str
    rollouts: tuple[Judged, ...] = ()
    prover: tuple[Judged, ...] = ()
    acted: tuple[Message, ...] = ()


Scheme = Literal["fixed", "adaptive", "binary"]


class ValuedSolution(Struct, frozen=True):
    """A solution in steps, whose texts join to the completion byte for byte, with Monte Carlo evidence; or a
    conversation with tools, each of whose steps is a turn.

    ``verdict`` is that of its final answer. ``start`` and ``start_prover`` are the rollouts from the
    question alone. ``first_error`` is the index of the first wrong step as the ``scheme`` located it
    (the first prefix from which no rollout is right), -1 where it found none, ``None`` where it did not
    decide; ``stopped`` says why sampling ended. ``valued`` and ``screened`` say which rollouts are
    ``evidence``.
    """

    id: str
    problem_id: str
    problem: str
    answer: str
    messages: tuple[Message, ...]
    steps: tuple[Step, ...]
    verdict: Verdict
    scheme: Scheme
    stopped: str
    start: tuple[Judged, ...] = ()
    start_prover: tuple[Judged, ...] = ()
    first_error: int | None = None
    valued: int = 0
    """Of a search (any scheme but ``fixed``): how many rollouts each prefix has that was to be valued."""
    screened: int = 0
    """The first so many of ``start`` decided whether the problem was kept."""

    def evidence(self, index: int) -> tuple[Judged, ...]:
        """The policy's rollouts after step ``index`` (-1: from the question) whose number no outcome decided.

        Only of these is the share of right ones unbiased, and an interval as wide as it says: a search that
        stops once it has seen a right rollout sees too many of them. ``()`` where there are none.
        """
        if index < 0:
            return self.start[self.screened :]
        drawn = self.steps[index].rollouts
        if self.scheme == "fixed":
            return drawn
        return drawn[: self.valued] if len(drawn) >= self.valued else ()


class ProcessRow(Struct, frozen=True):
    """A row for a process reward model: a prompt, the steps of one solution, and a value for each.

    ``kind`` names the label: ``hard``, ``soft``, ``er-prm(1)``, ... ``correct``, ``decided``, ``low`` and
    ``high`` (a Wilson interval of the success share) are as long as ``steps``; ``decided`` is 0 for a value
    that was inferred or judged rather than sampled. The interval is 0 to 1 there, and where a search stopped
    by what its rollouts came to.
    """

    id: str
    problem_id: str
    problem: str
    prompt: tuple[Message, ...]
    steps: tuple[str, ...]
    values: tuple[float, ...]
    correct: tuple[int, ...]
    decided: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    kind: str
    solved: bool | None = None
    """Whether the solution's final answer is right; ``None`` where that was not decided."""


class StepAction(Struct, frozen=True):
    """A step taken in a state, for reinforcement learning: ``prompt`` and ``prefix`` are the state,
    ``action`` the step, ``value`` the success probability after it, ``advantage`` what it gained (PAV,
    arXiv 2410.08146), ``reward`` value + alpha * advantage."""

    id: str
    problem_id: str
    prompt: tuple[Message, ...]
    prefix: str
    action: str
    value: float
    advantage: float
    reward: float


class Node(Struct, frozen=True):
    """A node of a search tree: the text that it adds to its parent's prefix (empty at the root).

    ``value`` is the search's own estimate (its range is the algorithm's), ``prior`` the policy's weight
    of the node, ``reward`` what reaching it earned. ``terminal`` nodes end the solution, and carry a
    ``verdict`` where a reference answer decides. ``rollouts`` were drawn from the prefix up to here.
    """

    index: int
    parent: int
    text: str
    visits: int = 0
    value: float | None = None
    prior: float | None = None
    reward: float | None = None
    terminal: bool = False
    verdict: Verdict | None = None
    rollouts: tuple[Judged, ...] = ()
    note: str = ""


class Tree(Struct, frozen=True):
    """A search tree of one problem. A node comes after its parent, and ``nodes[i].index`` is ``i``.

    ``algorithm`` names what grew it, ``stopped`` why it ended; ``completions`` and ``tokens`` (of the
    completions) are what it drew, paid for in this run or before.
    """

    id: str
    problem: str
    answer: str | None
    messages: tuple[Message, ...]
    nodes: tuple[Node, ...]
    algorithm: str
    stopped: str
    iterations: int = 0
    completions: int = 0
    tokens: int = 0

    def path(self, index: int) -> tuple[int, ...]:
        """The nodes from the root to ``index``."""
        back = [index]
        while self.nodes[back[-1]].parent != ROOT:
            back.append(self.nodes[back[-1]].parent)
        return tuple(reversed(back))

    def prefix(self, index: int) -> str:
        """The text of the solution up to and with node ``index``."""
        return "".join(self.nodes[i].text for i in self.path(index))

    def children(self, index: int) -> tuple[int, ...]:
        """The children of node ``index``, in order."""
        return tuple(n.index for n in self.nodes if n.parent == index)
