"""Checklists, binary principles and contrastive rubrics."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from gristmill.core.engine import Completion, Message, Request, Sampling
from gristmill.core.errors import RecipeError
from gristmill.core.verdicts import Outcome
from gristmill.engines.scripted import ScriptedEngine
from gristmill.verifiers.evidence import Check
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.judge import Judge
from gristmill.verifiers.judges.principles import BinaryPrinciples
from gristmill.verifiers.judges.replies import Unread
from gristmill.verifiers.judges.rubric import (
    Checklist,
    Contrast,
    ContrastiveRubric,
    Rubric,
    RubricTrial,
    drfr,
    macro,
    share,
    tally,
)

Answer = Callable[[Request, int], Completion | str]
QUESTIONS = ("Is it brief?", "Is it polite?", "Does it rhyme?", "Does it name Rome?")


def checks(marks: str) -> list[Check]:
    """``y``, ``n`` and ``?`` as rows."""
    return [Check(f"q{i}", {"y": True, "n": False, "?": None}[m]) for i, m in enumerate(marks)]


def block(request: Request, name: str) -> str:
    found = re.search(rf"\[BEGIN {name} (\w+)\]\n(.*?)\n\[END {name} \1\]", request.messages[1].content, re.S)
    return found[2] if found else ""


def replies(**by_question: str) -> Answer:
    """Answers ``[[yes]]`` to a question with one of these words in it, else what is given for ``other``."""

    def answer(request: Request, index: int) -> str:
        question = block(request, "QUESTION")
        return next((a for word, a in by_question.items() if word in question), by_question["other"])

    return answer


def test_vectors_of_g9() -> None:
    lists = checks("yyny"), checks("yn")
    assert [share(c) for c in lists] == [0.75, 0.5]
    assert macro(lists) == pytest.approx(0.625)
    assert drfr(lists) == pytest.approx(0.666667, abs=1e-6)


def test_rows_that_could_not_be_read_count_for_nothing() -> None:
    assert share(checks("y??n")) == 0.5
    assert share(checks("??")) is share([]) is macro([checks("?")]) is drfr([]) is None
    assert macro([checks("?"), checks("y")]) == drfr([checks("?"), checks("y")]) == 1.0


@pytest.mark.parametrize(
    ("marks", "accept", "outcome", "score"),
    [
        ("yyyy", 1.0, Outcome.CORRECT, 1.0),
        ("yyny", 1.0, Outcome.INCORRECT, 0.75),
        ("yyny", 0.75, Outcome.CORRECT, 0.75),
        ("yyy?", 1.0, Outcome.UNPARSEABLE, None),
        ("yyy?", 0.75, Outcome.CORRECT, 1.0),  # right whatever the fourth is
        ("yn??", 0.8, Outcome.INCORRECT, 0.5),  # wrong whatever they are
        ("????", 0.5, Outcome.UNPARSEABLE, None),
    ],
)
def test_unread_rows_decide_nothing(marks: str, accept: float, outcome: Outcome, score: float | None) -> None:
    verdict = tally(checks(marks), accept)
    assert (verdict.outcome, verdict.score) == (outcome, score)


def run(verifier: Any, answer: Answer) -> tuple[Any, list[Request]]:
    seen: list[Request] = []

    def record(request: Request, index: int) -> Completion | str:
        seen.append(request)
        return answer(request, index)

    call = verifier("Roma!", "", problem="Name a city.", engine=ScriptedEngine(record), seed=1)
    return asyncio.run(call), seen


def test_each_question_is_asked_alone() -> None:
    answer = replies(rhyme="It does not. [[no]]", other="[[yes]]")
    verdict, seen = run(Checklist(questions=QUESTIONS, accept=0.75), answer)
    assert (verdict.outcome, verdict.score, verdict.rule) == (Outcome.CORRECT, 0.75, "yes to 3 of 4")
    assert "Does it rhyme?: no (" in verdict.detail and "Is it brief?: yes (" in verdict.detail
    assert sorted(block(r, "QUESTION") for r in seen) == sorted(QUESTIONS)
    assert all(block(r, "RESPONSE") == "Roma!" for r in seen)
    for request in seen:
        others = [q for q in QUESTIONS if q != block(request, "QUESTION")]
        assert not any(q in m.content for q in others for m in request.messages)


def test_questions_are_written_from_the_problem_alone() -> None:
    written = {"questions": ["Is it a city?", " Is it a city? ", " ", "Is it one name?", "Surplus?"]}

    def answer(request: Request, index: int) -> str:
        return "[[yes]]" if block(request, "QUESTION") else json.dumps(written)

    verdict, seen = run(Checklist(limit=2), answer)
    assert (verdict.outcome, verdict.rule) == (Outcome.CORRECT, "yes to 2 of 2")
    assert "Roma!" not in seen[0].messages[1].content
    assert block(seen[0], "PROBLEM") == "Name a city."
    assert [block(r, "QUESTION") for r in seen[1:]] == ["Is it a city?", "Is it one name?"]


@pytest.mark.parametrize(
    "text", ["Is it brief?", '{"questions": []}', '{"questions": ["  "]}', '{"questions": [1]}']
)
def test_a_checklist_that_cannot_be_read_decides_nothing(text: str) -> None:
    verdict, seen = run(Checklist(), lambda r, i: text)
    assert (verdict.outcome, verdict.rule, len(seen)) == (Outcome.UNPARSEABLE, "no checklist", 2)
    assert verdict.detail


def test_votes_on_a_row_may_be_tied() -> None:
    asking = Asking(votes=2, sampling=Sampling(temperature=1.0))
    verdict, _ = run(
        Checklist(questions=("Is it brief?",), asking=asking), lambda r, i: ["[[yes]]", "[[no]]"][i]
    )
    assert verdict.outcome is Outcome.UNPARSEABLE


def prefer(answer: Answer) -> Any:
    checklist = Checklist(questions=QUESTIONS)
    engine = ScriptedEngine(answer)
    return asyncio.run(checklist.compare("one", "two", problem="P", engine=engine, seed=1))


def test_preference_by_score_keeps_ties() -> None:
    def for_response(**failing: Sequence[str]) -> Answer:
        def answer(request: Request, index: int) -> str:
            bad = any(w in block(request, "QUESTION") for w in failing[block(request, "RESPONSE")])
            return "[[no]]" if bad else "[[yes]]"

        return answer

    found = prefer(for_response(one=["rhyme"], two=["rhyme", "Rome"]))
    assert (found.winner, found.first, found.second) == ("first", 0.75, 0.5)
    assert prefer(for_response(one=["rhyme"], two=[])).winner == "second"
    assert prefer(for_response(one=["rhyme"], two=["brief"])).winner == "tie"
    assert prefer(replies(rhyme="Hm.", other="[[yes]]")).winner is None
    assert prefer(lambda r, i: "x").winner is None


def test_binary_principles_are_judged_alone() -> None:
    verifier = BinaryPrinciples(("The answer is honest.", "The answer is brief."), accept=0.5)
    verdict, seen = run(verifier, replies(honest="[[no]]", other="[[yes]]"))
    assert (verdict.outcome, verdict.score, len(seen)) == (Outcome.CORRECT, 0.5, 2)
    assert verdict.detail.startswith("The answer is honest.: no (")
    with pytest.raises(RecipeError, match="there are no principles"):
        msgspec.convert({"principles": []}, BinaryPrinciples)


def test_nothing_is_asked_about_an_empty_answer() -> None:
    engine = ScriptedEngine(lambda r, i: "[[yes]]")
    for verifier in (Checklist(questions=QUESTIONS), BinaryPrinciples(("Be brief.",))):
        verdict = asyncio.run(verifier("", "", problem="P", engine=engine, seed=1))
        assert verdict.outcome is Outcome.UNPARSEABLE
    assert engine.requests == 0


SOURCE = Contrast("A short poem about the sea that ends with the word salt and then stops.", "No.")
OTHERS = (Contrast("good one", "bad one"), Contrast("good two", "bad two"))
RUBRIC = {"hard_rules": ["It is a poem."], "principles": ["It has images."]}


def trial(
    choose: Callable[[str, str], str],
    *,
    rubric: Any = RUBRIC,
    held_out: Sequence[Contrast] = OTHERS,
    source: Contrast = SOURCE,
) -> tuple[RubricTrial, list[Request]]:
    """``choose`` gets the responses shown as A and B and gives the judge's answer."""
    seen: list[Request] = []

    def answer(request: Request, index: int) -> str:
        seen.append(request)
        if block(request, "PREFERRED"):
            return rubric if isinstance(rubric, str) else json.dumps(rubric)
        return choose(block(request, "RESPONSE A"), block(request, "RESPONSE B"))

    engine = ScriptedEngine(answer)
    made = asyncio.run(ContrastiveRubric()(source, held_out, problem="Write a poem.", engine=engine, seed=1))
    return made, seen


def fair(a: str, b: str) -> str:
    return "[[A]]" if a.startswith("good") else "[[B]]"


def test_a_rubric_that_recovers_every_held_out_preference_is_kept() -> None:
    made, seen = trial(fair, held_out=(*OTHERS, SOURCE))
    assert made.outcome == "kept"
    assert made.rubric == Rubric(("It is a poem.",), ("It has images.",))
    assert [c.winner for c in made.comparisons] == ["first", "first"]
    assert len(seen) == 1 + 2 * 2  # the source, though listed, is not tested on
    for request in seen[1:]:
        assert block(request, "CRITERIA") == "Hard rules:\n- It is a poem.\nPrinciples:\n- It has images."
        assert SOURCE.preferred not in request.messages[1].content


@pytest.mark.parametrize(
    ("choose", "outcome"),
    [
        (lambda a, b: "[[A]]", "not recovered"),  # in one order only
        (lambda a, b: "[[B]]" if a.startswith("good") else "[[A]]", "not recovered"),
        (lambda a, b: fair(a, b) if "one" in a else "[[A]]", "not recovered"),
        (lambda a, b: fair(a, b) if "one" in a else "Hm.", "undecided"),
    ],
)
def test_other_rubrics_are_not_kept(choose: Callable[[str, str], str], outcome: str) -> None:
    assert trial(choose)[0].outcome == outcome


@pytest.mark.parametrize("rubric", ["Be good.", {"hard_rules": [], "principles": []}, {"hard_rules": ["x"]}])
def test_a_rubric_that_cannot_be_read(rubric: Any) -> None:
    made, seen = trial(fair, rubric=rubric)
    assert (made.outcome, made.rubric, len(seen)) == ("unreadable", None, 2)


def test_a_rubric_must_not_quote_the_answer_that_it_was_written_from() -> None:
    quoting = {"hard_rules": ["It is a short poem about THE SEA, that ends with salt."], "principles": []}
    made, seen = trial(fair, rubric=quoting)
    assert made.outcome == "quotes an answer"
    assert made.detail == "a short poem about the sea that ends"
    assert len(seen) == 1
    seven = {"hard_rules": ["It is a short poem about the sea."], "principles": []}
    assert trial(fair, rubric=seven)[0].outcome == "kept"


@pytest.mark.parametrize("held_out", [(), (SOURCE,)])
def test_without_a_held_out_pair_nothing_is_spent(held_out: Sequence[Contrast]) -> None:
    made, seen = trial(fair, held_out=held_out)
    assert (made.outcome, seen) == ("nothing held out", [])


def test_a_judge_that_does_not_see_the_rubric_is_refused() -> None:
    blind = Judge(pairwise=(Message("user", "{response_a} {response_b} {answer_with}"),))
    with pytest.raises(RecipeError, match=r"no place \{criteria\}"):
        ContrastiveRubric(judge=blind)


def test_a_truncated_rubric_is_unread() -> None:
    engine = ScriptedEngine(lambda r, i: Completion(json.dumps(RUBRIC), finish_reason="length"))
    draft = asyncio.run(ContrastiveRubric().draft(SOURCE, problem="P", engine=engine, seed=1))
    assert isinstance(draft, Unread)
    assert "cut off" in draft.why
