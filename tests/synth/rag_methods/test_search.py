"""Search over retrieval steps: real searches in the tree, and the pairs that come of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rag_methods_asked import DUFF, HARROW, made, question, reason, verify

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.records import Pair
from gristmill.core.stages import Context
from gristmill.core.steps import Node, Tree
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.rag_methods import RetrievalPairs, RetrievalSearch

FOUND = f"Found: Carn Duff: {DUFF['text']}\n"


def policy(request: Request, index: int) -> Completion | str:
    """Searches for the hill, for nothing, or guesses; knows the height only where it was found."""
    before = request.prefix
    if "731" in before:
        return "Answer: 731 metres"
    if before:
        return "Answer: 900 metres"
    return ("Search: height of Carn Duff", "Search: zzz", "Answer: 900 metres")[index % 3]


def grown(says: Any = policy, **options: Any) -> Tree:
    [tree] = made(RetrievalSearch(**{"branch": 3, "iterations": 6, **options}), question(), says)
    return tree


def test_a_search_finds_passages_that_the_model_did_not_write() -> None:
    tree = grown()
    texts = {node.text for node in tree.nodes}
    assert f"Search: height of Carn Duff\n{FOUND}" in texts
    assert "Search: zzz\nFound: nothing\n" in texts
    ends = {node.text.strip(): node.verdict.correct for node in tree.nodes if node.verdict}
    assert ends == {"Answer: 731 metres": True, "Answer: 900 metres": False}


def test_a_search_finds_as_many_passages_as_it_may() -> None:
    tree = grown(found=2)
    found = next(node.text for node in tree.nodes if "Carn Duff is" in node.text)
    assert DUFF["text"] in found and HARROW["text"] in found and found.count("\n") == 2


def test_a_line_of_no_known_kind_is_not_gone_on_with() -> None:
    def says(request: Request, index: int) -> Completion | str:
        return "Found: Carn Duff is 900 metres high." if index == 2 else policy(request, index)

    tree = grown(says)
    [odd] = {node.note for node in tree.nodes if node.text.startswith("Found:")}
    assert odd == "failed: not a line of a known kind"
    with pytest.raises(RowRejected, match="not a line of a known kind"):
        made(RetrievalSearch(), question(), "Let me think.")


def test_a_line_that_is_cut_off_is_not_searched_for() -> None:
    def says(request: Request, index: int) -> Completion | str:
        return Completion("Search: height of", "length") if index == 1 else policy(request, index)

    assert all("Search: height of\n" not in node.text for node in grown(says).nodes)


def test_rollouts_are_refused_since_they_do_not_search() -> None:
    with pytest.raises(RecipeError, match="without searching"):
        RetrievalSearch(algorithm="uct")
    with pytest.raises(RecipeError, match="a step is a line"):
        RetrievalSearch(boundary="\n\n")
    assert RetrievalSearch(algorithm="mcts-dpo").plan.value == "self"


def test_a_question_without_passages_cannot_be_searched() -> None:
    assert reason(RetrievalSearch(), question(passages=[])) == "has no 'passages'"
    tree = grown()
    context = Context(ScriptedEngine(policy), verify, 0)
    with pytest.raises(RecipeError, match="passages that it does not hold"):
        asyncio.run(RetrievalSearch().extend(tree, context))


def pairs(tree: Tree, **options: Any) -> list[Pair]:
    return [one for one in made(RetrievalPairs(**options), tree) if isinstance(one, Pair)]


def test_the_best_and_the_worst_line_are_a_pair_without_what_was_found() -> None:
    [pair] = pairs(grown())
    assert (pair.chosen[0].content, pair.rejected[0].content) == (
        "Search: height of Carn Duff",
        "Answer: 900 metres",
    )
    assert pair.prompt[-1].role == "user"
    assert pair.scores[0].value > pair.scores[1].value >= 0


def tree_of(*nodes: tuple[int, str, float]) -> Tree:
    made = [Node(0, -1, "")] + [
        Node(n, parent, text, 1, value) for n, (parent, text, value) in enumerate(nodes, 1)
    ]
    return Tree("q", "?", "731 metres", (), tuple(made), "rstar", "iterations")


TREE = tree_of(
    (0, f"Search: Carn Duff\n{FOUND}", 0.5),
    (0, "Search: hills\nFound: nothing\n", -1.0),
    (0, "Answer: 900 metres\n", -1.0),
    (1, "Thought: It is 731.\n", 1.0),
    (1, "Answer: 700 metres\n", -1.0),
)


def test_what_comes_next_and_how_well_it_is_done_are_judged_apart() -> None:
    found = pairs(TREE, kinds=("sub-goal", "execution"))
    assert [(p.kind, p.chosen[0].content, p.rejected[0].content) for p in found] == [
        ("sub-goal", "Search", "Answer"),
        ("execution", "Search: Carn Duff", "Search: hills"),
        ("sub-goal", "Thought", "Answer"),
    ]
    # What was found before is part of the prompt.
    assert found[2].prompt[-1].content == f"Search: Carn Duff\n{FOUND}"
    assert [s.value for s in found[0].scores] == [0.75, 0]


def test_lines_of_equal_value_are_no_pair() -> None:
    even = tree_of((0, "Search: a\n", 1.0), (0, "Search: b\n", 1.0), (0, "Answer: c\n", 0.9))
    why = "retrieval_pairs: no two lines after one beginning differ enough"
    assert reason(RetrievalPairs(kinds=("step", "execution", "sub-goal")), even) == why
    assert len(pairs(even, margin=0.05)) == 1
