from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest
from tree_adder import PROBLEM, adder, context, grow

from gristmill.core.engine import Ability, Completion, Message, Request, TokenLogprob, TokenScore
from gristmill.core.errors import RecipeError
from gristmill.core.records import Problem
from gristmill.engines.scripted import ABILITIES, ScriptedEngine
from gristmill.synth.scorers import ProcessReward
from gristmill.synth.tree_search.mcts import TreeSearch
from gristmill.synth.tree_search.presets import ValueBy
from gristmill.synth.tree_search.values import Evaluator, Worth, process_messages
from gristmill.verifiers.judges.asking import Asking

STEPS = ("Sum: 1\n\n", "Sum: 3\n\n")


def value(by: ValueBy, evaluator: Evaluator, where: Any, answer: str | None = "10") -> Worth:
    return asyncio.run(
        evaluator.value(
            by,
            where,
            problem=PROBLEM.problem,
            answer=answer,
            messages=(Message("user", PROBLEM.problem),),
            steps=STEPS,
            seed=1,
        )
    )


def chances(**tokens: float) -> tuple[TokenLogprob, ...]:
    top = tuple(TokenScore(t, math.log(p)) for t, p in tokens.items())
    return (TokenLogprob(top[0].token, top[0].logprob, top),)


def scoring(answer: Any) -> ScriptedEngine:
    return ScriptedEngine(answer, abilities=ABILITIES | {Ability.LOGPROBS})


def test_rollouts_give_the_share_of_right_ones_and_stay_as_evidence() -> None:
    def answer(request: Request, index: int) -> str:
        assert request.prefix == "".join(STEPS)
        return f"So \\boxed{{{10 if index < 3 else 9}}}."

    worth = value("rollout", Evaluator(k=4), context(answer))
    assert worth.value == 0.75
    assert [r.verdict.correct for r in worth.rollouts] == [True, True, True, False]


def test_a_verifier_says_nothing_of_an_unfinished_solution() -> None:
    assert value("verifier", Evaluator(), context(adder())) == Worth(None)


def test_self_evaluation_is_the_probability_of_the_word() -> None:
    def answer(request: Request, index: int) -> Completion:
        assert "RESPONSE" in request.messages[-1].content
        return Completion("correct", logprobs=chances(correct=0.6, incorrect=0.2))

    assert value("self", Evaluator(), context(answer, logprobs=True)).value == pytest.approx(0.75)


def test_self_evaluation_takes_words_that_hold_a_tenth_of_the_probability() -> None:
    def answer(request: Request, index: int) -> Completion:
        return Completion("correct", logprobs=chances(correct=0.09, incorrect=0.03))

    where = context(answer, logprobs=True)
    assert value("self", Evaluator(), where).value == pytest.approx(0.75)
    worth = value("self", Evaluator(asking=Asking()), where)
    assert worth.value is None and "min_mass (0.5)" in worth.note


def test_self_evaluation_without_probabilities_is_a_share_of_votes() -> None:
    asked: list[Request] = []

    def answer(request: Request, index: int) -> str:
        asked.append(request)
        return "[[correct]]" if index < 4 else "[[incorrect]]"

    assert value("self", Evaluator(votes=5), context(answer)).value == 0.8
    assert asked[0].sampling.temperature == 0.7


def test_a_self_evaluation_that_cannot_be_read_is_no_value() -> None:
    worth = value("self", Evaluator(), context(lambda request, index: "Hm."))
    assert worth.value is None
    assert "self-evaluation" in worth.note


def test_a_judge_grades_without_a_gold_answer() -> None:
    judge = ScriptedEngine(lambda request, index: "[[4]]")
    where = context(adder(), engines={"judge": judge})
    assert value("judge", Evaluator(), where, answer=None).value == 0.75


def test_a_process_reward_model_is_read_by_the_probabilities_of_plus_and_minus() -> None:
    asked: list[Request] = []

    def answer(request: Request, index: int) -> Completion:
        asked.append(request)
        return Completion("+", logprobs=chances(**{"+": 0.6, "-": 0.2, "x": 0.1}))

    where = context(adder(), engines={"prm": scoring(answer)})
    assert value("prm", Evaluator(), where).value == pytest.approx(0.75)
    assert asked[0].messages == (
        Message("user", f"{PROBLEM.problem} Sum: 1"),
        Message("assistant", "+"),
        Message("user", "Sum: 3"),
    )
    assert (asked[0].sampling.max_tokens, asked[0].sampling.logprobs) == (1, 20)


def test_a_reward_model_that_says_neither_gives_no_value() -> None:
    engine = scoring(lambda request, index: Completion("x", logprobs=chances(x=1.0)))
    assert "neither" in value("prm", Evaluator(), context(adder(), engines={"prm": engine})).note


def rewarding(*rows: list[float]) -> ScriptedEngine:
    return ScriptedEngine(lambda request, index: json.dumps(rows), abilities=frozenset({Ability.REWARD}))


def test_a_model_that_gives_rewards_is_read_at_the_step_tags() -> None:
    where = context(adder(), engines={"prm": rewarding([0.4, 0.6], [0.75, 0.25])})
    assert value("prm", Evaluator(), where).value == 0.25
    least = Evaluator(process=ProcessReward(rule="product", read="probabilities"))
    assert value("prm", least, where).value == pytest.approx(0.15)
    short = context(adder(), engines={"prm": rewarding([0.4, 0.6])})
    worth = value("prm", Evaluator(), short)
    assert worth.value is None and "2 steps, but 1 values" in worth.note


def test_blank_steps_are_not_shown_to_a_reward_model() -> None:
    assert process_messages("q", ("", "a\n\n", " ", "b"), "+")[0].content == "q a"
    assert len(process_messages("q", ("", "a\n\n", " ", "b"), "+")) == 3
    assert process_messages("q", (), "+") == (Message("user", "q"),)


def test_a_missing_or_unable_engine_is_named_before_anything_is_drawn() -> None:
    where = context(adder())
    with pytest.raises(RecipeError, match="'judge'"):
        grow(TreeSearch(value="judge"), where)
    able = context(adder(), engines={"prm": ScriptedEngine(adder())})
    with pytest.raises(RecipeError, match="probabilities"):
        grow(TreeSearch(value="prm"), able)
    assert where.engine.requests == able.engine.requests == 0  # type: ignore[attr-defined]


def test_the_stage_says_which_engines_it_uses() -> None:
    assert TreeSearch(algorithm="rest-mcts*").uses == {"prm": frozenset()}
    implicit = Evaluator(process=ProcessReward(reference="base"))
    search = TreeSearch(algorithm="rest-mcts*", evaluator=implicit)
    assert search.uses == {"prm": {Ability.SCORE}, "base": {Ability.SCORE}}
    assert TreeSearch(value="judge", evaluator=Evaluator(engine="big")).uses == {"big": {Ability.CHAT}}
    assert TreeSearch(value="rollout").uses == TreeSearch(algorithm="rstar").uses == {}


def test_a_search_without_a_gold_answer_goes_by_the_judge() -> None:
    def grade(request: Request, index: int) -> str:
        return "[[5]]" if "boxed{10}" in request.messages[-1].content else "[[2]]"

    where = context(adder(), engines={"judge": ScriptedEngine(grade)})
    tree = grow(
        TreeSearch(value="judge", stop_at=0.9, branch=4, iterations=60),
        where,
        Problem("p", "Add 1, 2, 3, 4."),
    )
    assert tree.stopped == "found"
    best = next(n for n in tree.nodes if n.terminal and n.value == 1)
    assert "\\boxed{10}" in best.text and best.verdict is None


def test_rest_mcts_mixes_the_best_childs_value_with_its_simulation() -> None:
    def answer(request: Request, index: int) -> str:
        return "a" if request.prefix.count("\n\n") < 3 else "\\boxed{10}"

    def grade(request: Request, index: int) -> Completion:
        seen = sum(m.role == "user" for m in request.messages)
        return Completion("+", logprobs=chances(**{"+": {1: 0.4, 2: 0.9, 3: 0.2}[seen], "-": 1e-9}))

    def marks(request: Request, index: int) -> Completion:
        made = grade(request, index)
        [first] = made.logprobs or ()
        plus = math.exp(first.logprob)
        return Completion("+", logprobs=chances(**{"+": plus, "-": 1 - plus}))

    where = context(answer, engines={"prm": scoring(marks)})
    tree = grow(TreeSearch(algorithm="rest-mcts*", iterations=1, roll_depth=2), where)
    # Its own value is .4, the simulation meets .9 and .2, alpha is .5.
    assert tree.nodes[1].value == pytest.approx(0.65)
    assert tree.nodes[0].value == pytest.approx(0.65)


def test_mcts_dpo_rewards_a_step_by_what_it_adds() -> None:
    def answer(request: Request, index: int) -> Completion:
        if "RESPONSE" in request.messages[-1].content:
            p = 0.5 if request.messages[-1].content.count("step") < 3 else 0.8
            return Completion("correct", logprobs=chances(correct=p, incorrect=1 - p))
        done = request.prefix.count("\n\n")
        text = f"step {index}" if done < 2 else "\\boxed{10}"
        return Completion(text, logprobs=(TokenLogprob(text, -1.0),))

    tree = grow(TreeSearch(algorithm="mcts-dpo", iterations=1), context(answer, logprobs=True))
    first = tree.nodes[1]
    assert first.reward == pytest.approx(0.5)
    assert first.value == pytest.approx(1.0)  # Q = reward + value
    assert first.prior == pytest.approx(math.exp(-1))
    assert tree.nodes[0].value == pytest.approx(1.0)
    assert tree.nodes[0].visits == 1


def test_priors_are_even_where_the_engine_gives_no_probabilities() -> None:
    tree = grow(TreeSearch(algorithm="puct", iterations=1, branch=8), context(adder(wrong=0.5)))
    children = tree.children(0)
    assert len(children) == 2
    assert [tree.nodes[i].prior for i in children] == [0.5, 0.5]
