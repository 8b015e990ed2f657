"""Probabilities of preferences: SCIR's two judgements, iREPO's soft labels."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from gristmill.core.engine import Ability, Completion, Message, Request, TokenLogprob, TokenScore
from gristmill.core.errors import RowRejected
from gristmill.core.shares import logistic
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.scorers import InternalJudge, Logits, of_pair
from gristmill.synth.scorers.preferences import agree, logit
from gristmill.testing import check_scorer, context, pair


def test_judges_agree_on_one_side_of_a_half() -> None:
    assert agree(0.8, 0.65) and agree(0.2, 0.4)
    assert not agree(0.8, 0.4) and not agree(0.5, 0.5) and not agree(0.8, 0.5)


def test_logits_are_cut_off_and_sigmas_do_not_overflow() -> None:
    assert [logit(p, 10.0) for p in (0.0, 0.5, 1.0)] == [-10.0, 0.0, 10.0]
    assert logit(0.8) == pytest.approx(math.log(4))
    assert [logistic(x) for x in (-1e4, 0.0, 1e4)] == [0.0, 0.5, 1.0]


def judging(chance: float, bias: float = 0.0, likelihoods: dict[str, float] | None = None) -> ScriptedEngine:
    """An engine that gives the answer 4 this chance, plus a bias for what is shown first; it scores texts."""

    def answer(request: Request, index: int) -> Completion:
        asked = request.messages[-1].content
        first = asked.index("boxed{4}") < asked.index("boxed{5}")
        p = (chance if first else 1 - chance) + bias
        words = (TokenScore("A", math.log(p)), TokenScore("B", math.log(1 - p)))
        return Completion("A", logprobs=(TokenLogprob("A", math.log(p), words),))

    def score(messages: tuple[Message, ...], text: str) -> list[TokenLogprob]:
        return [TokenLogprob(text, (likelihoods or {})[text])]

    abilities = frozenset({Ability.CHAT, Ability.LOGPROBS})
    return ScriptedEngine(answer, abilities=abilities, score=score if likelihoods else None)


def values(scorer: Any, engine: ScriptedEngine, **engines: ScriptedEngine) -> list[float | None]:
    found = asyncio.run(scorer(*of_pair(pair()), context(engine, engines=dict(engines)), "s"))
    assert tuple(score.name for score in found) == scorer.names("s")
    return [score.value for score in found]


def test_a_soft_label_is_the_mean_of_both_orders_and_of_all_annotators() -> None:
    assert values(Logits(), judging(0.7, bias=0.1)) == [pytest.approx(logit(0.7)), pytest.approx(0.7)]
    several = values(Logits(annotators=("x", "y")), judging(0.5), x=judging(0.9), y=judging(0.7))
    assert several == [pytest.approx(logit(0.8)), pytest.approx(0.8)]
    assert Logits(annotators=("x",)).uses == {"x": {Ability.CHAT, Ability.LOGPROBS}}
    check_scorer(Logits(), [pair()], context(judging(0.7)))


def test_the_internal_judge_has_two_chances_of_one_pair() -> None:
    policy = judging(0.65, likelihoods={"\\boxed{4}": -1.0, "\\boxed{5}": -9.0})
    reference = judging(0.5, likelihoods={"\\boxed{4}": -4.0, "\\boxed{5}": -4.0 + 5.862944})
    # beta * ((-1 + 4) - (-9 - 1.862944)) = 0.1 * 13.862944 = log 4
    mean, implicit, judged, divergence, agreed = values(InternalJudge(reference="r"), policy, r=reference)
    assert agreed == 1.0
    assert (implicit, judged) == (pytest.approx(0.8), pytest.approx(0.65))
    assert (mean, divergence) == (pytest.approx(0.725), pytest.approx(0.014244, abs=1e-6))


def test_a_judge_that_cannot_be_read_gives_no_score() -> None:
    def mute(request: Request, index: int) -> Completion:
        other = (TokenScore("Well", 0.0),)
        return Completion("Well", logprobs=(TokenLogprob("Well", 0.0, other),))

    engine = ScriptedEngine(mute, abilities=frozenset({Ability.CHAT, Ability.LOGPROBS}))
    with pytest.raises(RowRejected) as raised:
        values(Logits(), engine)
    assert raised.value.reason == "the judge could not be read"
