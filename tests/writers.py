"""What the tests of stages that have a model write share: a run of one stage over scripted replies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import RowRejected
from gristmill.core.stages import Context, Rejection
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.verifiers.math import Math

Answer = Callable[[Request, int], Completion | str]
JUDGE = {"kind": "judge", "asking": {"read": "text"}}


def by_words(**replies: str | Completion) -> Answer:
    """Replies by a word that the last user turn has; the first that fits."""

    def answer(request: Request, index: int) -> str | Completion:
        asked = request.messages[-1].content
        return next(reply for word, reply in replies.items() if word.replace("_", " ") in asked)

    return answer


def prefers(*better: str) -> Answer:
    """A judge that finds the response better that has one of these words; a tie where both do or neither."""

    def answer(request: Request, index: int) -> str:
        first, second = request.messages[-1].content.split("[BEGIN RESPONSE B")
        a, b = (
            any(word in part.split("[BEGIN RESPONSE A")[-1] for word in better) for part in (first, second)
        )
        return "I cannot tell." if a == b else "[[A]]" if a else "[[B]]"

    return answer


async def by_math(completion: str, reference: str) -> Verdict:
    return Math()(completion, reference)


def always(outcome: Outcome) -> Callable[[str, str], Any]:
    async def verify(completion: str, reference: str) -> Verdict:
        return Verdict(outcome)

    return verify


def work(
    stage: Any, record: Any, own: Answer, other: Answer | None = None, verify: Any = by_math, **more: Any
) -> tuple[list[Any], ScriptedEngine]:
    """What a stage makes of a record, with the engine that wrote; a row that is rejected as a whole too."""
    engine = ScriptedEngine(own)
    further = {"other": ScriptedEngine(other or own)}
    context = Context(engine, verify, 7, further, **more)
    try:
        return list(asyncio.run(stage(record, context))), engine
    except RowRejected as error:
        return [Rejection(record.id, error.reason, error.message)], engine


def reasons(made: Sequence[Any]) -> list[str]:
    return [one.reason for one in made if isinstance(one, Rejection)]
