"""Rewards and targets of tokens: their formulas, what is asked, and what is rejected."""

from __future__ import annotations

import math

import pytest

from gristmill.core.engine import Message, TokenLogprob
from gristmill.core.errors import RecipeError
from gristmill.core.stages import Rejection
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.preferences.token_contrast import (
    TokenContrast,
    TokenTargets,
    contrast_reward,
    teacher_chance,
)
from gristmill.testing import check_row_stage, context, pair

PAIR = pair(
    prompt=(Message("system", "Be brief."), Message("user", "Is 7 odd?")),
    chosen=(Message("assistant", "Yes it is"),),
    rejected=(Message("assistant", "No it is"),),
)


def scoring(logprob: dict[str, float], cut: str = " ") -> ScriptedEngine:
    """An engine that scores words: those that are named, and all others at log 1/2."""

    def score(messages: tuple[Message, ...], text: str) -> list[TokenLogprob]:
        asked.append(messages[0].content)
        words = text.replace(" ", f"\n{cut}").split("\n")
        return [TokenLogprob(word, logprob.get(word, math.log(0.5))) for word in words]

    asked: list[str] = []
    engine = ScriptedEngine(lambda request, index: "", score=score)
    engine.asked = asked  # type: ignore[attr-defined]
    return engine


def test_formulas() -> None:
    assert contrast_reward(math.log(0.3), math.log(0.3)) == 0
    assert contrast_reward(math.log(0.9), math.log(0.3)) == pytest.approx(0.25)  # sigmoid(log 3) is 3/4
    assert contrast_reward(-800.0, -0.1) == -0.5
    # Odds of 3 to 2 against 3 to 7: once beyond them 1.5 * 1.5 / (3 / 7) = 5.25 to 1.
    assert teacher_chance(math.log(0.6), math.log(0.3), 1.0) == pytest.approx(5.25 / 6.25)
    assert teacher_chance(math.log(0.6), math.log(0.3), 0.0) == pytest.approx(0.6)
    assert teacher_chance(0.0, -800.0, 1.0) == 1.0


def test_two_models_score_both_sides_without_a_system_message_of_ours() -> None:
    dpo, reverse = scoring({"Yes": math.log(0.9)}), scoring({"Yes": math.log(0.3), "No": math.log(0.8)})
    stage = TokenContrast(better="dpo", worse="reverse", better_system=None, worse_system=None)
    assert not stage.needs and set(stage.uses) == {"dpo", "reverse"}
    chosen, rejected = check_row_stage(stage, [PAIR], context(engines={"dpo": dpo, "reverse": reverse}))
    assert isinstance(chosen, TokenTargets) and isinstance(rejected, TokenTargets)
    assert (chosen.side, rejected.side) == ("chosen", "rejected")
    assert chosen.tokens == ("Yes", " it", " is") and chosen.rewards == pytest.approx((0.25, 0, 0))
    assert chosen.targets == pytest.approx((1 - 1 / 190, 0.5, 0.5))  # odds of 9 * 9 / (3 / 7) = 189
    assert rejected.rewards[0] < 0 and rejected.targets[0] == pytest.approx(0.2)  # odds of 1 * 1 / 4
    assert set(dpo.asked) == {"Be brief."}  # type: ignore[attr-defined]


def test_one_model_is_told_to_answer_well_and_badly_before_the_conversation_s_own_system_message() -> None:
    engine = scoring({})
    made = check_row_stage(TokenContrast(), [PAIR], context(engine))
    assert [row.rewards for row in made if isinstance(row, TokenTargets)] == [(0, 0, 0)] * 2
    well, badly = sorted(set(engine.asked))  # type: ignore[attr-defined]
    assert "as badly as" in well and "as well as" in badly
    assert all(text.endswith("\n\nBe brief.") for text in (well, badly))


def test_two_conditions_that_are_the_same_are_refused_and_other_tokens_rejected() -> None:
    with pytest.raises(RecipeError, match="the same"):
        TokenContrast(better_system="Answer.", worse_system="Answer.")
    engines = {"dpo": scoring({}), "other": scoring({}, cut="  ")}
    stage = TokenContrast(better="dpo", worse="other", better_system=None, worse_system=None)
    assert check_row_stage(stage, [PAIR], context(engines=dict(engines))) == [
        Rejection(
            "p1#0",
            "tokens differ",
            "the two models cut the answer into other tokens; use models of one tokenizer",
        )
    ]
