"""What a search tree gives besides pairs: solutions for SFT, actions with advantages, process rewards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.engine import Ability
from gristmill.core.errors import RowRejected
from gristmill.core.records import Sampled
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.steps import Node, ProcessRow, StepAction, Tree
from gristmill.synth.step_values.values import effective_reward, rest_value
from gristmill.synth.tree_search.omega_harvest import labelled
from gristmill.synth.tree_search.omega_search import ALGORITHM as OMEGA
from gristmill.synth.tree_search.view import View, leaf_sample, process_row, solution
from gristmill.verifiers.rules.arithmetic import sound


class TreeTraces(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The best right solutions of a tree, for SFT, by (mean Q, least Q) on the way there.

    Of a problem without an answer they are the best by the values of the search's judge, with no verdict.
    Solutions that read the same count once. Token counts are those of the whole tree only, and 0 here.
    """

    most: Annotated[int, Meta(ge=1)] = 2
    """The most solutions of a tree."""
    without: tuple[str, ...] = ()
    """Words that a solution may not hold, whatever their case: rStar-Math has ``error``."""
    sound_arithmetic: bool = True
    """Whether a solution with a false equation (``gristmill.verifiers.rules.arithmetic``) is left out: its
    answer is right by luck. For plain exact arithmetic: rounding, as in 1/3 = 0.33, reads as false."""
    least: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """The least share of right rollouts of every step that has rollouts of its own: a step from which they
    hardly ever come out right is one that a right answer follows by luck."""

    reads: ClassVar[type[Struct]] = Tree
    writes: ClassVar[type[Struct]] = Sampled
    needs: ClassVar[frozenset[Ability]] = frozenset()

    async def __call__(self, record: Tree, context: Context) -> list[Struct]:
        """The samples, best first; a rejection where no solution is kept. ``RowRejected`` for OmegaPRM."""
        if record.algorithm == OMEGA:
            raise RowRejected(
                "an OmegaPRM tree",
                "its ends are wrong rollouts; the stage sample draws right ones, out of the same log",
            )
        view = View(record)
        ranked = sorted(view.good[0], key=view.merit, reverse=True)  # stable: the first of equals
        texts: dict[str, int] = {}
        against: list[str] = []
        for leaf in ranked:
            text = solution([record.prefix(leaf)])
            if why := self._against(view, leaf, text):
                against.append(why)
            else:
                texts.setdefault(text, leaf)
        if not texts:
            return [Rejection(record.id, *_none_kept(record, view, against))]
        return [
            leaf_sample(record, leaf, rank, text)
            for rank, (text, leaf) in enumerate(list(texts.items())[: self.most])
        ]

    def _against(self, view: View, leaf: int, text: str) -> str:
        """Why a right solution is left out; empty for one that is kept."""
        if any(word.casefold() in text.casefold() for word in self.without):
            return "a barred word"
        if self.sound_arithmetic and not sound(text):
            return "a false equation"
        return "" if view.holds(leaf, self.least) else "a step whose rollouts come out wrong"

    def estimate(self, record: Tree) -> Estimate:
        """Nothing: no engine is called."""
        return Estimate(0, 0, 0, 0, rows_max=self.most)


def _none_kept(tree: Tree, view: View, against: Sequence[str]) -> tuple[str, str]:
    """Why a tree gives no solution: the reason, and the details."""
    if against:
        counts = Counter(against)
        detail = ", ".join(f"{n} with {why}" for why, n in counts.most_common())
        return f"every right solution has {counts.most_common(1)[0][0]}", detail
    ends = sum(node.terminal for node in tree.nodes)
    if not ends:
        return "no finished solution", f"the search ended by {tree.stopped}"
    if view.wrong[0]:
        return "no right solution", f"{len(view.wrong[0])} of {ends} ends are wrong"
    return "no end with a verdict" if tree.answer is not None else "no end with a value", f"{ends} ends"


Source = Literal["rollouts", "search"]


def _value(view: View, node: Node, source: Source) -> float | None:
    return view.chance(node) if source == "rollouts" else view.searched(node)


class TreeActions(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each step of a tree as an action with its advantage, for reinforcement learning.

    The advantage is the gain over the parent's value (the policy's own: for a prover's see the step values);
    a root that was not valued has the mean of its children's. ``reward`` is value + ``alpha`` * advantage. A
    node without a value, or whose parent has none, is left out; of an OmegaPRM tree
    so is what comes after an error.
    """

    source: Source = "rollouts"
    """A node's value: the share of right among its ``rollouts``, or the ``search``'s own value, brought to
    [0, 1]."""
    alpha: float = 0.5
    """The weight of the advantage in the reward."""

    reads: ClassVar[type[Struct]] = Tree
    writes: ClassVar[type[Struct]] = StepAction
    needs: ClassVar[frozenset[Ability]] = frozenset()

    async def __call__(self, record: Tree, context: Context) -> list[Struct]:
        """The actions in the order of the nodes; a rejection where no node has a value."""
        view = View(record)
        values = [_value(view, node, self.source) for node in record.nodes]
        if values[0] is None:
            first = [v for i in view.children[0] if (v := values[i]) is not None]
            values[0] = sum(first) / len(first) if first else None
        made: list[Struct] = []
        for node in labelled(record) if record.algorithm == OMEGA else record.nodes[1:]:
            after, before = values[node.index], values[node.parent]
            if after is not None and before is not None and node.text:
                made.append(self._action(record, node, after, after - before))
        return made or [Rejection(record.id, "no node with a value")]

    def _action(self, tree: Tree, node: Node, value: float, advantage: float) -> StepAction:
        return StepAction(
            id=f"{tree.id}/{node.index}",
            problem_id=tree.id,
            prompt=tree.messages,
            prefix=tree.prefix(node.parent),
            action=node.text,
            value=value,
            advantage=advantage,
            reward=effective_reward(value, advantage, self.alpha),
        )

    def estimate(self, record: Tree) -> Estimate:
        """Nothing: no engine is called."""
        return Estimate(0, 0, 0, 0, rows_max=len(record.nodes))


class TreeProcess(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every solution of a tree as a row for a process reward model.

    A solution with a step that has no value is rejected.
    """

    values: Literal["rollouts", "search", "rest"] = "rollouts"
    """``rollouts``: Monte Carlo shares, with counts; the last step has its verdict. ``search``: the search's
    own. ``rest``: the weighted values of ReST-MCTS* (arXiv 2406.03816): on a way to a right end m is the
    least number of steps left, off it every step is wrong and m is that of the last node on it; a tree
    without a right end has none."""

    reads: ClassVar[type[Struct]] = Tree
    writes: ClassVar[type[Struct]] = ProcessRow
    needs: ClassVar[frozenset[Ability]] = frozenset()

    async def __call__(self, record: Tree, context: Context) -> list[Struct]:
        """A row for each end that was found right or wrong, in the order of the nodes."""
        view = View(record)
        if self.values == "rest" and not view.right[0]:
            raise RowRejected("no right solution", "the weighted values count steps to one")
        remaining = view.remaining()
        made: list[Struct] = []
        for leaf in sorted(view.right[0] + view.wrong[0]):
            steps = view.steps(leaf)
            if self.values == "rest":
                values: list[float | None] = [*_rest_values(record, steps, remaining)]
            else:
                source: Source = "search" if self.values == "search" else "rollouts"
                values = [_value(view, node, source) for node in steps]
            known = [v for v in values if v is not None]
            if not steps or len(known) < len(steps):
                made.append(Rejection(f"{record.id}/{leaf}", "a step without a value"))
            else:
                made.append(process_row(record, record.nodes[leaf], steps, known, self._kind(record)))
        return made or [Rejection(record.id, "no solution with a verdict")]

    def _kind(self, tree: Tree) -> str:
        return {"rollouts": "soft", "search": f"search({tree.algorithm})", "rest": "rest-mcts*"}[self.values]

    def estimate(self, record: Tree) -> Estimate:
        """Nothing: no engine is called."""
        return Estimate(0, 0, 0, 0, rows_max=len(record.nodes))


def _rest_values(tree: Tree, steps: list[Node], remaining: list[int | None]) -> list[float]:
    """ReST-MCTS* values along one solution of a tree that has a right one."""
    left = remaining[0] or 0
    values: list[float] = []
    for node in steps:
        further = remaining[node.index]
        # A wrong step keeps the last right node's count, without one more.
        left = left if further is None else further
        values.append(rest_value(values[-1] if values else 0.0, left, float(further is None)))
    return values
