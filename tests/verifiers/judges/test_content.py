"""What of an answer and of a judge's reply counts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gristmill.core.engine import Ability, Completion, Request
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ABILITIES, ScriptedEngine
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.content import contentless, judged_part
from gristmill.verifiers.judges.judge import Judge
from gristmill.verifiers.judges.principles import Principle, Salmon
from gristmill.verifiers.judges.replies import Unread, read_marked
from gristmill.verifiers.judges.rubric import Checklist

LABELS = ("correct", "incorrect")
EMPTY = [
    *(
        "",
        " ",
        ".",
        ",",
        ":",
        "-",
        "...",
        "**",
        "#",
        "```\n```",
        "Solution",
        "Solution:",
        "## Solution",
        "**Answer:**",
    ),
    *(
        "Let me think",
        "Let's think step by step.",
        "Let me solve this problem step by step.",
        "Thought process:",
    ),
    *(
        "Let's solve this problem step by step",
        "Okay, let me think.",
        "Sure! Here is the solution:",
        "Answer is",
    ),
    *(
        "Here's the step-by-step solution:",
        "To solve this problem:",
        "First, let's break down the problem.",
        "解",
    ),
    *(
        "Respuesta:",
        "答案：",
        "Final answer:",
        "Step 1:",
        "I'll start by analyzing the problem.",
        "Hmm...",
        "かいせつ",
    ),
    *(
        "Certainly! I'd be happy to help.",
        "The answer is:",
        "Let's begin.",
        "So,",
        "Explanation",
        "Conclusion.",
    ),
]
FULL = [
    *(
        "4",
        "-5",
        "x",
        "yes",
        "No.",
        "B",
        "The answer is 4",
        "Solution: 4",
        "\\boxed{4}",
        "Paris",
        "∅",
        "{}= 0",
        "答：三",
    ),
    *(
        "Let me think about birds.",
        "First, add 3.",
        "Step 1: add",
        "I cannot solve it",
        "To Rome",
        "So what?",
        "O(n)",
    ),
    *(
        "Here is the answer: no",
        "Sure, it is Mozart",
        "None",
        "true",
        "Let's see: 2",
        "Okay, the proof is by induction",
    ),
]


def test_answers_that_say_nothing() -> None:
    assert [text for text in EMPTY if not contentless(text)] == []
    assert [text for text in FULL if contentless(text)] == []


def replied(text: str) -> Completion:
    return Completion(text, "stop")


@pytest.mark.parametrize(
    "text", ["<think>It is [[correct]].</think>No. [[incorrect]]", "It is [[incorrect]]."]
)
def test_what_a_judge_thought_is_no_verdict(text: str) -> None:
    assert read_marked(replied(text), LABELS) == "incorrect"


def test_replies_of_judges_are_read_as_people_do() -> None:
    """Replies as other projects' judges gave them, in our words; null: no verdict may be read."""
    for line in (Path(__file__).parent / "data" / "judge_replies.jsonl").read_text().splitlines():
        row = json.loads(line)
        read = read_marked(replied(row["reply"]), row["labels"])
        assert (None if isinstance(read, Unread) else read) == row["read"], row


@pytest.mark.parametrize(
    "text",
    [
        "<think>Surely [[correct]]",
        "The answer is not [[correct]]",
        "It isn't [[correct]].",
        "It is not really **[[correct]]**",
        "This is anything but [[correct]].",
        "It cannot be considered [[correct]]",
        "neither fully [[correct]]",
    ],
)
def test_a_verdict_that_is_denied_or_only_thought_is_not_read(text: str) -> None:
    assert isinstance(read_marked(replied(text), LABELS), Unread)


@pytest.mark.parametrize(
    "text",
    ["I do not see an error. [[correct]]", "Not bad at all: [[correct]]", "It's not wrong, so [[correct]]"],
)
def test_a_denial_of_something_else_does_not_count(text: str) -> None:
    assert read_marked(replied(text), LABELS) == "correct"


def judged(judge: Judge | Checklist, completion: str, reply: str) -> tuple[Verdict, int]:
    engine = ScriptedEngine(lambda request, index: reply)
    verdict = asyncio.run(judge(completion, "4", problem="2 + 2?", engine=engine, seed=1))
    return verdict, engine.requests


@pytest.mark.parametrize("completion", ["Solution:", "<think>4</think>", "<think>It is 4", "Let me think."])
def test_no_judge_is_asked_about_nothing(completion: str) -> None:
    for judge, reply in (
        (Judge(asking=Asking(read="text")), "[[correct]]"),
        (Checklist(questions=("Is it 4?",)), "[[yes]]"),
    ):
        verdict, asked = judged(judge, completion, reply)
        assert (verdict.outcome, asked) == (Outcome.UNPARSEABLE, 0)


def test_a_judge_is_shown_the_answer_without_the_reasoning() -> None:
    assert judged_part("<think>Is it 5?</think>It is 4.") == "It is 4."
    verdict, asked = judged(Judge(asking=Asking(read="text")), "<think>5</think>It is 4.", "[[correct]]")
    assert (verdict.outcome, asked) == (Outcome.CORRECT, 1)


@pytest.mark.parametrize("empty", ["Solution:", "<think>It is 4", "Let me think."])
def test_nothing_is_compared_with_nobody_asked(empty: str) -> None:
    salmon = Salmon(principles=(Principle("Be short."),))
    for comparer in (Judge(), Checklist(questions=("Is it 4?",)), salmon):
        for pair in ((empty, "It is 4."), ("It is 4.", empty)):
            able = ABILITIES | {Ability.LOGPROBS}
            engine = ScriptedEngine(lambda request, index: "[[A]]", abilities=able)
            found = asyncio.run(comparer.compare(*pair, problem="2 + 2?", engine=engine, seed=1))
            assert (found.winner, engine.requests) == (None, 0)
            assert f"answer {pair.index(empty) + 1} is not judged" in found.detail


def test_answers_that_say_nothing_have_no_place_in_a_list() -> None:
    def first_shown_wins(request: Request, index: int) -> str:
        assert "Solution" not in request.messages[1].content
        assert "<think>" not in request.messages[1].content
        return "[[1 > 2]]"

    answers = ("Solution", "<think>Or 5?</think>It is 4.", "It is 5.", "")
    engine = ScriptedEngine(first_shown_wins)
    found = asyncio.run(Judge(shuffles=1).rank(answers, problem="2 + 2?", engine=engine, seed=1))
    assert sorted(found.order) == [1, 2]
    assert found.best == found.order[0]
    assert (found.scores[0], found.scores[3]) == (0.0, 0.0)
    assert found.detail == "2 of 4 answers say nothing"
    alone = asyncio.run(Judge().rank(("Solution", "It is 4."), problem="2 + 2?", engine=engine, seed=1))
    assert (alone.order, alone.best, alone.asked, engine.requests) == ((1,), 1, 0, 1)
