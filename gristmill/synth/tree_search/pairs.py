"""Step-level preference pairs out of a search tree."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Message
from gristmill.core.errors import RowRejected
from gristmill.core.records import Pair
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.steps import Node, Tree
from gristmill.synth.tree_search.omega_search import ALGORITHM as OMEGA
from gristmill.synth.tree_search.view import View, solution
from gristmill.verifiers.rules.arithmetic import sound


def confidence(best: int, rejected: int) -> float:
    """1 / (1 + N_rejected / max(1, N_best)), of visit counts (MCTS-DPO, arXiv 2405.00451)."""
    return 1 / (1 + rejected / max(1, best))


def epsilon(best: int, rejected: int) -> float:
    """min(1 - confidence, 0.5): how likely the label is taken to be flipped in conservative DPO."""
    return min(1 - confidence(best, rejected), 0.5)


def conservative_loss(delta: float, eps: float, beta: float = 0.1) -> float:
    """-(1 - eps) log sigmoid(beta delta) - eps log sigmoid(-beta delta); ``delta`` is the difference of the
    log-ratios of chosen and rejected."""
    x = beta * delta
    # -log sigmoid(x) = max(-x, 0) + log(1 + exp(-|x|)), which never overflows.
    return (1 - eps) * max(-x, 0.0) + eps * max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def apart(a: str, b: str, least: int) -> bool:
    """Whether ``a`` and ``b`` are at least ``least`` edits of a character apart (Levenshtein's distance).

    Takes time in proportion to the length times ``least``, as a way of fewer edits stays near the diagonal.
    """
    if least <= 0 or abs(len(a) - len(b)) >= least:
        return True
    before = {j: j for j in range(min(len(b), least - 1) + 1)}
    for i in range(1, len(a) + 1):
        row: dict[int, int] = {}
        for j in range(max(0, i - least + 1), min(len(b), i + least - 1) + 1):
            kept = before.get(j - 1, least) + (j == 0 or a[i - 1] != b[j - 1])
            row[j] = min(kept, before.get(j, least) + 1, row.get(j - 1, least) + 1)
        if min(row.values()) >= least:
            return True
        before = row
    return before[len(b)] >= least


class TreePairs(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes pairs of steps that follow the same prefix.

    Both sides are the assistant's turn from its beginning, the shared prefix included, so that any trainer of
    chat pairs takes them. What is shared adds the same to both log-probabilities and drops out of DPO's
    difference: only what differs is learned.

    Equal evidence gives no pair: Q must differ by more than 0. Under ``mcts-dpo`` a pair's ``flip`` is the
    epsilon of conservative DPO; under ``rstar`` its ``weight`` is 1 / (chosen x rejected) of the pairs that
    the node has.
    """

    rule: Literal["mcts-dpo", "rstar"] = "mcts-dpo"
    """``mcts-dpo`` (arXiv 2405.00451) goes down the tree by the best child, and pairs it with the second
    best; chains of only children are one step, as far as both sides go, and children are compared by (Q,
    share of visits, reward, base value, visits). ``rstar`` (arXiv 2501.04519) pairs, at every node,
    children above a right end, the highest Q first, with children above a wrong one, the lowest first, if
    the best solution through the one has a greater mean Q than the worst through the other."""
    choose_worst: bool = False
    """Whether ``mcts-dpo`` pairs the best child with the worst instead of the second best."""
    margin: Annotated[float, Meta(ge=0)] = 0.0
    """The least difference of Q. rStar-Math's later filter is 0.5, with a ``distance`` of 20."""
    visited: bool | None = None
    """Whether the chosen side must have more visits than the rejected (with equal or fewer, MCTS-DPO's
    conservative label is one half and teaches nothing); ``null``: under ``mcts-dpo`` only."""
    distance: Annotated[int, Meta(ge=1)] = 1
    """The least edit distance of the two sides, in characters; 1 asks only that they differ."""
    top: Annotated[int, Meta(ge=1)] = 2
    """The most children on either side of a node's pairs under ``rstar``; twice as many where the other side
    has one."""
    side: Literal["step", "solution"] = "step"
    """``solution`` carries each side on to an end: the best right one, and the worst wrong one, below it;
    of a problem without an answer the best and the worst by the judge's values."""
    sound_arithmetic: bool = True
    """Whether a chosen side with a false equation makes no pair: it is good by luck. See ``tree_traces``."""

    reads: ClassVar[type[Struct]] = Tree
    writes: ClassVar[type[Struct]] = Pair
    needs: ClassVar[frozenset[Ability]] = frozenset()

    async def __call__(self, record: Tree, context: Context) -> list[Struct]:
        """The pairs of one tree, or a rejection where no two siblings differ."""
        if record.algorithm == OMEGA:
            raise RowRejected("an OmegaPRM tree", "the stage omega_pairs reads these")
        view = View(record)
        found = _down(view, self.choose_worst) if self.rule == "mcts-dpo" else _everywhere(view, self.top)
        made: list[Struct] = []
        against: Counter[str] = Counter()
        for _, siblings in groupby(found, key=lambda sides: sides[0].parent):
            both = [(c, r, self.differ(c, r) or self.pair(view, c, r)) for c, r in siblings]
            against.update(p for _, _, p in both if isinstance(p, str))
            kept = [(c, r, p) for c, r, p in both if isinstance(p, Pair)]
            # Counted after the dropping, so that the weights of one node's pairs add up to at most 1.
            sides = len({c.index for c, _, _ in kept}) * len({r.index for _, r, _ in kept})
            weight = 1 / sides if self.rule == "rstar" and kept else 1.0
            made += [replace(pair, weight=weight) for _, _, pair in kept]
        if made:
            return made
        reason = against.most_common(1)[0][0] if against else "no two steps after one prefix to compare"
        detail = ", ".join(f"{n} times {why}" for why, n in against.most_common())
        return [Rejection(record.id, f"no pair: {reason}", detail)]

    def differ(self, chosen: Node, rejected: Node) -> str:
        """Why the evidence does not prefer ``chosen`` enough; empty where it does."""
        gap = (chosen.value or 0.0) - (rejected.value or 0.0)
        visited = self.rule == "mcts-dpo" if self.visited is None else self.visited
        if gap <= 0:
            return "no two steps after one prefix differ in evidence"
        if gap < self.margin:
            return "values differ by less than the margin"
        return "the better step has no more visits" if visited and chosen.visits <= rejected.visits else ""

    def pair(self, view: View, chosen: Node, rejected: Node) -> Pair | str:
        """The pair of two children of one node, or why there is none."""
        if self.side == "solution":
            best, worst = view.best_end(chosen.index), view.worst_end(rejected.index)
            if best is None or worst is None:
                return "a side leads to no end of its kind"
            ends = [best, worst]
        else:
            chains = [_chain(view, chosen.index), _chain(view, rejected.index)]
            reach = min(map(len, chains))  # a whole solution against a single step would be unlike
            ends = [chain[reach - 1] for chain in chains]
        texts = [solution([view.tree.prefix(end)]) for end in ends]
        if not apart(texts[0], texts[1], self.distance):
            return "the sides are too near to each other"
        if self.sound_arithmetic and not sound(texts[0]):
            return "the chosen side has a false equation"
        if view.tree.answer is not None and not view.right[chosen.index] and view.right[rejected.index]:
            return "only the rejected side leads to a right end"
        tree = view.tree
        return Pair(
            id=f"{tree.id}/{chosen.index}-{rejected.index}",
            problem_id=tree.id,
            kind=self.rule,
            prompt=tree.messages,
            chosen=(Message("assistant", texts[0]),),
            rejected=(Message("assistant", texts[1]),),
            flip=epsilon(chosen.visits, rejected.visits) if self.rule == "mcts-dpo" else 0.0,
        )

    def estimate(self, record: Tree) -> Estimate:
        """Nothing: no engine is called."""
        # Of a node's children, at most 2 top on each side.
        most = 1 if self.rule == "mcts-dpo" else (2 * self.top) ** 2
        return Estimate(0, 0, 0, 0, rows_max=most * len(record.nodes))


def _down(view: View, choose_worst: bool) -> Iterator[tuple[Node, Node]]:
    """MCTS-DPO: on the way down by the best child, it and the one it is compared with."""
    at = 0
    while children := view.usable(at):
        visits = sum(c.visits for c in children)
        base = sum(view.tree.nodes[i].reward or 0.0 for i in view.tree.path(at))

        def evidence(node: Node, visits: int = visits, base: float = base) -> tuple[float, ...]:
            reward = node.reward or 0.0
            share = node.visits / visits if visits else 0.0
            return (node.value or 0.0, share, reward, base + reward, node.visits)

        ordered = sorted(children, key=evidence, reverse=True)  # stable: of equals the first stays first
        if len(ordered) > 1:
            yield ordered[0], ordered[-1 if choose_worst else 1]
        at = ordered[0].index


def _everywhere(view: View, top: int) -> Iterator[tuple[Node, Node]]:
    """rStar-Math: at every node, steps that led to a right end against steps that led to a wrong one.

    A step that led to both may be on either side, but never against itself; and as Q must be greater
    on the chosen side, no two steps are paired both ways.
    """
    for parent in view.tree.nodes:
        children = view.usable(parent.index)
        above = sorted((c for c in children if view.good[c.index]), key=lambda c: -(c.value or 0.0))
        under = sorted((c for c in children if view.bad[c.index]), key=lambda c: c.value or 0.0)
        chosen = above[: 2 * top if len(under) == 1 else top]
        rejected = under[: 2 * top if len(above) == 1 else top]
        for a in chosen:
            for b in rejected:
                best, worst = view.best_end(a.index), view.worst_end(b.index)
                if a is b or best is None or worst is None:
                    continue
                if view.merit(best)[0] > view.merit(worst)[0]:
                    yield a, b


def _chain(view: View, index: int) -> list[int]:
    """The nodes of the chain of only children that begins at ``index``."""
    chain = [index]
    while len(view.children[chain[-1]]) == 1:
        chain += view.children[chain[-1]]
    return chain
