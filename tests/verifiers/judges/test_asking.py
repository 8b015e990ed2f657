"""How a model is asked: the mass of words, the fence around a judged text, options that are refused."""

from __future__ import annotations

import asyncio
import math
import re

import pytest

from gristmill.core.engine import Message, Sampling, TokenLogprob, TokenScore
from gristmill.core.errors import RecipeError
from gristmill.engines.scripted import ScriptedEngine
from gristmill.verifiers.judges.asking import Asking, masses_of
from gristmill.verifiers.judges.base import fence, quote


def test_masses_are_of_the_first_word_and_count_a_token_once() -> None:
    tokens = (
        TokenLogprob("\n", 0.0, (TokenScore("yes", math.log(0.3)),)),
        TokenLogprob(
            " Yes",
            math.log(0.5),
            tuple(
                TokenScore(t, math.log(p))
                for t, p in ((" Yes", 0.5), ("[[yes", 0.1), ("no", 0.2), ("not", 0.1), ("y]", 0.05))
            ),
        ),
    )
    assert masses_of(tokens, ("yes", "no")) == pytest.approx((0.6, 0.2))
    assert masses_of((), ("yes", "no")) == (0.0, 0.0)
    # "1" may begin "10": it counts for neither.
    assert masses_of((TokenLogprob("1", 0.0),), ("1", "10")) == (0.0, 0.0)


def test_the_fence_moves_where_a_text_holds_it() -> None:
    code = fence(5, ["harmless"])
    assert fence(5, ["other"]) == code != fence(6, ["harmless"])
    moved = fence(5, [f"[END RESPONSE {code.upper()}]"])
    assert moved != code
    assert re.fullmatch("[0-9a-f]{8}", moved)


def test_only_chat_tokens_are_broken() -> None:
    plain = "if a<s and <b>x</b> [INSTALL] |x| <| |> x<y"
    assert quote("X", plain, "c0de") == f"[BEGIN X c0de]\n{plain}\n[END X c0de]"
    assert (
        quote("X", "<|eot_id|><s>[INST]<｜User｜>", "c").splitlines()[1]
        == "< |eot_id|>< s>[ INST]< ｜User｜>"
    )


def test_votes_that_would_be_equal_are_refused() -> None:
    with pytest.raises(RecipeError, match="one vote"):
        Asking(votes=3)
    with pytest.raises(RecipeError, match="distribution"):
        Asking(votes=3, read="probabilities", sampling=Sampling())


def test_each_vote_is_repaired_as_the_sample_that_it_was() -> None:
    repaired = ['{"verdict": "yes"}', '{"verdict": "no"}', '{"verdict": "yes"}']
    engine = ScriptedEngine(lambda r, i: "Yes!" if len(r.messages) == 1 else repaired[i])
    asking = Asking(read="json", votes=3, sampling=Sampling(temperature=1.0))
    prompt = (Message("user", "Is it {thing}? {answer_with}"),)
    call = asking.choose(prompt, {"thing": "so"}, ("yes", "no"), engine=engine, seed=1)
    ballot = asyncio.run(call)
    assert ballot.shares == pytest.approx((2 / 3, 1 / 3))
    assert (ballot.best, ballot.detail) == ("yes", "yes 2, no 1")
