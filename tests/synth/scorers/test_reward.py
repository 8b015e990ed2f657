"""Scores of reward models and of process reward models."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest

from gristmill.core.engine import Ability, Request, TokenLogprob
from gristmill.core.errors import RowRejected
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.scorers import ProcessReward, RewardModel, of_sample
from gristmill.synth.step_values.steps import Split
from gristmill.testing import check_scorer, context, sampled


def model(*rows: list[float], seen: list[Request] | None = None) -> ScriptedEngine:
    def reward(request: Request, index: int) -> str:
        if seen is not None:
            seen.append(request)
        return json.dumps(rows)

    return ScriptedEngine(reward, abilities=frozenset({Ability.REWARD}))


def values(scorer: Any, engine: ScriptedEngine, **fields: Any) -> list[float | None]:
    found = asyncio.run(scorer(of_sample(sampled(**fields)), context(engine), "s"))
    assert tuple(score.name for score in found) == scorer.names("s")
    return [score.value for score in found]


def test_a_reward_is_the_model_s_number() -> None:
    seen: list[Request] = []
    assert values(RewardModel(), model([0.25], seen=seen)) == [0.25]
    assert (seen[0].prefix, seen[0].score) == (sampled().completion, True)
    assert RewardModel().needs == {Ability.REWARD}
    assert RewardModel(engine="rm").uses == {"rm": {Ability.REWARD}}
    check_scorer(RewardModel(), [sampled()], context(model([0.25])))


def test_several_outputs_have_names() -> None:
    scorer = RewardModel(outputs=("help", "truth"))
    assert scorer.names("armo") == ("armo_help", "armo_truth")
    assert values(scorer, model([0.25, 0.5])) == [0.25, 0.5]
    for wrong, rows in ((RewardModel(), [[0.1, 0.2]]), (scorer, [[0.1]]), (RewardModel(), [[0.1], [0.2]])):
        with pytest.raises(RowRejected, match=r"gives \d+ rows? of|are named"):
            values(wrong, model(*rows))


def test_what_is_no_number_is_no_reward() -> None:
    with pytest.raises(RowRejected) as raised:
        values(RewardModel(), model([1e999]))
    assert raised.value.reason == "no finite reward"
    with pytest.raises(RowRejected, match="nothing to reward"):
        values(RewardModel(), model([1.0]), completion=" ")


STEPS = "First 2 + 2.\nThen 4.\nSo \\boxed{4}."


def test_a_process_reward_model_gives_each_step_a_value() -> None:
    seen: list[Request] = []
    scorer = ProcessReward(split=Split(by="line"), tag="<step>")
    rows = [0.1, 0.9], [0.5, 0.5], [0.2, 0.8]
    assert values(scorer, model(*rows, seen=seen), completion=STEPS) == [0.5]
    assert seen[0].prefix == "First 2 + 2.<step>Then 4.<step>So \\boxed{4}.<step>"
    product = ProcessReward(split=Split(by="line"), rule="product")
    assert values(product, model(*rows), completion=STEPS) == [pytest.approx(0.36)]


def test_logits_of_one_class_or_of_two() -> None:
    scorer = ProcessReward(split=Split(by="line"), read="logits", rule="last")
    two = model([0.0, 0.0], [0.0, 0.0], [1.0, 1.0])
    assert values(scorer, two, completion=STEPS) == [0.5]
    one = model([0.0], [0.0], [800.0])
    assert values(scorer, one, completion=STEPS) == [1.0]


@pytest.mark.parametrize(
    ("rows", "completion", "reason"),
    [
        ([[0.5]], STEPS, "other steps"),
        ([[0.5], [0.5], [7.0]], STEPS, "a value out of range"),
        ([[0.5]], "A step <extra_0> with a tag.", "the step tag in a step"),
        ([[0.5]], "", "no steps"),
    ],
)
def test_values_that_are_not_the_steps_own_are_no_score(
    rows: list[list[float]], completion: str, reason: str
) -> None:
    with pytest.raises(RowRejected) as raised:
        values(ProcessReward(split=Split(by="line")), model(*rows), completion=completion)
    assert raised.value.reason == reason


def test_a_process_reward_model_s_values_become_a_process_row() -> None:
    from gristmill.synth.scorers import ProcessRewards

    stage = ProcessRewards(scorer=ProcessReward(split=Split(by="line")))
    engine = model([0.1, 0.9], [0.7, 0.3], [0.4, 0.6])
    [row] = asyncio.run(stage(sampled(completion=STEPS), context(engine)))
    assert "".join(row.steps) == STEPS
    assert (row.values, row.kind, row.solved) == ((0.9, 0.3, 0.6), "reward", True)
    assert (stage.needs, ProcessRewards(scorer=ProcessReward(engine="prm")).uses) == (
        {Ability.REWARD},
        {"prm": {Ability.REWARD}},
    )
    with pytest.raises(RowRejected, match="3 steps, but 2 values came"):
        asyncio.run(stage(sampled(completion=STEPS), context(model([0.1], [0.2]))))


def likely(name: str, *chances: float) -> ScriptedEngine:
    """Scores the three steps of ``STEPS``, one token each."""
    tokens = [f"{step}\n" for step in STEPS.split("\n")[:2]] + [STEPS.split("\n")[2]]

    def score(messages: Any, text: str) -> list[TokenLogprob]:
        assert text == STEPS
        return [TokenLogprob(token, chance) for token, chance in zip(tokens, chances, strict=True)]

    return ScriptedEngine(lambda request, index: "", score=score, model=name)


def test_an_implicit_model_is_read_over_its_reference() -> None:
    """The reference's vector: log-ratios of steps 0.2, 1.6 and -2, so cumulative .01, .09 and -.01."""
    policy, base = likely("policy", -0.8, -1.4, -4.0), likely("base", -1.0, -3.0, -2.0)
    where = context(policy, engines={"base": base})
    for rule, expected in (("min", -0.01), ("last", -0.01), ("product", None)):
        scorer = ProcessReward(split=Split(by="line"), reference="base", rule=rule)
        [found] = asyncio.run(scorer(of_sample(sampled(completion=STEPS)), where, "s"))
        each = [1 / (1 + math.exp(-q)) for q in (0.01, 0.09, -0.01)]
        wanted = math.prod(each) if expected is None else each[-1]
        assert found.value == pytest.approx(wanted, abs=1e-9)
    assert scorer.needs == {Ability.SCORE} and scorer.uses == {"base": {Ability.SCORE}}
    assert ProcessReward(engine="prm").uses == {"prm": {Ability.REWARD}}


def test_a_policy_of_another_tokenizer_is_no_score() -> None:
    other = ScriptedEngine(lambda request, index: "", score=lambda m, text: [TokenLogprob(text, -1.0)])
    where = context(likely("policy", -1.0, -1.0, -1.0), engines={"base": other})
    scorer = ProcessReward(split=Split(by="line"), reference="base")
    with pytest.raises(RowRejected, match="one tokenizer"):
        asyncio.run(scorer(of_sample(sampled(completion=STEPS)), where, "s"))
