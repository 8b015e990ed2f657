"""Samples as conversations to imitate."""

from __future__ import annotations

import asyncio

import pytest

from gristmill.core.engine import Message
from gristmill.core.errors import RecipeError
from gristmill.core.records import Demonstration, Sampled, Turn
from gristmill.core.stages import Context, Rejection
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.demonstrations import Demonstrations

ASKED = (Message("user", "1+1?"), Message("assistant", "2"), Message("user", "Solve: 2+2?"))


def sample(outcome: Outcome | None, finish_reason: str = "stop") -> Sampled:
    verdict = None if outcome is None else Verdict(outcome)
    return Sampled("p/0", "p", 0, "2+2?", "4", ASKED, "It is 4.", finish_reason, 5, 3, verdict)


def kept(stage: Demonstrations, record: Sampled) -> Demonstration | Rejection:
    async def verify(completion: str, reference: str) -> Verdict:
        raise AssertionError("it verifies nothing")

    [made] = asyncio.run(stage(record, Context(ScriptedEngine(lambda r, i: ""), verify, 0)))
    return made


def test_a_right_sample_becomes_a_conversation_whose_last_turn_is_trained() -> None:
    made = kept(Demonstrations(kind="raft"), sample(Outcome.CORRECT))
    assert isinstance(made, Demonstration)
    assert made.turns == (
        *(Turn(m.role, m.content, False) for m in ASKED),
        Turn("assistant", "It is 4.", True),
    )
    assert (made.kind, made.problem_id, made.answer) == ("raft", "p", "4")


def test_a_prompt_of_its_own_takes_the_place_of_worked_examples() -> None:
    made = kept(Demonstrations(prompt="Q: {problem} {X}", system="Be brief."), sample(Outcome.CORRECT))
    assert isinstance(made, Demonstration)
    assert [(t.role, t.content) for t in made.turns] == [
        ("system", "Be brief."),
        ("user", "Q: 2+2? {X}"),
        ("assistant", "It is 4."),
    ]


@pytest.mark.parametrize(
    ("outcome", "finish_reason", "reason"),
    [
        (Outcome.INCORRECT, "stop", "verdict incorrect"),
        (Outcome.TIMEOUT, "stop", "verdict timeout"),
        (None, "stop", "no verdict"),
        (Outcome.CORRECT, "length", "unfinished"),
    ],
)
def test_others_are_dropped_with_the_reason(outcome: Outcome | None, finish_reason: str, reason: str) -> None:
    made = kept(Demonstrations(), sample(outcome, finish_reason))
    assert isinstance(made, Rejection) and made.reason == reason


def test_without_outcomes_every_finished_sample_is_kept() -> None:
    assert isinstance(kept(Demonstrations(outcomes=()), sample(None)), Demonstration)
    assert isinstance(kept(Demonstrations(outcomes=()), sample(None, "length")), Rejection)


def test_a_system_message_without_a_prompt_is_refused() -> None:
    with pytest.raises(RecipeError, match="system is given without a prompt"):
        Demonstrations(system="x")
