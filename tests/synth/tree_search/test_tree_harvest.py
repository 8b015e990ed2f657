from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tree_adder import adder, context, grow, right, tree_of, wrong

from gristmill.core.engine import Completion
from gristmill.core.errors import RowRejected
from gristmill.core.records import Judged, Pair, Sampled
from gristmill.core.stages import Rejection
from gristmill.core.steps import Node, ProcessRow, StepAction, Tree
from gristmill.core.verdicts import Verdict
from gristmill.pipelines.exports.preference import TrlDpo
from gristmill.pipelines.exports.reasoning import ChatMessage
from gristmill.synth.tree_search.harvest import TreeActions, TreeProcess, TreeTraces
from gristmill.synth.tree_search.mcts import TreeSearch
from gristmill.synth.tree_search.pairs import TreePairs, apart


def of(stage: Any, tree: Tree) -> list[Any]:
    return list(asyncio.run(stage(tree, context(adder()))))


def node(index: int, parent: int, text: str, value: float | None, visits: int = 1, **more: Any) -> Node:
    return Node(index, parent, text, visits=visits, value=value, **more)


def end(index: int, parent: int, text: str, value: float, verdict: Verdict, visits: int = 1) -> Node:
    return node(index, parent, text, value, visits, terminal=True, verdict=verdict)


def rollouts(correct: int, of_all: int) -> tuple[Judged, ...]:
    return tuple(Judged(Completion("x"), right() if i < correct else wrong()) for i in range(of_all))


FORK = tree_of(
    node(1, 0, "a\n\n", 0.5, 6),
    node(2, 1, "b\n\n", 0.9, 4),
    node(3, 1, "c\n\n", 0.1, 1),
    node(4, 1, "d\n\n", 0.4, 2),
    end(5, 2, "\\boxed{10}", 1.0, right()),
    end(6, 3, "\\boxed{9}", 0.0, wrong()),
)


def sides(pairs: list[Any]) -> list[tuple[str, str]]:
    return [(p.chosen[0].content, p.rejected[0].content) for p in pairs if isinstance(p, Pair)]


def test_a_pair_shares_its_prefix_and_merges_chains_as_far_as_both_sides_go() -> None:
    assert sides(of(TreePairs(), FORK)) == [("a\n\nb", "a\n\nd")]
    assert sides(of(TreePairs(choose_worst=True), FORK)) == [
        ("a\n\nb\n\n\\boxed{10}", "a\n\nc\n\n\\boxed{9}")
    ]


def test_pairs_go_through_the_export_for_dpo() -> None:
    [pair] = of(TreePairs(), FORK)
    [row] = TrlDpo().rows(pair)
    assert row.chosen == (ChatMessage("assistant", "a\n\nb"),)
    assert row.prompt == FORK.messages


def two(first: tuple[float, int], second: tuple[float, int]) -> Tree:
    return tree_of(node(1, 0, "a", *first), node(2, 0, "b", *second))


def test_equal_evidence_gives_no_pair() -> None:
    assert isinstance(of(TreePairs(), two((0.5, 6), (0.5, 2)))[0], Rejection)
    assert isinstance(of(TreePairs(), two((0.9, 5), (0.1, 5)))[0], Rejection)
    assert isinstance(of(TreePairs(), two((0.9, 2), (0.1, 6)))[0], Rejection)
    assert sides(of(TreePairs(), two((0.9, 6), (0.1, 2)))) == [("a", "b")]
    assert sides(of(TreePairs(visited=False), two((0.9, 5), (0.1, 5)))) == [("a", "b")]


def test_the_margin_is_inclusive() -> None:
    tree = two((0.75, 6), (0.25, 2))
    assert sides(of(TreePairs(margin=0.5), tree)) == [("a", "b")]
    assert isinstance(of(TreePairs(margin=0.51), tree)[0], Rejection)


def test_children_that_failed_or_have_no_value_make_no_pair() -> None:
    tree = tree_of(
        node(1, 0, "a", 0.9, 6), node(2, 0, "b", 0.1, 1, note="failed: gone"), node(3, 0, "c", None)
    )
    assert isinstance(of(TreePairs(), tree)[0], Rejection)


RSTAR = tree_of(
    node(1, 0, "a\n\n", 0.5, 2),
    node(2, 0, "b\n\n", -1.0, 2),
    node(3, 0, "c\n\n", 0.0, 2),
    end(4, 1, "\\boxed{10}", 1.0, right()),
    end(5, 2, "\\boxed{9}", -1.0, wrong()),
    end(6, 3, "\\boxed{10}", 1.0, right()),
    end(7, 3, "\\boxed{8}", -1.0, wrong()),
    algorithm="rstar",
)


def test_rstar_pairs_steps_above_right_ends_with_steps_above_wrong_ones() -> None:
    made = [(p.chosen[0].content, p.rejected[0].content) for p in of(TreePairs(rule="rstar"), RSTAR)]
    # "c" led to both: it stands on either side, but never against itself. Chains are one step,
    # as far as both sides go.
    assert made == [
        ("a\n\n\\boxed{10}", "b\n\n\\boxed{9}"),
        ("a", "c"),
        ("c", "b"),
        ("c\n\n\\boxed{10}", "c\n\n\\boxed{8}"),
    ]
    pairs = of(TreePairs(rule="rstar"), RSTAR)
    assert not {(p.chosen, p.rejected) for p in pairs} & {(p.rejected, p.chosen) for p in pairs}


def test_rstar_takes_more_of_one_side_where_the_other_has_one() -> None:
    ends = [
        end(i, 0, f"{i}", 1.0 if i == 1 else -i / 10, right() if i == 1 else wrong()) for i in range(1, 8)
    ]
    made = of(TreePairs(rule="rstar"), tree_of(*ends, algorithm="rstar"))
    assert [p.rejected[0].content for p in made] == ["7", "6", "5", "4"]


@settings(max_examples=100, deadline=None)
@given(st.text("ab", max_size=8), st.text("ab", max_size=8), st.integers(0, 9))
def test_apart_is_levenshteins_distance(a: str, b: str, least: int) -> None:
    table = {(i, 0): i for i in range(len(a) + 1)} | {(0, j): j for j in range(len(b) + 1)}
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            kept = table[i - 1, j - 1] + (a[i - 1] != b[j - 1])
            table[i, j] = min(kept, table[i - 1, j] + 1, table[i, j - 1] + 1)
    assert apart(a, b, least) == (table[len(a), len(b)] >= least)


def test_sides_that_are_too_near_make_no_pair() -> None:
    assert len(of(TreePairs(rule="rstar", distance=2), RSTAR)) == 2
    [pair] = of(TreePairs(rule="rstar", distance=3), RSTAR)
    assert sides([pair]) == [("a\n\n\\boxed{10}", "b\n\n\\boxed{9}")]
    [none] = of(TreePairs(rule="rstar", distance=13), RSTAR)
    assert none.reason == "no pair: the sides are too near to each other"


def test_an_omega_tree_has_no_right_ends_to_trace() -> None:
    with pytest.raises(RowRejected, match="the stage sample"):
        of(TreeTraces(), tree_of(node(1, 0, "a", 0.5), algorithm="omega-prm"))


def test_rstar_needs_the_better_solution_through_the_chosen_step() -> None:
    tree = tree_of(
        node(1, 0, "a", 0.2),
        node(2, 0, "b", 0.1),
        end(3, 1, "x", -0.9, right()),
        end(4, 2, "y", 0.9, wrong()),
    )
    assert isinstance(of(TreePairs(rule="rstar"), tree)[0], Rejection)


def test_solutions_as_sides_run_to_their_ends() -> None:
    made = of(TreePairs(side="solution", choose_worst=True), FORK)
    assert sides(made) == [("a\n\nb\n\n\\boxed{10}", "a\n\nc\n\n\\boxed{9}")]
    assert isinstance(of(TreePairs(side="solution"), FORK)[0], Rejection)  # "d" has no end


def test_traces_are_ranked_by_mean_and_least_value() -> None:
    tree = tree_of(
        node(1, 0, "a\n\n", 0.2),
        node(2, 0, "b\n\n", 0.8),
        end(3, 1, "\\boxed{10}", 1.0, right()),
        end(4, 2, "\\boxed{10}", 1.0, right()),
        end(5, 2, "\\boxed{9}", 0.0, wrong()),
        end(6, 2, "Error: \\boxed{10}", 1.0, right()),
        end(7, 2, "\\boxed{10}\n", 1.0, right()),
    )
    assert [s.completion for s in of(TreeTraces(), tree)] == ["b\n\n\\boxed{10}", "b\n\nError: \\boxed{10}"]
    kept = of(TreeTraces(without=("error",)), tree)
    assert [s.completion for s in kept] == ["b\n\n\\boxed{10}", "a\n\n\\boxed{10}"]
    assert all(isinstance(s, Sampled) and s.verdict is not None and s.verdict.correct for s in kept)
    [none] = of(TreeTraces(), two((1, 1), (0, 1)))
    assert none.reason == "no finished solution"
    [none] = of(TreeTraces(), tree_of(end(1, 0, "\\boxed{9}", 0.0, wrong())))
    assert (none.reason, none.detail) == ("no right solution", "1 of 1 ends are wrong")


def test_what_is_right_by_luck_is_neither_a_trace_nor_a_chosen_side() -> None:
    lucky = tree_of(
        node(1, 0, "3 + 4 = 8\n\n", 0.9, 6, rollouts=rollouts(0, 8)),
        node(2, 0, "3 + 4 = 7\n\n", 0.4, 2, rollouts=rollouts(6, 8)),
        end(3, 1, "\\boxed{10}", 1.0, right()),
        end(4, 2, "\\boxed{10}", 1.0, right()),
    )
    assert [s.completion for s in of(TreeTraces(), lucky)] == ["3 + 4 = 7\n\n\\boxed{10}"]
    by_values = of(TreeTraces(sound_arithmetic=False, least=0.5), lucky)
    assert [s.completion for s in by_values] == ["3 + 4 = 7\n\n\\boxed{10}"]
    assert len(of(TreeTraces(sound_arithmetic=False), lucky)) == 2
    [none] = of(TreePairs(), lucky)
    assert none.reason == "no pair: the chosen side has a false equation"
    assert len(of(TreePairs(sound_arithmetic=False), lucky)) == 1
    [none] = of(TreeTraces(), tree_of(end(1, 0, "3 + 4 = 8 \\boxed{10}", 1.0, right())))
    assert none.reason == "every right solution has a false equation"


def test_no_step_that_only_fails_is_chosen_over_one_that_leads_to_a_right_end() -> None:
    tree = tree_of(end(1, 0, "a", 0.9, wrong(), 6), end(2, 0, "b", 0.1, right(), 2))
    [none] = of(TreePairs(), tree)
    assert none.reason == "no pair: only the rejected side leads to a right end"


def test_without_an_answer_the_judge_s_best_is_taken() -> None:
    judged = replace(
        tree_of(
            node(1, 0, "a\n\n", 0.7, 3),
            node(2, 0, "b\n\n", 0.2, 2),
            node(3, 1, "\\boxed{10}", 0.9, terminal=True),
            node(4, 2, "\\boxed{9}", 0.1, terminal=True),
        ),
        answer=None,
    )
    [best] = of(TreeTraces(most=1), judged)
    assert (best.completion, best.verdict, best.answer) == ("a\n\n\\boxed{10}", None, None)
    both = [("a\n\n\\boxed{10}", "b\n\n\\boxed{9}")]
    assert sides(of(TreePairs(rule="rstar", side="solution"), judged)) == both
    [none] = of(TreeTraces(), replace(tree_of(node(1, 0, "a", None, terminal=True)), answer=None))
    assert none.reason == "no end with a value"


def test_an_action_is_what_a_step_gained() -> None:
    tree = tree_of(
        node(1, 0, "a", None, rollouts=rollouts(3, 4)),
        node(2, 0, "b", None, rollouts=rollouts(1, 4)),
        node(3, 1, "c", None, rollouts=rollouts(4, 4)),
        end(4, 1, "d", 0.0, wrong()),
        node(5, 1, "e", None),
    )
    made = of(TreeActions(alpha=0.5), tree)
    assert [(a.prefix, a.action, a.value, a.advantage, a.reward) for a in made] == [
        ("", "a", 0.75, 0.25, 0.875),
        ("", "b", 0.25, -0.25, 0.125),
        ("a", "c", 1.0, 0.25, 1.125),
        ("a", "d", 0.0, -0.75, -0.375),
    ]
    assert all(isinstance(a, StepAction) for a in made)


def test_the_search_s_own_values_are_brought_to_a_probability() -> None:
    made = of(TreeActions(source="search", alpha=0), RSTAR)
    assert [a.value for a in made[:3]] == [0.75, 0.0, 0.5]
    rewarded = tree_of(node(1, 0, "a", 1.5, reward=0.5), algorithm="mcts-dpo")
    with pytest.raises(RowRejected, match="adds up rewards"):
        of(TreeActions(source="search"), rewarded)


def test_process_rows_carry_counts_and_intervals() -> None:
    tree = tree_of(
        node(1, 0, "a", None, rollouts=rollouts(3, 4)),
        end(2, 1, "b", 1.0, right()),
        end(3, 1, "c", 0.0, wrong()),
        node(4, 0, "d", None),
        end(5, 4, "e", 0.0, wrong()),
    )
    first, second, third = of(TreeProcess(), tree)
    assert isinstance(first, ProcessRow)
    assert (first.steps, first.values, first.correct, first.decided) == (
        ("a", "b"),
        (0.75, 1.0),
        (3, 0),
        (4, 0),
    )
    assert (first.low[1], first.high[1], first.solved, first.kind) == (0.0, 1.0, True, "soft")
    assert 0.3 < first.low[0] < 0.75 < first.high[0]
    assert (second.values, second.solved) == ((0.75, 0.0), False)
    assert third == Rejection("p1/5", "a step without a value")


def test_rest_values_reach_one_on_the_right_way_and_fall_off_it() -> None:
    tree = tree_of(
        node(1, 0, "a", None),
        node(2, 1, "b", None),
        end(3, 2, "c", 1.0, right()),
        node(4, 1, "x", None),
        end(5, 4, "y", 0.0, wrong()),
        end(6, 0, "z", 0.0, wrong()),
    )
    rows = {r.id: r for r in of(TreeProcess(values="rest"), tree)}
    assert rows["p1/3"].values == pytest.approx((1 / 3, 2 / 3, 1))
    # Beside a right step with 2 to go: 1/3 - (2/3)/3, then again; never below 0.
    assert rows["p1/5"].values == pytest.approx((1 / 3, 1 / 9, 0.0))
    assert rows["p1/6"].values == (0.0,)
    with pytest.raises(RowRejected, match="count steps"):
        of(TreeProcess(values="rest"), two((1, 1), (0, 1)))


def test_an_end_that_only_closes_the_turn_is_no_step() -> None:
    tree = tree_of(node(1, 0, "a\n\n", None), end(2, 1, "", 1.0, right()))
    [row] = of(TreeProcess(values="rest"), tree)
    assert (row.steps, row.values) == (("a\n\n",), (1.0,))
    assert [s.completion for s in of(TreeTraces(), tree)] == ["a"]


def test_a_grown_tree_gives_everything() -> None:
    tree = grow(TreeSearch(branch=4, iterations=40, parallel=4), context(adder()))
    kinds = Counter(
        type(r).__name__
        for s in (TreePairs(), TreePairs(rule="rstar"), TreeTraces(), TreeActions(), TreeProcess())
        for r in of(s, tree)
    )
    assert set(kinds) == {"Pair", "Sampled", "StepAction", "ProcessRow"}
    for pair in of(TreePairs(rule="rstar", margin=0.2), tree):
        assert pair.chosen[0].content != pair.rejected[0].content
    for action in of(TreeActions(), tree):
        assert -1 <= action.advantage <= 1
