"""The tokens of a reply, told apart into those of the reasoning and those of the answer."""

from __future__ import annotations

from gristmill.core.engine import TokenLogprob
from gristmill.engines.reading import ReplyParts, TokenPhases, phases

TOKENS = tuple(
    TokenLogprob(text, -0.1 * i) for i, text in enumerate(["<think>", "Hm", "m.", "</think>", "It", " is"])
)


def parts(text: str, reasoning: str, whole: str = "") -> ReplyParts:
    return ReplyParts(text, reasoning, "stop", whole)


def test_each_phase_has_its_own_tokens_and_none_is_lost_between() -> None:
    found = phases(TOKENS, parts("It is", "Hmm.", "<think>Hmm.</think>It is"))
    assert found == TokenPhases(TOKENS[:4], TOKENS[4:])


def test_a_reply_without_reasoning_is_all_answer() -> None:
    assert phases(TOKENS, parts("It is", "", "It is")) == TokenPhases(None, TOKENS)
    assert phases(None, parts("It is", "Hmm.")) == TokenPhases(None, None)


def test_a_reply_that_never_got_to_its_answer_is_all_reasoning() -> None:
    assert phases(TOKENS[:3], parts("", "Hmm.", "<think>Hmm.")) == TokenPhases(TOKENS[:3], ())


def test_tokens_that_do_not_spell_the_answer_are_of_no_phase() -> None:
    assert phases(TOKENS, parts("Another", "Hmm.", "Hmm. Another")) == TokenPhases(None, None)


def test_tokens_of_the_answer_alone_leave_the_reasoning_without_any() -> None:
    assert phases(TOKENS[4:], parts("It is", "Hmm.")) == TokenPhases(None, TOKENS[4:])
