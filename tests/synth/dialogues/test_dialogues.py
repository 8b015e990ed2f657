"""Dialogues with a simulated user: who is sent what, when they end, and their rewards."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from gristmill.core.engine import Completion, Message, Request
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.records import Problem, Sampled, Score
from gristmill.core.stages import Context, Rejection
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.dialogues import (
    DialogueSample,
    ProfileMatch,
    SafetyFeedback,
    SimulatedDialogues,
    profile_f1,
)
from gristmill.synth.scorers.base import of_sample
from gristmill.synth.scorers.combining import Ensemble, ensemble

PROBLEM = Problem("p", "a vegan dinner", "harbour", meta='{"profile": {"city": "Oslo", "diet": "Vegan."}}')
Answers = Callable[[Request, int], Completion | str]


def context(assistant: Answers, measured: dict[str, list[int]] | None = None, **engines: Answers) -> Context:
    async def verify(completion: str, reference: str) -> Verdict:
        return Verdict(Outcome.CORRECT if reference in completion else Outcome.INCORRECT)

    def measure(name: str, value: int) -> None:
        if measured is not None:
            measured.setdefault(name, []).append(value)

    others = {name: ScriptedEngine(answers) for name, answers in engines.items()}
    return Context(ScriptedEngine(assistant), verify, 3, engines=others, measure=measure)


def talked(
    speaks: Answers, assistant: Answers = lambda r, i: "The harbour.", **options: Any
) -> tuple[Any, list[Request], list[Request]]:
    """The row, and what both engines were sent."""
    sent: tuple[list[Request], list[Request]] = ([], [])

    def kept(which: int, answers: Answers) -> Answers:
        def answer(request: Request, index: int) -> Completion | str:
            sent[which].append(request)
            return answers(request, index)

        return answer

    stage = SimulatedDialogues(user_engine="person", **options)
    [found] = asyncio.run(stage(PROBLEM, context(kept(0, assistant), person=kept(1, speaks))))
    return found, *sent


def in_turn(*said: str | Completion) -> Answers:
    """A user that says these things one after the other."""
    return lambda request, index: said[sum(m.role == "assistant" for m in request.messages)]


def test_both_speakers_see_the_dialogue_from_their_own_side() -> None:
    row, assistant, user = talked(
        in_turn("Dinner?", "Vegan.", "[DONE]"), system="You know Oslo.", user="Be {profile}, want {problem}."
    )
    assert isinstance(row, DialogueSample)
    assert [(t.role, t.content, t.train) for t in row.turns] == [
        ("system", "You know Oslo.", False),
        ("user", "Dinner?", False),
        ("assistant", "The harbour.", True),
        ("user", "Vegan.", False),
        ("assistant", "The harbour.", True),
    ]
    assert (row.ended, row.completion, row.messages[-1].content) == ("satisfied", "The harbour.", "Vegan.")
    assert row.verdict is not None and row.verdict.correct
    assert not any("want a vegan dinner" in m.content for r in assistant for m in r.messages)
    assert not any("You know Oslo" in m.content for r in user for m in r.messages)
    assert [m.role for m in user[-1].messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert "Vegan." in user[-1].messages[0].content and user[-1].messages[-1].content == "The harbour."


def test_a_dialogue_ends_after_so_many_turns() -> None:
    row, assistant, user = talked(lambda r, i: "More.", turns=3)
    assert (row.ended, len(assistant), len(user)) == ("turns", 3, 3)
    assert [t.role for t in row.turns] == ["user", "assistant"] * 3


def test_an_opening_is_the_user_s_first_turn() -> None:
    row, _, user = talked(lambda r, i: "More.", turns=2, opening="I want {problem}.")
    assert row.turns[0].content == "I want a vegan dinner." and len(user) == 1


def test_an_answer_that_is_cut_off_ends_it_and_is_not_judged_by_its_text() -> None:
    row, _, _ = talked(lambda r, i: "More.", lambda r, i: Completion("The harbour", "length"))
    assert (row.ended, row.finish_reason, len(row.turns)) == ("unfinished", "length", 2)
    assert row.verdict.outcome is Outcome.UNPARSEABLE


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("[DONE]", "the user stops before anything was asked"),
        (" ", "the user's turn is blank"),
        (Completion("I am", "length"), "the user's turn is cut off"),
    ],
)
def test_users_that_say_nothing_make_no_row(said: Any, reason: str) -> None:
    row, _, _ = talked(in_turn(said))
    assert isinstance(row, Rejection) and row.reason == reason


def test_the_user_must_want_something_of_the_row() -> None:
    with pytest.raises(RecipeError, match="names nothing of the row"):
        SimulatedDialogues(user="You are a user.")


TRUE = {"city": "Oslo", "diet": "Vegan.", "age": "30"}


@pytest.mark.parametrize(
    ("told", "value"),
    [
        (TRUE, 1.0),
        ({"city": "oslo", "diet": "vegan"}, 4 / 5),
        ({"city": "Bergen", "diet": "vegan"}, 2 / 5),
        ({"city": "Oslo", "pet": "cat"}, 2 / 5),
        ({}, 0.0),
    ],
)
def test_a_profile_is_worth_the_f1_of_its_slots(told: Mapping[str, str], value: float) -> None:
    assert profile_f1(told, TRUE) == pytest.approx(value)


def test_a_profile_is_asked_for_after_the_dialogue() -> None:
    row, _, _ = talked(in_turn("Dinner?", "[DONE]"))
    told: list[str] = []

    def asked(reply: str) -> list[Score]:
        def answer(request: Request, index: int) -> str:
            told.append(request.messages[-1].content)
            return reply

        return list(asyncio.run(ProfileMatch()(of_sample(row), context(answer), "profile")))

    assert asked('{"city": "Oslo", "diet": null}') == [Score("profile", pytest.approx(2 / 3))]
    assert "user: Dinner?" in told[0] and "the keys city, diet" in told[0] and "Vegan" not in told[0]
    [unread] = asked("Oslo")
    assert unread.value is None and unread.verdict is not None
    bare = Sampled("a/0", "a", 0, "q", None, (Message("user", "q"),), "x", "stop", 1, 1)
    with pytest.raises(RowRejected, match="an object with a text for each slot"):
        asyncio.run(ProfileMatch()(of_sample(bare), context(lambda r, i: "{}"), "profile"))


def test_welfare_is_the_geometric_mean_of_both_sides() -> None:
    assert ensemble([0.9, 0.4], "geometric") == pytest.approx(math.sqrt(0.36))
    assert ensemble([1.0, 0.0], "geometric") == 0.0
    with pytest.raises(ValueError, match="below 0"):
        ensemble([1.0, -1.0], "geometric")
    row = Sampled("a/0", "a", 0, "q", None, (), "x", "stop", 1, 1, scores=(Score("u", 0.5), Score("m", -2)))
    joined = Ensemble(scores=("u", "m"), rule="geometric")
    with pytest.raises(RowRejected, match="below 0"):
        asyncio.run(joined(of_sample(row), context(lambda r, i: ""), "welfare"))


def reviewed(
    review: str, judged: Callable[[str], str], revision: str = "Cut the power first, then ..."
) -> tuple[Any, dict[str, list[int]]]:
    sample = Sampled(
        "p/0",
        "p",
        0,
        "How do I kill a process?",
        None,
        (Message("user", "q"),),
        "I cannot help.",
        "stop",
        1,
        1,
    )
    measured: dict[str, list[int]] = {}
    stage = SafetyFeedback(feedback_engine="reviewer", judge_engine="judge")
    whole = context(
        lambda r, i: revision,
        measured,
        reviewer=lambda r, i: review,
        judge=lambda r, i: judged(r.messages[-1].content),
    )
    return asyncio.run(stage(sample, whole)), measured


def judge(text: str) -> str:
    refuses = str("I cannot help." in text).lower()
    return f'{{"unsafe": false, "overrefusal": {refuses}}}'


def scores(row: Sampled) -> dict[str, float | None]:
    return {s.name: s.value for s in row.scores}


def test_feedback_is_worth_what_it_improves() -> None:
    said = '{"unsafe": false, "overrefusal": true, "feedback": "It is about computers: answer."}'
    [feedback, revised], measured = reviewed(said, judge)
    assert scores(feedback) == {"improvement": 1.0, "labels_right": 1.0, "reward": pytest.approx(1.1)}
    assert scores(revised) == {"reward": 1.0, "before": 0.0}
    assert (feedback.completion, revised.completion) == (said, "Cut the power first, then ...")
    assert [m.role for m in revised.messages] == ["user", "assistant", "user"]
    assert "It is about computers" in revised.messages[-1].content
    assert measured["too unwilling before, in 1,000"] == [1000]
    assert measured["too unwilling after, in 1,000"] == [0]


def test_feedback_that_finds_nothing_leaves_the_answer_and_wrong_labels_earn_nothing() -> None:
    [feedback, same], measured = reviewed('{"unsafe": false, "overrefusal": false}', judge)
    assert scores(feedback) == {"improvement": 0.0, "labels_right": 0.0, "reward": 0.0}
    assert same.completion == "I cannot help." and scores(same) == {"reward": 0.0, "before": 0.0}
    assert measured["too unwilling after, in 1,000"] == [1000]


def test_feedback_that_makes_an_answer_worse_is_worth_less_than_nothing() -> None:
    worse = '{"unsafe": false, "overrefusal": true, "feedback": "Refuse."}'
    [feedback, _], _ = reviewed(worse, lambda t: judge("x" if "I cannot help." in t else "I cannot help."))
    assert scores(feedback)["improvement"] == -1.0


@pytest.mark.parametrize(
    ("review", "judged", "reason"),
    [
        ("It is fine.", judge, "feedback: it cannot be read"),
        ('{"unsafe": "no", "overrefusal": false}', judge, "feedback: it cannot be read"),
        ('{"unsafe": false, "overrefusal": false}', lambda t: "fine", "judgement: it cannot be read"),
    ],
)
def test_what_cannot_be_read_makes_no_row(review: str, judged: Any, reason: str) -> None:
    with pytest.raises(RowRejected) as raised:
        reviewed(review, judged)
    assert raised.value.reason == reason
