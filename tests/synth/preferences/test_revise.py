"""Answers written anew: kept where they are found better, and only there."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from writers import JUDGE, always, by_words, prefers, reasons, work

from gristmill.core.engine import Ability, Completion, Message
from gristmill.core.errors import RecipeError
from gristmill.core.records import Demonstration, Pair
from gristmill.core.stages import Context
from gristmill.core.verdicts import Outcome
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth import Improvements, Revise
from gristmill.testing.records import INCORRECT, pair, sampled

WRONG = sampled(completion="It is \\boxed{5}.", verdict=INCORRECT, meta='{"source": "made"}')
REPLIES = by_words(Review="2 + 2 is not 5.", Write_the_answer="It is \\boxed{4}.")


def test_a_revision_that_the_verifier_finds_right_makes_a_pair_against_the_wrong_answer() -> None:
    [made], engine = work(Revise(), WRONG, REPLIES)
    assert isinstance(made, Pair) and made.kind == "revision" and made.prompt == WRONG.messages
    assert (made.chosen[0].content, made.rejected[0].content) == ("It is \\boxed{4}.", "It is \\boxed{5}.")
    assert [(s.name, s.value) for s in made.scores] == [("chosen_verifier", 1.0), ("rejected_verifier", 0.0)]
    assert msgspec.json.decode(made.meta) == {
        "source": "made",
        "critique": "2 + 2 is not 5.",
        "sample_id": "p1/0",
    }
    assert engine.requests == 2
    cost = Revise().estimate(WRONG)
    assert cost is not None and (cost.completions_max, cost.rows_max) == (2, 1)


@pytest.mark.parametrize(
    ("record", "replies", "reason"),
    [
        (sampled(), REPLIES, "revision: neither side is better"),
        (sampled(), by_words(Review="Hm.", Write="\\boxed{5}"), "revision: the other side is better"),
        (sampled(), by_words(Review="Hm.", Write=sampled().completion + "\n"), "revision: it says the same"),
        (WRONG, by_words(Review="Hm.", Write="What is 2 + 2?"), "revision: it repeats the problem"),
        (sampled(answer=None), REPLIES, "revision: no verdict"),
        (WRONG, by_words(Review="Hm.", Write="I do not know."), "revision: no verdict"),
        (WRONG, by_words(Review="Hm.", Write=Completion("It is", "length")), "revision: cut off"),
        (WRONG, by_words(Review="Hm.", Write=" \n"), "revision: nothing was written"),
        (WRONG, by_words(Review="<think> Let me", Write="4"), "critique: its reasoning is not closed"),
        (WRONG, by_words(Review=Completion("No", "length")), "critique: cut off"),
        (sampled(finish_reason="length"), REPLIES, "revision: the sample was cut off or is blank"),
        (sampled(completion=" "), REPLIES, "revision: the sample was cut off or is blank"),
    ],
)
def test_what_is_not_found_better_is_rejected_with_the_reason(record: Any, replies: Any, reason: str) -> None:
    made, _ = work(Revise(), record, replies)
    assert reasons(made) == [reason] and len(made) == 1


@pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.ERROR, Outcome.UNPARSEABLE])
def test_an_undecided_verdict_prefers_nothing(outcome: Outcome) -> None:
    made, _ = work(Revise(), WRONG, REPLIES, verify=always(outcome))
    assert reasons(made) == ["revision: no verdict"]


def test_a_judge_decides_in_both_orders_and_without_a_reference() -> None:
    stage = Revise(judge=JUDGE, judge_engine="other", critique=None)
    poem = sampled(answer=None, completion="Roses are blue.", verdict=None)
    made, engine = work(stage, poem, by_words(Write="Roses are red."), prefers("red"))
    assert isinstance(made[0], Pair) and made[0].chosen[0].content == "Roses are red."
    assert [(s.name, s.value) for s in made[0].scores] == [("chosen_judge", 1.0), ("rejected_judge", 0.0)]
    assert engine.requests == 1 and msgspec.json.decode(made[0].meta)["critique"] == ""
    assert stage.uses == {"other": {Ability.CHAT}} and not stage.verifies
    always_first, _ = work(stage, poem, by_words(Write="Roses are red."), lambda r, i: "[[A]]")
    assert reasons(always_first) == ["revision: neither side is better"], "the order alone decided"
    worse, _ = work(stage, poem, by_words(Write="Roses are red."), prefers("blue"))
    assert reasons(worse) == ["revision: the other side is better"]
    unread, _ = work(stage, poem, by_words(Write="Roses are red."), lambda r, i: "Both are lovely.")
    assert reasons(unread) == ["revision: no verdict"]


def test_a_scorer_decides_by_a_margin() -> None:
    words = {"kind": "features", "features": {"long": {"measure": "words", "range": [0, 10]}}}
    asked = by_words(Review="Short.", Write="one two three four")
    short = sampled(completion="one two three", answer=None)
    [made], _ = work(Revise(scorer=words), short, asked)
    assert isinstance(made, Pair)
    assert [(s.name, s.value) for s in made.scores] == [("chosen_features", 0.4), ("rejected_features", 0.3)]
    [narrow], _ = work(Revise(scorer=words, margin=0.2), short, asked)
    assert narrow.reason == "revision: neither side is better" and "against" in narrow.detail


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(RecipeError, match="judge and scorer are both given"):
        Revise(judge=JUDGE, scorer="verifier")
    with pytest.raises(RecipeError, match="there is no judge to ask it"):
        Revise(judge_engine="other")
    with pytest.raises(RecipeError, match="a judge gives no values"):
        Revise(judge=JUDGE, margin=0.1)
    assert "its own writing" in Revise(judge=JUDGE).cautions()[0]
    assert not Revise(judge=JUDGE, judge_engine="other").cautions() and not Revise().cautions()
    with pytest.raises(RecipeError, match="logits compares two answers and has no value"):
        Revise(scorer="logits")
    with pytest.raises(RecipeError, match="does not compare two answers"):
        Revise(judge={"kind": "option_shuffle"})


def improved(record: Pair, **options: Any) -> list[Any]:
    context = Context(ScriptedEngine(lambda r, i: ""), always(Outcome.ERROR), 7)
    return list(asyncio.run(Improvements(**options)(record, context)))


def test_an_improvement_row_shows_the_rejected_answer_and_trains_the_chosen_one_alone() -> None:
    prompt = (Message("system", "Be brief."), Message("user", "What is 2 + 2?"))
    [row] = improved(pair(prompt=prompt))
    assert isinstance(row, Demonstration) and row.kind == "improvement"
    assert [(t.role, t.train) for t in row.turns] == [("system", False), ("user", False), ("assistant", True)]
    assert "What is 2 + 2?" in row.turns[1].content and "\\boxed{5}" in row.turns[1].content
    assert row.turns[2].content == "\\boxed{4}" and "\\boxed{4}" not in row.turns[1].content
    [own] = improved(pair(), prompt="{reference} / {problem}")
    assert own.turns[0].content == "\\boxed{5} / What is 2 + 2?"
    with pytest.raises(RecipeError, match=r"no place \{reference\}"):
        Improvements(prompt="{problem}")
