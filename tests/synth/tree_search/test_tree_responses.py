"""Whole answers of a tree as samples, for preferences that no reference decides."""

from __future__ import annotations

import asyncio
import json

import pytest
from writers import always

from gristmill.core.engine import Message
from gristmill.core.errors import RowRejected
from gristmill.core.records import Pair, Sampled, Score, with_score
from gristmill.core.schema import from_frame, to_frame
from gristmill.core.stages import Context, Rejection
from gristmill.core.steps import ROOT, Node, Tree
from gristmill.core.verdicts import Outcome
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth import MakePairs, TreeResponses
from gristmill.synth.tree_search.expand import FAILED
from gristmill.synth.tree_search.omega_search import ALGORITHM as OMEGA


def tree(*ends: tuple[str, str], algorithm: str = "uct") -> Tree:
    """A root, two beginnings, and ends (text, note) that follow the first beginning, the last the second."""
    nodes = [
        Node(0, ROOT, "", 1),
        Node(1, 0, "Roses are red.\n", 1),
        Node(2, 0, "Violets are blue.\n", 1),
        *(
            Node(3 + i, 2 if i == len(ends) - 1 else 1, text, 1, terminal=True, note=note)
            for i, (text, note) in enumerate(ends)
        ),
    ]
    return Tree("p", "A poem.", None, (Message("user", "A poem."),), tuple(nodes), algorithm, "iterations")


def responses(record: Tree) -> list[Sampled | Rejection]:
    context = Context(ScriptedEngine(lambda r, i: ""), always(Outcome.ERROR), 7)
    return list(asyncio.run(TreeResponses()(record, context)))  # type: ignore[arg-type]


def test_every_different_end_is_a_sample_that_a_score_can_make_pairs_of() -> None:
    made = responses(tree(("And sweet.", ""), ("And sour.", ""), ("And sweet.", ""), ("The end.", "")))
    assert [s.completion for s in made if isinstance(s, Sampled)] == [
        "Roses are red.\nAnd sweet.",
        "Roses are red.\nAnd sour.",
        "Violets are blue.\nThe end.",
    ]
    shared = [json.loads(s.meta)["shared"] for s in made if isinstance(s, Sampled)]
    assert shared == [len("Roses are red.\nAnd s"), len("Roses are red.\nAnd s"), 0]
    values = dict(zip(("p/3", "p/4", "p/6"), (0.9, 0.1, 0.5), strict=True))
    scored = [with_score(s, Score("reward", values[s.id])) for s in made if isinstance(s, Sampled)]
    stage = MakePairs(by="scores.reward", rule="all")
    pairs = from_frame(stage([to_frame(scored, Sampled).lazy()], 0).collect(), Pair)
    sides = {(p.chosen[0].content, p.rejected[0].content) for p in pairs}
    assert len(sides) == 3 and ("Roses are red.\nAnd sweet.", "Roses are red.\nAnd sour.") in sides


def test_failed_and_equal_ends_are_left_out() -> None:
    record = tree(("And sweet.", ""), ("And sour.", f"{FAILED}: down"), ("And sweet.", f"{FAILED}: down"))
    [lost] = responses(record)
    assert isinstance(lost, Rejection) and lost.reason == "fewer than two different answers"
    assert TreeResponses().estimate(record).rows_max == 3
    with pytest.raises(RowRejected, match="its ends are rollouts"):
        responses(tree(("a", ""), ("b", ""), algorithm=OMEGA))
