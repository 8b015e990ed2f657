"""``tree_responses``: whole answers that share their beginnings, as samples that any score can be put on."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import ClassVar

import msgspec
from msgspec import Struct

from gristmill.core.engine import Ability
from gristmill.core.errors import RowRejected
from gristmill.core.records import Sampled
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.steps import Tree
from gristmill.synth.tree_search.expand import FAILED
from gristmill.synth.tree_search.omega_search import ALGORITHM as OMEGA
from gristmill.synth.tree_search.view import leaf_sample, solution


class TreeResponses(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All finished answers of a search tree as samples, for preferences that no reference decides.

    Answers with a common beginning differ in less, so that a comparison says more of what made the
    difference: the tree-structured data of Reward Generalization (arXiv 2402.10184), where any two leaves
    of a tree may be compared. ``score`` or ``judge`` on these samples and then ``pairs`` makes them;
    ``tree_pairs`` makes pairs of siblings by the search's own values. Answers that read the same count once;
    a tree with fewer than two different ones is rejected. Token counts are those of the whole tree, 0 here.

    ``meta`` has ``node``, the answer's node, ``steps``, the number of steps to it, and ``shared``, the
    characters that it has in common with the nearest other answer.
    """

    reads: ClassVar[type[Struct]] = Tree
    writes: ClassVar[type[Struct]] = Sampled
    needs: ClassVar[frozenset[Ability]] = frozenset()

    async def __call__(self, record: Tree, context: Context) -> list[Struct]:
        """The samples in the order of their nodes. ``RowRejected`` for a tree of OmegaPRM."""
        if record.algorithm == OMEGA:
            raise RowRejected(
                "an OmegaPRM tree", "its ends are rollouts; the stage sample draws whole answers"
            )
        ends: dict[str, int] = {}
        for node in record.nodes:
            if node.terminal and not node.note.startswith(FAILED):
                text = solution([record.prefix(node.index)])
                if text.strip():
                    ends.setdefault(text, node.index)
        if len(ends) < 2:
            return [Rejection(record.id, "fewer than two different answers", f"{len(ends)} in the tree")]
        shared = _shared([*ends])
        return [
            leaf_sample(record, leaf, rank, text, _meta(leaf, len(record.path(leaf)) - 1, shared[text]))
            for rank, (text, leaf) in enumerate(ends.items())
        ]

    def estimate(self, record: Tree) -> Estimate:
        """Nothing: no engine is called."""
        return Estimate(0, 0, 0, 0, rows_max=sum(node.terminal for node in record.nodes))


def _meta(node: int, steps: int, shared: int) -> str:
    return msgspec.json.encode({"node": node, "steps": steps, "shared": shared}).decode()


def _shared(texts: list[str]) -> dict[str, int]:
    """Of each text the characters of the longest beginning that it shares with another one. In the order of
    the alphabet, that one is a neighbour."""
    found: dict[str, int] = defaultdict(int)
    for one, then in pairwise(sorted(texts)):
        same = next(
            (i for i, (a, b) in enumerate(zip(one, then, strict=False)) if a != b), min(len(one), len(then))
        )
        found[one], found[then] = max(found[one], same), max(found[then], same)
    return found
