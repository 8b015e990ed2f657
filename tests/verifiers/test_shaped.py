"""Shapes as the rewards of trainers: groups, lengths, and what undecided answers are worth."""

from __future__ import annotations

import pytest

from gristmill.core.errors import RecipeError
from gristmill.core.shaping import Shape
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.filters.rewards import (
    Copo,
    DifficultyScaled,
    GrpoLambda,
    KimiLength,
    Laser,
    Noisy,
    Scored,
    TwoTurn,
)
from gristmill.verifiers import Shaped, as_trl_reward, as_verl_batch_reward, as_verl_reward
from gristmill.verifiers.shaped import pricing
from gristmill.verifiers.worth import RewardScale


def told(completion: str) -> Verdict:
    """The text says by itself whether it is right."""
    if completion.startswith("?"):
        return Verdict(Outcome.UNPARSEABLE)
    right = completion.startswith("r")
    return Verdict(Outcome.CORRECT if right else Outcome.INCORRECT, 0.75 if right else 0.25)


def trl(shape: Shape | Shaped, texts: list[str], **columns: object) -> list[float | None]:
    return pricing(shape, RewardScale(undecided=-99.0))([told(text) for text in texts], texts, columns)


def test_the_tokens_of_trl_are_the_lengths() -> None:
    ids = [[1] * 3, [1] * 9, [1], [1]]
    made = trl(Laser(target=4), ["r a", "r b", "w", "?"], completion_ids=ids, prompts=["p"] * 4)
    assert made == [1.5, 1.0, -0.5, -99.0]


def test_the_answers_to_one_prompt_are_one_group_wherever_they_are() -> None:
    chat = [[{"role": "user", "content": text}] for text in "abab"]
    made = trl(Shaped(shape=KimiLength(), length="characters"), ["r", "r1", "r123", "r12"], prompts=chat)
    assert made == [1.5, 1.5, 0.5, 0.5]
    texts = ["r", "r22", "w", "?"]
    shape = Shaped(shape=GrpoLambda(share=1.0), length="words", group="problem")
    assert trl(shape, texts, problem=[1, 1, 1, 1])[2:] == [0.0, -99.0]


def test_values_come_from_columns_and_from_the_verdict() -> None:
    shape = Shaped(shape=TwoTurn(first="before"), columns=("before",))
    assert trl(shape, ["r", "w", "r"], before=[0, 1, None]) == [11.0, -10.0, None]
    assert trl(Scored(), ["r", "w", "?"]) == [0.75, 0.25, -99.0]


def test_chance_goes_by_what_an_answer_says() -> None:
    shape = Shaped(shape=Noisy(rate=0.5), seed=1)
    texts = [f"r{i}" for i in range(20)]
    forwards = trl(shape, texts, prompts=["p"] * 20)
    assert 0 < sum(r or 0 for r in forwards) < 20
    assert trl(shape, texts[::-1], prompts=["p"] * 20) == forwards[::-1]


def test_not_deciding_never_pays() -> None:
    with pytest.raises(RecipeError, match=r"left out \(None\).*more than -0.5 for a wrong answer"):
        as_trl_reward("math", shape=Laser(target=4))
    with pytest.raises(RecipeError, match=r"worth 0, more than -0.5"):
        as_verl_reward("math", shape=Laser(target=4))
    with pytest.raises(RecipeError, match="Copo has no lowest reward"):
        as_trl_reward("math", shape=Copo())
    assert callable(as_trl_reward("math", shape=Copo(), undecided=-3.0))


def test_what_contradicts_or_is_missing_is_told() -> None:
    with pytest.raises(RecipeError, match="and so is the shape Scored"):
        as_trl_reward("math", shape=Scored(), right=2.0)
    with pytest.raises(RecipeError, match="needs lengths, and the batch has no tokens"):
        trl(Laser(target=4), ["r"], prompts=["p"])
    with pytest.raises(RecipeError, match="no column 'prompts'"):
        trl(DifficultyScaled(), ["r"])
    with pytest.raises(RecipeError, match="no column 'before'"):
        trl(Shaped(shape=TwoTurn(first="before"), columns=("before",)), ["r"])
    with pytest.raises(RecipeError, match="sees one at a time"):
        as_verl_reward("math", shape=KimiLength(), undecided=-1.0)


def test_verl_and_trl_call_it_through_their_doors() -> None:
    texts = ["\\boxed{1}", "so: \\boxed{1}", "\\boxed{2}", "?"]
    reward = as_trl_reward("math", shape=Laser(target=4), undecided=-0.5, workers=1)
    ids = [[1] * 4, [1] * 5, [1], [1]]
    assert reward(texts, answer=["1"] * 4, completion_ids=ids, prompts=["p"] * 4) == [1.5, 1.0, -0.5, -0.5]
    shape = Shaped(shape=KimiLength(), length="characters", group="index")
    batch = as_verl_batch_reward("math", shape=shape, undecided=-1.0, workers=1)
    infos = [{"index": 1}, {"index": 1}, {"index": 2}, {"index": 2}]
    assert batch(["d"] * 4, texts, ["1"] * 4, infos) == [1.5, 0.5, 0.0, -1.0]
    score = as_verl_reward("math", shape=Shaped(shape=Laser(target=9), length="characters"), undecided=-0.5)
    assert [score("d", text, "1") for text in texts] == [1.5, 1.0, -0.5, -0.5]


def test_a_score_between_0_and_1_is_the_reward_without_a_shape_too() -> None:
    texts, golds = ["the cat sat on the mat", "dog"], ["the cat sat on a mat", "the cat"]
    wanted = [pytest.approx(0.537, abs=1e-3), 0.0]
    assert as_trl_reward("bleu", workers=1)(texts, answer=golds) == wanted
    assert as_verl_batch_reward("bleu", workers=1)(["d"] * 2, texts, golds) == wanted
