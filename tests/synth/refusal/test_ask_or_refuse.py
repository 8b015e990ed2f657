"""``ask_or_refuse``: what is asked, what of the answer counts, and how sure the model is."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from gristmill.core.engine import Ability, Completion, Message, Request, Sampling, TokenLogprob, TokenScore
from gristmill.core.errors import RecipeError
from gristmill.core.knowledge import Certainty, Response
from gristmill.core.records import Problem
from gristmill.core.stages import Context, Rejection
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ABILITIES, ScriptedEngine
from gristmill.synth.refusal import sureness
from gristmill.synth.refusal import texts as t
from gristmill.synth.refusal.ask import AskHeldOut, AskOrRefuse
from gristmill.synth.refusal.compare import compare
from gristmill.synth.refusal.forms import Form
from gristmill.synth.refusal.probe import ProbeKnowledge
from gristmill.synth.refusal.sureness import Sureness, Words
from gristmill.verifiers.rules.short_answer import ShortAnswer

PROBLEM = Problem("p", "What is the capital of Japan?", "Tokyo")
WORDS = Words("I am", " sure", " unsure")
ASKED = (Message("user", "Are you?"),)
Next = Mapping[str, Mapping[str, float]]
"""For each prefix the probabilities of the next token."""


def spell(*tokens: tuple[str, float], reason: str = "stop") -> Completion:
    scores = tuple(TokenLogprob(text, math.log(p)) for text, p in tokens)
    return Completion("".join(text for text, _ in tokens), finish_reason=reason, logprobs=scores)  # type: ignore[arg-type]


def one_token(table: Mapping[str, float]) -> Completion:
    ranked = sorted(table.items(), key=lambda item: -item[1])
    top = tuple(TokenScore(token, math.log(p)) for token, p in ranked)
    return Completion(ranked[0][0], "length", logprobs=(TokenLogprob(top[0].token, top[0].logprob, top),))


SURE: Next = {"I am": {" sure": 0.3, " unsure": 0.1, " a": 0.6}}


def engine(answer: Completion, following: Next = SURE, seen: list[Request] | None = None) -> ScriptedEngine:
    def reply(request: Request, _: int) -> Completion:
        if seen is not None:
            seen.append(request)
        for prefix, table in following.items():
            if request.prefix.endswith(prefix) and request.prefix:
                return one_token(table)
        return answer

    return ScriptedEngine(reply, abilities=ABILITIES | {Ability.LOGPROBS})


async def judged(text: str, reference: str) -> Verdict:
    return ShortAnswer()(text, reference)


def ask(stage: AskOrRefuse, use: ScriptedEngine, problem: Problem = PROBLEM) -> Response:
    counted: list[Verdict] = []
    context = Context(use, judged, 0, count=counted.append)
    [found] = asyncio.run(stage(problem, context))  # type: ignore[arg-type]
    return found


TOKYO = spell(("Tok", 0.9), ("yo", 0.8), (".", 0.99))


def test_the_answer_the_confidence_and_the_sure_probability() -> None:
    found = ask(AskOrRefuse(), engine(TOKYO))
    assert (found.completion, found.verdict.outcome, found.refused) == ("Tokyo.", Outcome.CORRECT, False)
    assert found.confidence == pytest.approx(math.sqrt(0.9 * 0.8))  # the full stop does not count
    assert found.sure == pytest.approx(0.75)
    assert found.mass == pytest.approx(0.4)
    assert found.stated is None


def test_it_asks_greedily_in_turns_and_begins_the_reply() -> None:
    seen: list[Request] = []
    ask(AskOrRefuse(), engine(TOKYO, seen=seen))
    first, second = seen
    assert first.messages == (Message("user", "What is the capital of Japan?"),)
    assert first.sampling.temperature == second.sampling.temperature == 0
    assert second.messages == (
        *first.messages,
        Message("assistant", "Tokyo."),
        Message("user", t.SURE_QUESTION),
    )
    assert (second.prefix, second.sampling.max_tokens) == ("I am", 1)


def test_plain_text_is_joined_as_the_training_text_is() -> None:
    seen: list[Request] = []
    stage = AskOrRefuse(probe=ProbeKnowledge(preset="r-tuning", form=Form(kind="plain")))
    rambling = spell(
        (" Tokyo", 0.5), (".", 0.9), (" Question", 0.1), (":", 0.1), (" What", 0.1), reason="length"
    )
    found = ask(stage, engine(rambling, seen=seen))
    assert (found.completion, found.verdict.outcome) == ("Tokyo.", Outcome.CORRECT)
    assert found.confidence == pytest.approx(0.5)
    form = Form(kind="plain")
    turns = form.turns(
        ("user", form.asked(PROBLEM), False),
        ("assistant", form.answered(PROBLEM), True),
        ("user", t.SURE_QUESTION, False),
        ("assistant", t.SURE, True),
    )
    asked = seen[1].messages[0].content + seen[1].prefix
    assert "".join(turn.content for turn in turns) == asked + " sure."


def test_a_refusal_is_no_answer_though_it_names_the_reference_and_is_not_asked_whether_it_is_sure() -> None:
    seen: list[Request] = []
    words = spell(("I don't know whether it is Tokyo.", 0.5))
    found = ask(AskOrRefuse(), engine(words, seen=seen))
    assert found.refused
    assert (found.verdict.outcome, found.verdict.rule) == (Outcome.UNPARSEABLE, "refused")
    assert (found.sure, found.mass, len(seen)) == (None, None, 1)


@pytest.mark.parametrize("sentence", [*t.REFUSALS, *t.ABSTENTIONS, *t.NOT_YET, "I'm unsure about that."])
def test_every_sentence_that_the_data_teaches_is_seen_as_a_refusal(sentence: str) -> None:
    assert ask(AskOrRefuse(method="refusal"), engine(spell((sentence, 0.5)))).refused


def test_the_baseline_answers_everything() -> None:
    found = ask(AskOrRefuse(method="plain"), engine(spell((t.REFUSALS[0], 0.5))))
    assert (found.refused, found.sure, found.verdict.correct) == (False, None, False)


def test_refusals_are_settings() -> None:
    stage = AskOrRefuse(method="refusal", refusals=("Pass!",))
    assert ask(stage, engine(spell(("Pass! Next one.", 0.5)))).refused


@pytest.mark.parametrize("tokens", [[(".", 0.9)], [(" .", 0.9), (" Tokyo", 0.5)], []])
def test_confidence_of_an_answer_that_is_empty_or_begins_with_a_full_stop_is_0(
    tokens: Sequence[tuple[str, float]],
) -> None:
    # D.4: the reference's scripts divide by the number of tokens before the full stop, which is 0.
    assert ask(AskOrRefuse(), engine(spell(*tokens))).confidence == 0


def test_confidence_does_not_count_what_follows_the_answer() -> None:
    tokens = spell((" 1", 0.5), ("5", 0.5), ("<|im_end|>", 0.001)).logprobs or ()
    assert sureness.confidence(tokens, "15") == pytest.approx(0.5)
    accents = spell(("caf", 0.5), ("\ufffd", 0.5), ("\ufffd", 0.5)).logprobs or ()
    assert sureness.confidence(accents, "café") == pytest.approx(0.5)


def asking(following: Next, words: Words = WORDS) -> Sureness:
    use = engine(TOKYO, following)
    return asyncio.run(sureness.sureness(use, ASKED, "", words))


def test_unsure_counts_as_a_whole_word_though_it_is_several_tokens() -> None:
    # D.4: with its first token alone, "un" of "unable" would count too: .3 / (.3 + .5) = .375.
    following = {
        "I am un": {"sure": 0.2, "able": 0.8},
        "I am": {" sure": 0.3, " un": 0.5, " a": 0.2},
    }
    found = asking(following)
    assert found.sure == pytest.approx(0.3 / (0.3 + 0.5 * 0.2))
    assert found.mass == pytest.approx(0.4)


def test_a_first_token_that_both_words_share_is_divided_by_what_follows_it() -> None:
    words = Words("I am", " certain", " ceaseless")
    following = {"I am ce": {"rtain": 0.75, "aseless": 0.25}, "I am": {" ce": 0.4, " a": 0.6}}
    assert asking(following, words) == (pytest.approx(0.75), pytest.approx(0.4))


def test_a_longer_word_is_not_the_word_and_marks_around_it_do_not_matter() -> None:
    following = {"I am": {" surely": 0.5, " sure.": 0.2, " unsure,": 0.1, "sure": 0.1, " S": 0.01}}
    assert asking(following | {"I am S": {"o": 1.0}}) == (pytest.approx(0.75), pytest.approx(0.4))


def test_where_neither_word_is_seen_the_probability_is_none() -> None:
    assert asking({"I am": {" a": 0.6, " here": 0.4}}) == (None, 0)


def test_a_word_that_is_not_told_counts_with_the_most_that_it_can_have() -> None:
    others = {f" word{i}": 0.04 for i in range(18)}
    found = asking({"I am": {" sure": 0.08, " least": 0.02, **others}})
    assert found == (pytest.approx(0.8), pytest.approx(0.08))
    # A list of fewer alternatives than were asked for is whole.
    assert asking({"I am": {" sure": 0.08, " least": 0.02}}).sure == 1


def test_a_model_that_never_finishes_a_word_is_asked_a_bounded_number_of_times() -> None:
    use = engine(TOKYO, {"": {"u": 0.5, " u": 0.4, "s": 0.1}})
    assert asyncio.run(sureness.sureness(use, ASKED, "x", WORDS)).sure is None
    assert use.requests <= 1 + sureness.FOLLOWED


def score_by(table: Mapping[str, float]) -> Callable[[tuple[Message, ...], str], list[TokenLogprob]]:
    def score(_: tuple[Message, ...], text: str) -> list[TokenLogprob]:
        pieces = ["I", " am", *([" sure"] if text.endswith(" sure") else [" un", "sure"])]
        return [TokenLogprob(piece, math.log(table[piece])) for piece in pieces]

    return score


def test_where_the_engine_scores_texts_both_are_scored() -> None:
    table = {"I": 0.5, " am": 0.9, " sure": 0.3, " un": 0.5, "sure": 0.2}
    use = ScriptedEngine(lambda *_: TOKYO, abilities=ABILITIES | {Ability.LOGPROBS}, score=score_by(table))
    assert asyncio.run(sureness.sureness(use, ASKED, "", WORDS)) == (pytest.approx(0.75), pytest.approx(0.4))
    # Probabilities far under what a float can hold still have a ratio.
    tiny = table | {" sure": 5e-324, " un": 5e-324}
    use = ScriptedEngine(lambda *_: TOKYO, score=score_by(tiny))
    assert asyncio.run(sureness.sureness(use, ASKED, "", WORDS, read="score")).sure == pytest.approx(5 / 6)


def test_words_are_where_the_statements_part() -> None:
    assert sureness.words_of(t.SURE, t.UNSURE) == WORDS
    assert sureness.words_of("Yes.", "No.") == Words("", "Yes", "No")
    assert sureness.words_of("I am sure.", "I am not sure.") == Words("I am", " sure", " not sure")
    for pair in (("I am sure.", "I am surely wrong."), ("I am", "I am unsure.")):
        with pytest.raises(RecipeError, match="cannot be told apart"):
            AskOrRefuse(sure=pair[0], unsure=pair[1])


def test_a_stated_confidence_is_read_and_taken_off_before_the_answer_is_judged() -> None:
    seen: list[Request] = []
    stage = AskOrRefuse(method="plain", stated=t.STATE_CONFIDENCE)
    found = ask(stage, engine(spell(("Tokyo.\nConfidence: 8", 0.5)), seen=seen))
    assert (found.completion, found.stated, found.verdict.outcome) == ("Tokyo.", 0.8, Outcome.CORRECT)
    assert seen[0].messages[0] == Message("system", t.STATE_CONFIDENCE)
    silent = ask(stage, engine(spell(("Tokyo.", 0.5))))
    assert (silent.stated, silent.verdict.outcome) == (None, Outcome.CORRECT)
    with pytest.raises(RecipeError, match="no system message"):
        AskOrRefuse(stated="x", probe=ProbeKnowledge(form=Form(kind="plain")))


def test_what_an_engine_must_be_able_to_do() -> None:
    chat, logprobs = Ability.CHAT, Ability.LOGPROBS
    assert AskOrRefuse().needs == {chat, logprobs, Ability.CONTINUE}
    assert AskOrRefuse(method="refusal").needs == {chat, logprobs}
    assert AskOrRefuse(method="plain", confidence=False).needs == {chat}
    assert AskOrRefuse(read="score", confidence=False).needs == {chat, Ability.SCORE}


@pytest.mark.parametrize("logprobs", [None, ()])
def test_without_probabilities_there_is_no_confidence(logprobs: Any) -> None:
    """``()`` is what the log has of a server that gave none before the two were told apart."""
    for stage in (AskOrRefuse(method="plain"), AskOrRefuse(method="plain", confidence=False)):
        found = ask(stage, engine(Completion("Tokyo.", logprobs=logprobs)))
        assert (found.completion, found.confidence) == ("Tokyo.", None)
        assert found.verdict.outcome is Outcome.CORRECT


def test_a_question_that_cannot_be_answered_is_to_be_declined() -> None:
    nobody = Problem("p", "Who will win the cup of 2090?")
    answered = ask(AskOrRefuse(), engine(TOKYO), nobody)
    assert (answered.verdict.outcome, answered.verdict.rule) == (Outcome.INCORRECT, "unanswerable")
    assert (answered.answer, answered.known, answered.sure) == ("", False, pytest.approx(0.75))
    declined = ask(AskOrRefuse(), engine(spell(("I don't know.", 0.9))), nobody)
    assert (declined.refused, declined.verdict.rule, declined.known) == (True, "refused", False)
    assert AskOrRefuse().estimate(nobody) == AskOrRefuse().estimate(PROBLEM)
    found = compare({"answers": [answered], "declines": [declined]}, draws=10)
    shares = [system.measures.values["declined_unknown"] for system in found.systems]
    assert shares == [0, 1]


def test_an_estimate_bounds_what_is_asked() -> None:
    for stage in (AskOrRefuse(), AskOrRefuse(method="refusal")):
        use = engine(TOKYO)
        ask(stage, use)
        cost = stage.estimate(PROBLEM)
        assert cost.completions_min <= use.requests <= cost.completions_max


def test_the_probes_greedy_answer_is_the_same_request_so_that_the_log_has_it() -> None:
    seen: list[Request] = []
    sampling = Sampling(temperature=0.0, max_tokens=32, logprobs=0)
    probe = ProbeKnowledge(preset="r-tuning", sampling=sampling)
    context = Context(engine(TOKYO, seen=seen), judged, 0)
    asyncio.run(probe(PROBLEM, context))  # type: ignore[arg-type]
    ask(AskOrRefuse(probe=probe), engine(TOKYO, seen=seen))
    assert seen[0] == seen[1]


def split_row(part: str, certain: str | None) -> Certainty:
    evidence = (None, None, None, 0.0, (), None, 0, 0, 0.0, 1.0)
    return Certainty("q", PROBLEM.problem, "Tokyo", '{"relation": "P36"}', *evidence, certain, part)  # type: ignore[arg-type]


@pytest.mark.parametrize(("certain", "known"), [("sure", True), ("unsure", False), (None, None)])
def test_held_out_questions_are_asked_with_what_the_split_says_of_them(
    certain: str | None, known: bool | None
) -> None:
    stage = AskHeldOut()
    context = Context(engine(TOKYO), judged, 0)
    [found] = asyncio.run(stage(split_row("test_ood", certain), context))  # type: ignore[arg-type]
    assert isinstance(found, Response)
    assert (found.known, found.part, found.meta) == (known, "test_ood", '{"relation": "P36"}')
    assert stage.needs == AskOrRefuse().needs


def test_questions_for_training_are_not_asked() -> None:
    use = engine(TOKYO)
    [found] = asyncio.run(AskHeldOut()(split_row("train", "sure"), Context(use, judged, 0)))  # type: ignore[arg-type]
    assert isinstance(found, Rejection)
    assert use.requests == AskHeldOut().estimate(split_row("train", "sure")).completions_max == 0
