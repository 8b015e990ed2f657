"""Scores from log-probabilities of given text: the vectors of the definitions, and what engines are asked."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gristmill.core.engine import Ability, Message, Request, TokenLogprob
from gristmill.core.errors import RowRejected
from gristmill.core.stages import Context
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.scorers import (
    DensityRatio,
    FollowUp,
    Implicit,
    Likelihood,
    Relevance,
    of_pair,
    of_sample,
)
from gristmill.synth.scorers.follow_up import follow_up_reward, shipped_follow_ups
from gristmill.synth.scorers.relevance import distinct_trigrams, length_incentive
from gristmill.testing import check_scorer, context, pair, sampled

Says = Callable[[tuple[Message, ...], str], float]


def scoring(total: Says | float, tokens: int = 2, **given: Any) -> ScriptedEngine:
    """An engine that gives every text ``tokens`` tokens, whose log-probabilities sum to ``total``."""

    def score(messages: tuple[Message, ...], text: str) -> list[TokenLogprob]:
        value = total if isinstance(total, float) else total(messages, text)
        parts = [text[:1], text[1:], *[""] * tokens][:tokens]
        return [TokenLogprob(part, value / tokens) for part in parts]

    return ScriptedEngine(lambda request, index: "", score=score, **given)


def given(main: ScriptedEngine, **others: ScriptedEngine) -> Context:
    return context(main, engines=dict(others))


def scored(scorer: Any, within: Context, answer: Any = None) -> dict[str, float | None]:
    found = asyncio.run(scorer(answer or of_sample(sampled()), within, "s"))
    return {score.name: score.value for score in found}


def test_an_answer_s_likelihood_is_a_sum_or_a_mean_over_its_tokens() -> None:
    engine = scoring(-6.0, tokens=4)
    assert scored(Likelihood(), given(engine)) == {"s": -1.5}
    assert scored(Likelihood(per="answer"), given(engine)) == {"s": -6.0}
    [score] = check_scorer(Likelihood(), [sampled()], given(engine), score="likelihood")
    assert score.value == -1.5


@pytest.mark.parametrize(("strong", "weak", "ratio"), [(-42.0, -50.0, 8.0), (-40.0, -44.0, 4.0)])
def test_the_density_ratio_is_strong_less_weak(strong: float, weak: float, ratio: float) -> None:
    engines = given(scoring(strong, tokens=8), weak=scoring(weak, tokens=4))
    assert scored(DensityRatio(weak="weak"), engines) == {"s": ratio}
    # Per token each model's own tokens count, so that they need not have one tokenizer.
    assert scored(DensityRatio(weak="weak", per="token"), engines) == {"s": strong / 8 - weak / 4}


def test_a_task_s_system_prompt_is_given_to_both_models_in_the_place_of_another() -> None:
    seen: list[tuple[Message, ...]] = []

    def note(messages: tuple[Message, ...], text: str) -> float:
        seen.append(messages)
        return -1.0

    turns = (Message("system", "Be brief."), Message("user", "Hello?"))
    engines = given(scoring(note), weak=scoring(note))
    scored(
        DensityRatio(weak="weak", system="Be safe on {problem}"), engines, of_sample(sampled(messages=turns))
    )
    assert seen == [(Message("system", "Be safe on What is 2 + 2?"), Message("user", "Hello?"))] * 2
    assert DensityRatio(weak="w", system="{topic}").places == {"system": {"topic"}}


def test_the_implicit_reward_is_beta_times_the_log_ratio_of_the_whole_answer() -> None:
    engines = given(scoring(-5.0), reference=scoring(-9.0, tokens=4))
    assert scored(Implicit(reference="reference"), engines) == {"s": pytest.approx(0.4)}
    assert scored(Implicit(reference="reference", beta=1), engines) == {"s": 4.0}
    assert Implicit(reference="r").uses == {"r": {Ability.SCORE}}
    assert (Implicit(reference="r").needs, Implicit(reference="r", policy="p").needs) == (
        {Ability.SCORE},
        frozenset(),
    )


@pytest.mark.parametrize("total", [-math.inf, math.nan])
def test_what_has_no_finite_likelihood_is_not_scored(total: float) -> None:
    with pytest.raises(RowRejected) as raised:
        scored(Likelihood(), given(scoring(total)))
    assert raised.value.reason == "no finite log-probability"
    with pytest.raises(RowRejected, match="without tokens"):
        scored(Likelihood(), given(scoring(-1.0)), of_sample(sampled(completion="")))


def test_follow_ups_of_content_users_less_those_of_others() -> None:
    assert follow_up_reward([((-1.2, -0.8), (-2.0, -1.5))]) == pytest.approx(0.75)
    # Each category counts once, however many follow-ups it has.
    assert follow_up_reward([((-1.0,), (-2.0,)), ((-1.0, -1.0), (-4.0, -4.0))]) == pytest.approx(2.0)
    own = {"use": {"positive": ["Yes!", "Good."], "negative": ["No!", "Bad."]}}
    values = {"Yes!": -1.2, "Good.": -0.8, "No!": -2.0, "Bad.": -1.5}
    scorer = msgspec.convert({"follow_ups": own}, FollowUp)
    engine = scoring(lambda messages, text: values[text], tokens=1)
    assert scored(scorer, given(engine)) == {"s": pytest.approx(0.75), "s_use": pytest.approx(0.75)}


def test_a_follow_up_is_asked_for_after_the_quoted_answer() -> None:
    prompts: set[str] = set()

    def note(messages: tuple[Message, ...], text: str) -> float:
        prompts.add(messages[-1].content)
        return -1.0

    answer = of_sample(sampled(completion="4. <|im_end|>"))
    found = scored(FollowUp(), given(scoring(note)), answer)
    assert set(found.values()) == {0.0} and len(found) == 1 + len(shipped_follow_ups())
    [prompt] = prompts
    assert "[BEGIN RESPONSE" in prompt and "<|im_end|>" not in prompt


def test_the_regularisers_of_relevance() -> None:
    assert length_incentive("one two, three") == 0.04
    assert distinct_trigrams("a b c a b c") == 0.75
    assert distinct_trigrams("a b") == 1.0


def test_relevance_of_an_open_question_grows_with_length_and_of_a_closed_one_does_not() -> None:
    engine = given(scoring(2 * math.log(0.5)))  # two tokens of 0.5
    short, long = (sampled(completion=text, meta='{"closed": true}') for text in ("a b c", "a b c d e f"))
    opened = [scored(Relevance(), engine, of_sample(one)) for one in (short, long)]
    assert [one["s"] for one in opened] == [pytest.approx(0.015), pytest.approx(0.03)]
    assert opened[0] == {
        "s": pytest.approx(0.015),
        "s_relevance": pytest.approx(0.5),
        "s_length": 0.03,
        "s_distinct": 1.0,
    }
    closed = [scored(Relevance(closed="closed"), engine, of_sample(one))["s"] for one in (short, long)]
    assert closed == [pytest.approx(2.56)] * 2
    unanswered = of_sample(sampled(answer=None, meta='{"closed": true}'))
    with pytest.raises(RowRejected, match="reference"):
        scored(Relevance(closed="closed"), engine, unanswered)


def test_relevance_may_be_a_reranker_s() -> None:
    asked: list[Request] = []

    def reward(request: Request, index: int) -> str:
        asked.append(request)
        return json.dumps([[1.75]])

    engine = ScriptedEngine(reward, abilities=frozenset({Ability.REWARD}))
    scorer = Relevance(measure="reranker", closed="closed", highest=3.5)
    found = scored(scorer, given(engine), of_sample(sampled(completion="x", meta='{"closed": true}')))
    assert found["s"] == pytest.approx(2.56)
    assert (asked[0].messages[-1].content, asked[0].prefix) == ("4", "x")


def test_both_sides_of_a_pair_have_their_own_turns() -> None:
    chosen = (Message("assistant", "a"), Message("user", "b"), Message("assistant", "c"))
    first, second = of_pair(pair(chosen=chosen, meta='{"answer": 4}'))
    assert [m.content for m in first.messages] == ["What is 2 + 2?", "a", "b"]
    assert (first.completion, second.completion, first.reference) == ("c", "\\boxed{5}", "4")
