"""What an OmegaPRM tree gives a trainer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec import Struct
from omega_solver import PROBLEM, Solver, grow, verify

from gristmill.core.engine import Completion, Message
from gristmill.core.records import Judged, Pair
from gristmill.core.stages import Context, Rejection
from gristmill.core.steps import ROOT, Node, ProcessRow, Tree
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.tree_search.omega import ALGORITHM, OmegaPRM
from gristmill.synth.tree_search.omega_harvest import OmegaLabels, OmegaPairs, labelled
from gristmill.synth.tree_search.omega_search import AFTER_ERROR, FIRST_ERROR, UNDECIDED, UNSETTLED

ASKED = (Message("user", PROBLEM.problem),)


def harvest(stage: OmegaLabels | OmegaPairs, tree: Tree) -> Sequence[Struct]:
    return asyncio.run(stage(tree, Context(ScriptedEngine(lambda r, i: ""), verify, 0)))


def node(index: int, parent: int, text: str, correct: int, note: str = "", n: int = 8) -> Node:
    outcomes = [Outcome.CORRECT] * correct + [Outcome.INCORRECT] * (n - correct)
    rollouts = tuple(Judged(Completion(""), Verdict(o)) for o in outcomes)
    return Node(index, parent, text, value=correct / n if n else None, rollouts=rollouts, note=note)


def tree(*nodes: Node) -> Tree:
    return Tree("p", PROBLEM.problem, "42", ASKED, nodes, ALGORITHM, "searches")


HAND = tree(
    node(0, ROOT, "", 4),
    node(1, 0, "a", 6),
    node(2, 1, " b", 0, FIRST_ERROR),
    node(3, 2, " c", 0, AFTER_ERROR),
    node(4, 1, " d", 3),
    Node(5, 4, " e", value=0.0, terminal=True, verdict=Verdict(Outcome.INCORRECT), note=FIRST_ERROR),
    node(6, 0, "f", 2, UNSETTLED),
    node(7, 6, " g", 0, UNSETTLED),
    node(8, 0, "h", 0, UNDECIDED, n=0),
)


def test_a_row_for_each_path_up_to_its_first_error() -> None:
    rows = [r for r in harvest(OmegaLabels(), HAND) if isinstance(r, ProcessRow)]
    assert [(r.id, r.steps, r.values) for r in rows] == [
        ("p/2", ("a", " b"), (0.75, 0.0)),
        ("p/5", ("a", " d", " e"), (0.75, 0.375, 0.0)),
        ("p/6", ("f",), (0.25,)),
    ]
    assert rows[1].correct == (6, 3, 0)
    assert rows[1].decided == (8, 8, 0)
    assert rows[1].low[2:] + rows[1].high[2:] == (0.0, 1.0)
    assert 0 < rows[0].low[0] < 0.75 < rows[0].high[0] < 1
    assert [r.solved for r in rows] == [None, False, None]
    assert {(r.kind, r.prompt) for r in rows} == {("soft", ASKED)}


def test_hard_labels_say_whether_any_rollout_was_right() -> None:
    rows = [r for r in harvest(OmegaLabels(label="hard"), HAND) if isinstance(r, ProcessRow)]
    assert [r.values for r in rows] == [(1.0, 0.0), (1.0, 1.0, 0.0), (1.0,)]
    assert {r.kind for r in rows} == {"hard"}


def test_a_first_error_is_labelled_0_though_a_rollout_before_its_check_was_right() -> None:
    lucky = tree(node(0, ROOT, "", 4), node(1, 0, "a", 6), node(2, 1, " b", 1, FIRST_ERROR, n=24))
    [row] = harvest(OmegaLabels(label="hard"), lucky)
    assert isinstance(row, ProcessRow) and row.values == (1.0, 0.0)
    [row] = harvest(OmegaLabels(), lucky)
    assert isinstance(row, ProcessRow) and row.values == (0.75, 1 / 24)


def test_pairs_are_siblings_whose_values_differ() -> None:
    found = [p for p in harvest(OmegaPairs(), HAND) if isinstance(p, Pair)]
    assert [(p.chosen[0].content, p.rejected[0].content) for p in found] == [("a", "f"), ("a d", "a b")]
    assert all(p.prompt == ASKED and p.chosen[0].role == "assistant" for p in found)
    assert [p.id for p in harvest(OmegaPairs(margin=0.4), HAND) if isinstance(p, Pair)] == ["p/1-6"]


def test_equal_evidence_gives_no_pair() -> None:
    same = tree(node(0, ROOT, "", 4), node(1, 0, "a", 3), node(2, 0, "b", 3))
    assert harvest(OmegaPairs(), same) == [Rejection("p", "no pair of steps", "1 states have steps")]


def test_the_best_is_paired_with_the_worst_then_the_next_of_both() -> None:
    many = tree(
        node(0, ROOT, "", 4), *(node(i, 0, "abcde"[i - 1], c) for i, c in enumerate((3, 8, 0, 6, 1), 1))
    )
    found = [p for p in harvest(OmegaPairs(per_state=5), many) if isinstance(p, Pair)]
    assert [(p.chosen[0].content, p.rejected[0].content) for p in found] == [("b", "c"), ("d", "e")]


def test_a_tree_without_steps_is_rejected() -> None:
    assert harvest(OmegaLabels(), tree(node(0, ROOT, "", 4))) == [
        Rejection("p", "no step was valued", "searches")
    ]


def test_the_rows_of_a_grown_tree_are_its_evidence() -> None:
    grown = grow(OmegaPRM(searches=30), Solver(slip=0.1))
    rows = [r for r in harvest(OmegaLabels(), grown) if isinstance(r, ProcessRow)]
    assert len(rows) >= 8
    for row in rows:
        end = int(row.id.partition("/")[2])
        assert "".join(row.steps) == grown.prefix(end)
        assert len(row.steps) == len(row.values) == len(row.correct) == len(row.low) == len(row.high)
        for value, correct, decided in zip(row.values, row.correct, row.decided, strict=True):
            assert value == (correct / decided if decided else 0.0)
    covered = {i for row in rows for i in grown.path(int(row.id.partition("/")[2]))} - {0}
    assert covered == {n.index for n in labelled(grown)}
    pairs = [p for p in harvest(OmegaPairs(), grown) if isinstance(p, Pair)]
    assert pairs
    for pair in pairs:
        chosen, rejected = map(int, pair.id.partition("/")[2].split("-"))
        assert grown.nodes[chosen].parent == grown.nodes[rejected].parent
