from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from tree_adder import PROBLEM, adder, context, grow, verdict_of

from gristmill.core.engine import Completion, Request, Sampling
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.records import Problem
from gristmill.core.stages import Context
from gristmill.core.steps import Tree
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.tree_search.expand import FAILED, LIMIT
from gristmill.synth.tree_search.mcts import TreeSearch
from gristmill.synth.tree_search.presets import PRESETS

ALGORITHMS: list[dict[str, Any]] = [
    {"algorithm": "uct"},
    {"algorithm": "puct"},
    {"algorithm": "rest-mcts*", "value": "rollout", "stop_at": 2.0},
    {"algorithm": "mcts-dpo", "value": "rollout", "depth": 8},
    {"algorithm": "rstar", "branch": 3, "depth": 8},
]


def stage(**options: Any) -> TreeSearch:
    return msgspec.convert({"branch": 3, "iterations": 12, **options}, TreeSearch)


@pytest.mark.parametrize("options", ALGORITHMS, ids=lambda o: str(o["algorithm"]))
@pytest.mark.parametrize("parallel", [1, 4])
def test_a_search_finds_a_right_solution_and_its_tree_is_sound(
    options: dict[str, Any], parallel: int
) -> None:
    tree = grow(stage(**options, parallel=parallel, iterations=24), context(adder(), logprobs=True))
    ends = [n for n in tree.nodes if n.terminal]
    assert any(n.verdict is not None and n.verdict.correct for n in ends)
    for node in tree.nodes:
        children = [tree.nodes[i] for i in tree.children(node.index)]
        assert len({c.text for c in children}) == len(children)
        assert not (node.terminal and children)
        # Every step but the last keeps the boundary, so that a prefix is what the model would have written.
        assert node.terminal or node.index == 0 or node.text.endswith("\n\n")
        if options["algorithm"] == "rest-mcts*":
            assert sum(c.visits for c in children) <= node.visits + len(children)
    assert 24 <= tree.iterations < 24 + parallel


@pytest.mark.parametrize("options", ALGORITHMS, ids=lambda o: str(o["algorithm"]))
@pytest.mark.parametrize("parallel", [1, 3])
def test_a_tree_that_is_extended_is_the_tree_of_the_larger_search(
    options: dict[str, Any], parallel: int
) -> None:
    small = stage(**options, parallel=parallel, iterations=10)
    large = msgspec.structs.replace(small, iterations=20)
    whole = grow(large, context(adder()))
    half = grow(small, context(adder()))
    saved = msgspec.json.decode(msgspec.json.encode(half), type=Tree)
    grown = asyncio.run(large.extend(saved, context(adder())))
    assert grown == whole
    assert half.iterations < whole.iterations


@pytest.mark.parametrize("options", ALGORITHMS, ids=lambda o: str(o["algorithm"]))
def test_the_tree_does_not_depend_on_which_request_finished_first(options: dict[str, Any]) -> None:
    search = stage(**options, parallel=4)
    assert grow(search, context(adder(), latency=0.002)) == grow(search, context(adder()))


def test_the_tree_accounts_for_all_that_was_drawn() -> None:
    where = context(adder())
    drawn: list[Completion] = []

    async def counting(request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        made = await type(where.engine).generate(where.engine, request, first=first, n=n)
        drawn.extend(made)
        return made

    where.engine.generate = counting  # type: ignore[method-assign]
    tree = grow(stage(), where)
    assert tree.completions == len(drawn)
    assert tree.tokens == sum(c.completion_tokens for c in drawn)


@pytest.mark.parametrize("budget", [15, 40, 100])
def test_the_budget_of_completions_is_never_exceeded(budget: int) -> None:
    tree = grow(stage(completions=budget, parallel=4, iterations=100), context(adder()))
    assert tree.completions <= budget
    assert tree.stopped == "completions"


def test_the_budget_of_tokens_ends_the_search() -> None:
    tree = grow(stage(tokens=100, iterations=100), context(adder()))
    assert tree.stopped == "tokens"
    assert 100 <= tree.tokens < 250


def test_a_right_end_ends_the_search_where_that_is_asked() -> None:
    tree = grow(stage(stop_at=0.9, iterations=100), context(adder(wrong=0.0)))
    assert tree.stopped == "found"
    assert any(n.terminal and n.value == 1 for n in tree.nodes)


def test_a_search_with_nothing_left_to_draw_ends() -> None:
    tree = grow(stage(iterations=100), context(adder(wrong=0.0)))
    assert tree.stopped == "exhausted"
    # Equal steps are one child: four sums and the box.
    assert [len(tree.children(n.index)) for n in tree.nodes] == [1, 1, 1, 1, 1, 0]


def says(steps: Sequence[str]) -> Any:
    """A solver that says ``steps`` one by one, then nothing."""

    def answer(request: Request, index: int) -> str:
        return steps[done] if (done := request.prefix.count("\n\n")) < len(steps) else ""

    return answer


def test_a_solution_without_a_mark_ends_where_the_model_has_no_more_to_say() -> None:
    tree = grow(stage(value="verifier", iterations=3), context(says(["a", "b"])))
    assert [n.text for n in tree.nodes] == ["", "a\n\n", "b\n\n", ""]
    assert [n.terminal for n in tree.nodes] == [False, False, False, True]
    assert tree.nodes[3].verdict is not None


def test_a_stop_string_that_the_server_leaves_in_is_not_doubled() -> None:
    tree = grow(stage(value="verifier", iterations=1), context(says(["a\n\n"])))
    assert tree.nodes[1].text == "a\n\n"


def test_a_model_that_begins_with_the_boundary_has_not_ended() -> None:
    """As servers do it: the text is cut at the stop string, which is left out."""
    whole = "one\n\ntwo\nso \\boxed{10}\n"

    def answer(request: Request, index: int) -> str:
        rest = whole.removeprefix(request.prefix)
        return rest.split("\n")[0] if request.sampling.stop else rest

    tree = grow(stage(value="verifier", iterations=4, boundary="\n"), context(answer))
    assert [n.text for n in tree.nodes[1:]] == ["one\n", "\ntwo\n", "so \\boxed{10}"]
    assert tree.nodes[3].terminal


def test_a_turn_that_ends_within_the_second_asking_is_at_its_end() -> None:
    def answer(request: Request, index: int) -> str:
        rest = "one\n\nten".removeprefix(request.prefix)
        return rest.split("\n")[0] if request.sampling.stop else rest

    tree = grow(stage(value="verifier", iterations=4, boundary="\n"), context(answer))
    assert [(n.text, n.terminal) for n in tree.nodes[1:]] == [("one\n", False), ("\nten", True)]


def test_steps_may_be_windows_of_tokens() -> None:
    def answer(request: Request, index: int) -> Completion:
        assert request.sampling.stop == ()
        return Completion("ab ", "length") if len(request.prefix) < 6 else Completion("\\boxed{10}")

    tree = grow(stage(value="verifier", iterations=3, boundary=""), context(answer))
    assert [(n.text, n.terminal) for n in tree.nodes[1:]] == [
        ("ab ", False),
        ("ab ", False),
        ("\\boxed{10}", True),
    ]


def test_a_node_at_the_depth_limit_is_marked_and_not_gone_beyond() -> None:
    tree = grow(stage(depth=2, iterations=50), context(adder()))
    deep = [n for n in tree.nodes if len(tree.path(n.index)) == 3]
    assert deep and all(n.note == LIMIT and not tree.children(n.index) for n in deep)
    assert tree.stopped == "exhausted"


def test_in_rstar_a_solution_that_is_too_long_counts_for_itself_alone() -> None:
    tree = grow(stage(algorithm="rstar", depth=2, iterations=4, branch=1), context(says(["a"] * 9)))
    leaf, parent = tree.nodes[2], tree.nodes[1]
    assert (leaf.note, leaf.value, leaf.visits) == (LIMIT, -1.0, 1)
    assert (parent.value, parent.visits) == (None, 0)


def test_a_request_that_fails_costs_its_node_and_not_the_tree() -> None:
    inner = adder(wrong=0.9)

    def answer(request: Request, index: int) -> Completion | str:
        if request.prefix == "Sum: 2\n\n" and request.sampling.stop:
            raise RowRejected("request failed", "the server is gone")
        return inner(request, index)

    tree = grow(stage(iterations=30, branch=6), context(answer))
    [bad] = [n for n in tree.nodes if n.note.startswith(FAILED)]
    assert "the server is gone" in bad.note
    assert tree.prefix(bad.index) == "Sum: 2\n\n"
    assert any(n.terminal for n in tree.nodes)


def test_a_node_all_of_whose_steps_failed_is_left_out_too() -> None:
    def answer(request: Request, index: int) -> Completion | str:
        if request.prefix.startswith("a") and request.sampling.stop:
            return Completion("x", "content_filter")
        return ("a", "b")[index] if not request.prefix else "\\boxed{10}"

    tree = grow(stage(algorithm="rstar", branch=2, iterations=4), context(answer))
    notes = {tree.prefix(n.index): n.note for n in tree.nodes if n.note}
    assert notes == {"a\n\n": "failed: every step after it", "a\n\nx": "failed: finish_reason content_filter"}
    assert any(n.verdict is not None and n.verdict.correct for n in tree.nodes)


def test_leaves_of_one_round_differ_and_are_worked_at_once() -> None:
    most = {}
    for parallel in (1, 6):
        flying = peak = 0

        class Watched(ScriptedEngine):
            async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
                nonlocal flying, peak
                flying += 1
                peak = max(peak, flying)
                made = await super().generate(request, first=first, n=n)
                flying -= 1
                return made

        def answer(request: Request, index: int) -> str:
            return f"step {index}" if request.prefix.count("\n\n") < 4 else "\\boxed{10}"

        where = Context(Watched(answer, latency=0.001), verdict_of, 7)
        grow(stage(branch=6, iterations=13, parallel=parallel, depth=5), where)
        most[parallel] = peak
    # Six leaves with six children to value each, against one.
    assert most == {1: 6, 6: 36}


def test_a_problem_of_which_no_step_can_be_drawn_is_rejected_with_the_cause() -> None:
    def answer(request: Request, index: int) -> Completion | str:
        raise RowRejected("request refused", "too long")

    with pytest.raises(RowRejected, match="too long") as caught:
        grow(stage(), context(answer))
    assert caught.value.reason == "request refused"


def test_a_problem_of_which_no_step_can_be_valued_says_so() -> None:
    def answer(request: Request, index: int) -> Completion | str:
        asked = "RESPONSE" in request.messages[-1].content
        return Completion("Hm.", logprobs=()) if asked else adder()(request, index)

    with pytest.raises(RowRejected, match="asking") as caught:
        grow(stage(value="self"), context(answer, logprobs=True))
    assert caught.value.reason == "no step could be valued"


def test_values_by_rollout_need_an_answer() -> None:
    with pytest.raises(RowRejected, match="no answer"):
        grow(stage(), context(adder()), Problem("p", "q"))


def test_stop_strings_beside_the_boundary_are_refused() -> None:
    with pytest.raises(RecipeError, match="boundary"):
        TreeSearch(sampling=Sampling(stop=("x",)))


def test_a_tree_of_another_algorithm_is_not_extended() -> None:
    tree = grow(stage(), context(adder()))
    with pytest.raises(RecipeError, match="'uct'"):
        asyncio.run(stage(algorithm="puct").extend(tree, context(adder())))


def test_presets_are_the_papers_and_options_go_over_them() -> None:
    rest, dpo, rstar = (PRESETS[name] for name in ("rest-mcts*", "mcts-dpo", "rstar"))
    assert (rest.c, rest.branch, rest.alpha, rest.roll_depth, rest.stop_at) == (0.7, 3, 0.5, 3, 0.9)
    assert (dpo.c, dpo.branch, dpo.depth, dpo.iterations) == (1.0, 2, 3, 64)
    assert (rstar.c, rstar.branch, rstar.depth, rstar.iterations) == (2.0, 12, 16, 48)
    assert stage(algorithm="rstar", c=1).plan.c == 1
    assert TreeSearch(algorithm="rstar").plan == rstar


@pytest.mark.parametrize("options", ALGORITHMS, ids=lambda o: str(o["algorithm"]))
def test_the_estimate_bounds_what_is_drawn(options: dict[str, Any]) -> None:
    search = stage(**options)
    bounds = search.estimate(PROBLEM)
    tree = grow(search, context(adder()))
    assert bounds.completions_min <= tree.completions <= bounds.completions_max
