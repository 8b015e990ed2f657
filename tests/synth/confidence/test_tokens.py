"""Confidence from token log-probabilities: the vectors, bounds of what is not shown, and the right tokens."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.engine import Ability, Completion, Request, Sampling, TokenLogprob, TokenScore
from gristmill.core.errors import RecipeError
from gristmill.core.records import Problem, Sampled
from gristmill.core.stages import Context
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ABILITIES, ScriptedEngine
from gristmill.synth.confidence import (
    Confidence,
    entropy,
    mean_logprob,
    min_logprob,
    perplexity,
    self_aligned,
    self_certainty,
)
from gristmill.synth.sampling import Sample
from gristmill.testing.records import sampled


def token(text: str, *probabilities: float, own: int = 0) -> TokenLogprob:
    """A token whose alternatives have these probabilities; it is the one at ``own``."""
    logs = [math.log(p) if p else -math.inf for p in probabilities]
    top = tuple(TokenScore(text if i == own else f"{text}{i}", p) for i, p in enumerate(logs))
    return TokenLogprob(text, logs[own], top)


SURE, EVEN, SURER = (
    token("a", 0.7, 0.1, 0.1, 0.1),
    token("b", 0.25, 0.25, 0.25, 0.25),
    token("c", 0.97, 0.01, 0.01, 0.01),
)


def test_self_certainty_of_whole_distributions() -> None:
    for tokens, expected in (([SURE], 0.429813), ([EVEN], 0), ([SURER], 2.075198), ([SURE, EVEN], 0.214907)):
        found = self_certainty(tokens, 4)
        assert found is not None
        assert found == pytest.approx((expected, expected), abs=1e-6)
    assert self_certainty([], 4) is None
    assert self_certainty([TokenLogprob("a", -0.1)], 4) is None
    with pytest.raises(ValueError, match="more than the vocabulary of 3"):
        self_certainty([SURE], 3)


def test_an_impossible_token_leaves_numbers() -> None:
    certain = token("a", 1.0, 0.0, 0.0, 0.0)
    found = self_certainty([certain], 4)
    assert found is not None and found.low == found.high
    assert found.low == pytest.approx(-math.log(4) + 0.75 * 12 * math.log(10))
    assert entropy([certain]) == 0
    assert (min_logprob([TokenLogprob("a", -math.inf)]), perplexity([TokenLogprob("a", 0.0)])) == (-100, 1)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(1e-6, 1), min_size=2, max_size=12), st.integers(1, 12))
def test_what_is_not_shown_is_bounded(raw: list[float], shown: int) -> None:
    whole = sorted((p / sum(raw) for p in raw), reverse=True)
    exact_certainty, exact_entropy = (
        self_certainty([token("a", *whole)], len(whole)),
        entropy([token("a", *whole)]),
    )
    cut = [token("a", *whole[: min(shown, len(whole))])]
    bounded, least = self_certainty(cut, len(whole)), entropy(cut)
    assert bounded and exact_certainty and least is not None and exact_entropy is not None
    assert bounded.low - 1e-9 <= exact_certainty.low <= bounded.high + 1e-9
    assert least <= exact_entropy + 1e-9


def test_a_sampled_token_that_is_not_among_the_alternatives_counts_once() -> None:
    rare = TokenLogprob("z", math.log(0.1), (TokenScore("a", math.log(0.6)), TokenScore("b", math.log(0.3))))
    assert entropy([rare]) == pytest.approx(-sum(p * math.log(p) for p in (0.6, 0.3, 0.1)))
    found = self_certainty([rare], 3)
    assert found is not None and found.low == pytest.approx(
        -sum(math.log(3 * p) for p in (0.6, 0.3, 0.1)) / 3
    )


def test_means_and_least() -> None:
    tokens = [TokenLogprob(str(i), p) for i, p in enumerate((-1.2, -0.6, -0.3))]
    assert (mean_logprob(tokens), min_logprob(tokens)) == pytest.approx((-0.7, -1.2))
    assert perplexity(tokens) == pytest.approx(2.013753, abs=1e-6)
    assert entropy(tokens) is None
    with pytest.raises(ValueError, match="no tokens"):
        perplexity([])


def test_relative_perplexity() -> None:
    assert [self_aligned(*pair) for pair in ((8, 2), (2, 8), (3, 3))] == [0.75, -1, 0]
    with pytest.raises(ValueError, match="at least 1"):
        self_aligned(0.5, 2)


async def unjudged(completion: str, reference: str) -> Verdict:
    return Verdict(Outcome.CORRECT)


def drawn(stage: Sample, answer: Completion) -> tuple[Sampled, list[Request]]:
    seen: list[Request] = []

    def reply(request: Request, index: int) -> Completion:
        seen.append(request)
        return answer

    engine = ScriptedEngine(reply, abilities=ABILITIES | {Ability.LOGPROBS})
    [made] = asyncio.run(stage(Problem("p", "?", "ab"), Context(engine, unjudged, 7)))
    assert isinstance(made, Sampled)
    return made, seen


def scores(sample: Sampled) -> dict[str, float | None]:
    return {score.name: score.value for score in sample.scores}


def test_samples_are_scored_from_their_first_token_to_their_last() -> None:
    stage = Sample(confidence=("mean_logprob", "self_certainty"), vocabulary=4)
    made, [request] = drawn(stage, Completion("ab", logprobs=(SURE, EVEN)))
    assert scores(made) == pytest.approx(
        {
            "mean_logprob": (math.log(0.7) + math.log(0.25)) / 2,
            "self_certainty": 0.214907,
            "self_certainty_error": 0,
        },
        abs=1e-6,
    ), "a slice that begins one token late would be 0, the uniform second token"
    assert request.sampling.logprobs == 20
    assert stage.needs == {Ability.CHAT, Ability.LOGPROBS}


def test_thinking_has_scores_of_its_own() -> None:
    answer = Completion("b", logprobs=(EVEN,), reasoning="a", reasoning_logprobs=(SURE,))
    made, [request] = drawn(Sample(confidence=("min_logprob",)), answer)
    assert scores(made) == pytest.approx(
        {"min_logprob": math.log(0.25), "thinking_min_logprob": math.log(0.7)}
    )
    assert request.sampling.logprobs == 0


def test_without_confidence_requests_are_as_they_were_and_what_is_missing_is_no_score() -> None:
    made, [request] = drawn(Sample(sampling=Sampling(logprobs=None)), Completion("ab", logprobs=(SURE,)))
    assert (made.scores, request.sampling.logprobs) == ((), None)
    made, _ = drawn(Sample(confidence=("entropy",)), Completion("ab"))
    assert made.scores == ()
    with pytest.raises(RecipeError, match="size of the model's vocabulary"):
        Sample(confidence=("self_certainty",))
    assert Sample(engines=("a",), confidence=("entropy",)).uses == {"a": {Ability.CHAT, Ability.LOGPROBS}}


def given_scores(stage: Confidence, sample: Sampled) -> tuple[dict[str, float | None], int]:
    def score(messages: Any, text: str) -> list[TokenLogprob]:
        asked = messages[0].content == sample.messages[0].content
        return [TokenLogprob(text, math.log(1 / 2) if asked else math.log(1 / 8))]

    engine = ScriptedEngine(lambda r, i: "", score=score)
    [made] = asyncio.run(stage(sample, Context(engine, unjudged, 7)))
    return scores(made), engine.requests


def test_a_given_text_is_scored_with_and_without_its_question() -> None:
    assert given_scores(Confidence(), sampled()) == (pytest.approx({"mean_logprob": -math.log(2)}), 1)
    stage = Confidence(measures=("perplexity", "self_aligned"), prefix="teacher_")
    found, requests = given_scores(stage, sampled())
    assert requests == 2 and stage.estimate(sampled()).completions_max == 2
    expected = {"teacher_perplexity": 2, "teacher_self_aligned": 0.75, "teacher_self_aligned_reward": 1.15}
    assert found == pytest.approx(expected)
    unsure = sampled(verdict=Verdict(Outcome.UNPARSEABLE))
    assert given_scores(stage, unsure)[0] == pytest.approx({n: expected[n] for n in list(expected)[:2]})
    assert given_scores(stage, sampled(finish_reason="length")) == ({}, 0)
    assert given_scores(stage, sampled(completion="")) == ({}, 0)
