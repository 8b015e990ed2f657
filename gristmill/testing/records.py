"""Records for tests: each builder fills every field that a test does not care about."""

from __future__ import annotations

from typing import Any

from gristmill.core.engine import Message
from gristmill.core.records import (
    Conversation,
    Demonstration,
    Pair,
    Passage,
    Problem,
    Sampled,
    Trajectory,
    Turn,
)
from gristmill.core.verdicts import Outcome, Verdict

CORRECT = Verdict(Outcome.CORRECT, 1.0, "4", "exact")
"""The verdict on a right answer."""
INCORRECT = Verdict(Outcome.INCORRECT, 0.0, "5", "exact")
"""The verdict on a wrong answer."""


def problem(id: str = "p1", **fields: Any) -> Problem:
    """ "What is 2 + 2?", whose answer is 4."""
    return Problem(**{"id": id, "problem": "What is 2 + 2?", "answer": "4", **fields})


def sampled(id: str = "p1/0", **fields: Any) -> Sampled:
    """A right answer to ``problem()``."""
    given = {
        "id": id,
        "problem_id": "p1",
        "index": 0,
        "problem": "What is 2 + 2?",
        "answer": "4",
        "messages": (Message("user", "What is 2 + 2?"),),
        "completion": "2 + 2 = 4. \\boxed{4}",
        "finish_reason": "stop",
        "prompt_tokens": 6,
        "completion_tokens": 6,
        "verdict": CORRECT,
    }
    return Sampled(**{**given, **fields})


def pair(id: str = "p1#0", **fields: Any) -> Pair:
    """A right answer to ``problem()`` preferred to a wrong one."""
    given = {
        "id": id,
        "problem_id": "p1",
        "kind": "right over wrong",
        "prompt": (Message("user", "What is 2 + 2?"),),
        "chosen": (Message("assistant", "\\boxed{4}"),),
        "rejected": (Message("assistant", "\\boxed{5}"),),
    }
    return Pair(**{**given, **fields})


def turns(*contents: str) -> tuple[Turn, ...]:
    """Turns of user and assistant in alternation, of which the assistant's are trained."""
    return tuple(
        Turn("assistant" if i % 2 else "user", content, bool(i % 2)) for i, content in enumerate(contents)
    )


def conversation(id: str = "c1", **fields: Any) -> Conversation:
    """One question and its answer."""
    return Conversation(**{"id": id, "turns": turns("What is 2 + 2?", "4"), **fields})


def trajectory(id: str = "p1/0", **fields: Any) -> Trajectory:
    """A D1 trajectory: wrong, judged wrong, corrected."""
    given = {
        "id": id,
        "problem_id": "p1",
        "problem": "What is 2 + 2?",
        "answer": "4",
        "subset": "D1",
        "style": "verify",
        "turns": turns(
            "What is 2 + 2?", "\\boxed{5}", "Check it.", "[VERIFY] wrong.", "Again.", "\\boxed{4}"
        ),
    }
    return Trajectory(**{**given, **fields})


def demonstration(id: str = "p1/0", **fields: Any) -> Demonstration:
    """A right answer to imitate."""
    given = {
        "id": id,
        "problem_id": "p1",
        "problem": "What is 2 + 2?",
        "answer": "4",
        "kind": "right",
        "turns": turns("What is 2 + 2?", "4"),
    }
    return Demonstration(**{**given, **fields})


def passage(id: str = "t1", **fields: Any) -> Passage:
    """A sentence to ask about."""
    return Passage(**{"id": id, "text": "Two and two make four.", **fields})
