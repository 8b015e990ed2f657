"""OmegaPRM as a stage: rejection, budgets, determinism, a kill, going on with a tree."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from omega_solver import PROBLEM, Solver, grow, grow_logged, verify

from gristmill.core.engine import Ability, Completion, Request
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.records import Problem
from gristmill.core.schema import from_frame, to_frame
from gristmill.core.stages import Context
from gristmill.core.steps import Node, Tree
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ABILITIES, ScriptedEngine
from gristmill.synth.step_values.rollouts import Rollouts
from gristmill.synth.tree_search.omega import OmegaPRM
from gristmill.synth.tree_search.omega_search import FIRST_ERROR, UNDECIDED, UNSETTLED

STAGE = OmegaPRM(searches=12)


def test_problems_always_or_never_solved_are_rejected_with_their_counts() -> None:
    for slip, reason, counts in (
        (0.0, "always solved", "32 right of 32"),
        (1.0, "never solved", "0 right of 32"),
    ):
        solver = Solver(slip=slip)
        with pytest.raises(RowRejected) as caught:
            grow(OmegaPRM(), solver)
        assert caught.value.reason == reason
        assert caught.value.message == f"{counts} decided of 32 rollouts"
        assert solver.asked.total() == 32


def test_a_problem_without_an_answer_is_rejected() -> None:
    with pytest.raises(RowRejected, match="no answer"):
        grow(OmegaPRM(), Solver(), Problem("p", "?"))


def test_the_filter_ends_as_soon_as_both_kinds_are_seen() -> None:
    tree = grow(OmegaPRM(searches=1), lambda r, i: "\\boxed{42}" if i == 10 else "\\boxed{13}")
    assert len(tree.nodes[0].rollouts) == 16
    assert tree.nodes[0].value == 1 / 16


@pytest.mark.parametrize("budget", [8, 23, 24, 40, 41, 100])
def test_the_rollout_budget_holds_inside_a_search_and_counts_the_filters(budget: int) -> None:
    """Defect of openr: its 32 filter rollouts are not counted, and it looks only between iterations."""
    solver = Solver(slip=0.1)
    tree = grow(OmegaPRM(max_rollouts=budget), solver)
    assert tree.stopped == "rollouts"
    assert solver.asked.total() == tree.completions == budget // 8 * 8


@pytest.mark.parametrize("budget", [1, 100, 300, 500])
def test_the_token_budget_ends_the_search_at_the_next_request(budget: int) -> None:
    tree = grow(OmegaPRM(max_tokens=budget), Solver(slip=0.1))
    assert tree.stopped == "tokens"
    assert budget <= tree.tokens < budget + 8 * 8  # eight rollouts of eight words at most


def test_a_budget_spent_before_both_kinds_are_seen_says_so() -> None:
    with pytest.raises(RowRejected) as caught:
        grow(OmegaPRM(max_rollouts=20), Solver(slip=0.0))
    assert caught.value.reason == "budget spent before a right and a wrong rollout were seen"
    assert caught.value.message == "16 right of 16 decided of 16 rollouts"
    with pytest.raises(RecipeError, match="less than the first request of 8"):
        OmegaPRM(max_rollouts=7)


def test_the_tree_is_the_same_whatever_the_latency() -> None:
    first = grow(STAGE, Solver(slip=0.1))
    assert len(first.nodes) > 10
    assert grow(STAGE, Solver(slip=0.1), latency=0.002) == first


def test_searches_at_once_keep_several_requests_in_flight_and_the_tree_stays_determined() -> None:
    class Busy(ScriptedEngine):
        now = most = 0

        async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                return await super().generate(request, first=first, n=n)
            finally:
                self.now -= 1

    async def go(at_once: int, latency: float) -> tuple[Tree, int]:
        stage = msgspec.structs.replace(STAGE, at_once=at_once)
        async with Busy(Solver(slip=0.1), latency=latency) as engine:
            return (await stage(PROBLEM, Context(engine, verify, 0)))[0], engine.most

    (tree, most), (slow, _) = asyncio.run(go(4, 0.0001)), asyncio.run(go(4, 0.003))
    assert tree == slow
    assert 2 <= most <= 4
    assert asyncio.run(go(1, 0.0001))[1] == 1
    assert tree.iterations == STAGE.searches
    for node in tree.nodes:
        if node.note == FIRST_ERROR:
            assert "BAD" in node.text and "BAD" not in tree.prefix(node.parent)


def texts(node: Node) -> tuple[object, ...]:
    """A node without the counts of prompt tokens, of which each request of its own has some."""
    said = [(r.completion.text, r.verdict) for r in node.rollouts]
    return (node.parent, node.text, node.visits, node.value, node.note, said)


def test_an_engine_without_many_makes_the_same_tree(tmp_path: Path) -> None:
    engine = ScriptedEngine(Solver(slip=0.1), abilities=ABILITIES - {Ability.MANY}, latency=0.002)
    [tree] = grow_logged(STAGE, engine, tmp_path / "log", [PROBLEM])
    assert engine.requests == tree.completions
    many = grow(STAGE, Solver(slip=0.1))
    assert [texts(n) for n in tree.nodes] == [texts(n) for n in many.nodes]


class Killed(BaseException):
    """As a kill would: nothing that is in flight comes home."""


def test_a_killed_run_pays_again_only_for_what_was_in_flight(tmp_path: Path) -> None:
    problems = [Problem(f"p{i}", f"Problem {i}", "42") for i in range(6)]
    whole_solver = Solver(slip=0.1)
    whole = grow_logged(STAGE, ScriptedEngine(whole_solver), tmp_path / "whole", problems)
    solver = Solver(slip=0.1)

    def until(limit: int) -> ScriptedEngine:
        def answer(request: Request, index: int) -> str:
            if solver.asked.total() >= limit:
                raise Killed
            return solver(request, index)

        return ScriptedEngine(answer, concurrency=4, latency=0.001)

    for limit in (100, 400):
        with pytest.raises(Killed):
            grow_logged(STAGE, until(limit), tmp_path / "log", problems)
    again = grow_logged(STAGE, until(10**9), tmp_path / "log", problems)
    assert again == whole
    assert set(solver.asked) == set(whole_solver.asked)
    # Two kills, at most 4 requests of 8 in flight at each.
    assert solver.asked.total() - len(solver.asked) <= 2 * 4 * 8
    paid = solver.asked.total()
    assert grow_logged(STAGE, until(paid), tmp_path / "log", problems) == whole


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("budget", [16, 40, 48, 56, 64, 96, 112])
def test_a_tree_whose_budget_was_spent_goes_on_as_if_it_had_not_been(budget: int, at_once: int) -> None:
    stage = msgspec.structs.replace(STAGE, at_once=at_once)
    short = grow(msgspec.structs.replace(stage, max_rollouts=budget), Solver(slip=0.1))
    assert short.stopped == "rollouts"
    solver = Solver(slip=0.1)

    async def go() -> Tree:
        async with ScriptedEngine(solver) as engine:
            saved = from_frame(to_frame([short], Tree), Tree)[0]  # as it comes back from a file
            return await stage.extend(saved, Context(engine, verify, 0))

    whole = grow(stage, Solver(slip=0.1))
    assert asyncio.run(go()) == whole
    assert solver.asked.total() == whole.completions - short.completions


def test_an_unfinished_search_is_told_from_a_finished_one() -> None:
    trees = [grow(OmegaPRM(max_rollouts=n), Solver(slip=0.1)) for n in range(16, 200, 8)]
    assert any(n.note == UNSETTLED for tree in trees for n in tree.nodes)
    for tree in trees:
        assert sum(n.visits for n in tree.nodes) == tree.iterations


def test_only_its_own_trees_are_gone_on_with() -> None:
    tree = msgspec.structs.replace(grow(STAGE, Solver()), algorithm="uct")
    context = Context(ScriptedEngine(Solver()), verify, 0)
    with pytest.raises(RecipeError, match="'uct', not 'omega-prm'"):
        asyncio.run(STAGE.extend(tree, context))


def test_a_search_that_the_verifier_cannot_judge_is_left_undecided() -> None:
    def solver(request: Request, index: int) -> str:
        if not request.prefix:
            return "a b c d \\boxed{13}" if index % 2 else "a \\boxed{42}"
        return "\\boxed{slow}"

    async def slow(completion: str, reference: str) -> Verdict:
        return Verdict(Outcome.TIMEOUT) if "slow" in completion else await verify(completion, reference)

    async def go() -> Tree:
        async with ScriptedEngine(solver) as engine:
            return (await STAGE(PROBLEM, Context(engine, slow, 0)))[0]

    tree = asyncio.run(go())
    assert tree.stopped == "exhausted"
    assert [(n.note, n.value) for n in tree.nodes[1:]] == [(UNDECIDED, None)]


def test_every_node_is_after_its_parent_and_adds_text() -> None:
    tree = grow(OmegaPRM(searches=60), Solver(slip=0.15, steps=12))
    assert len(tree.nodes) > 30
    assert [n.index for n in tree.nodes] == list(range(len(tree.nodes)))
    assert all(n.parent < n.index and n.text for n in tree.nodes[1:])
    assert len({tree.prefix(n.index) for n in tree.nodes}) == len(tree.nodes)


def test_the_estimate_bounds_what_is_drawn() -> None:
    for stage in (STAGE, OmegaPRM(searches=3, repeat=4), OmegaPRM(max_rollouts=50)):
        bounds = stage.estimate(PROBLEM)
        tree = grow(stage, Solver(slip=0.1))
        assert bounds.completions_min <= tree.completions <= bounds.completions_max


def test_an_engine_that_cannot_continue_is_asked_by_the_fallback() -> None:
    seen: list[Request] = []

    def solver(request: Request, index: int) -> Completion:
        seen.append(request)
        right = index % 2 if len(request.messages) == 1 else 1
        return Completion("one two three \\boxed{42}" if right else "one two three \\boxed{13}")

    async def go(stage: OmegaPRM) -> None:
        async with ScriptedEngine(solver, abilities=ABILITIES - {Ability.CONTINUE}) as engine:
            await stage(PROBLEM, Context(engine, verify, 0))

    asyncio.run(go(STAGE))
    assert {len(r.messages) for r in seen} == {1, 3}
    assert not any(r.prefix for r in seen)
    with pytest.raises(RecipeError, match="cannot continue"):
        asyncio.run(go(OmegaPRM(rollouts=Rollouts(fallback=""))))
