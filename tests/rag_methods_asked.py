"""Questions over passages of the island, and stages called with a scripted engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from gristmill.core.engine import Completion, Message, Request, TokenLogprob
from gristmill.core.errors import RowRejected
from gristmill.core.records import Problem, Sampled
from gristmill.core.stages import Context, Rejection, RowStage
from gristmill.core.verdicts import Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.verifiers.rules import ShortAnswer

ISLAND = {"source": "p1", "title": "The island", "text": "Vellan is an island of 412 square kilometres."}
HARROW = {"source": "p2", "title": "The Harrow", "text": "The Harrow rises below Carn Duff and flows east."}
DUFF = {"source": "p3", "title": "Carn Duff", "text": "Carn Duff is 731 metres high."}
HELD = [ISLAND, HARROW, DUFF]

Says = Callable[[Request, int], Completion | str]


def question(text: str = "How high is the hill below which the Harrow rises?", **meta: Any) -> Problem:
    held = {"passages": HELD, "gold": ["p2", "p3"], **meta}
    return Problem("q", text, "731 metres", meta=msgspec.json.encode(held).decode())


def sampled(completion: str, *, finish: str = "stop", own: str = "q/0", **meta: Any) -> Sampled:
    one = question(**meta)
    return Sampled(
        own, one.id, 0, one.problem, one.answer, (Message("user", one.problem),), completion, finish, 1, 1,
        meta=one.meta,
    )  # fmt: skip


async def verify(completion: str, reference: str) -> Verdict:
    return ShortAnswer()(completion, reference)


def made(
    stage: RowStage,
    record: Any,
    says: Says | str = "",
    *,
    score: Callable[[tuple[Message, ...], str], Sequence[TokenLogprob]] | None = None,
    measured: dict[str, list[int]] | None = None,
) -> list[Any]:
    """What a stage makes of a record, with an engine that answers by ``says``."""
    engine = ScriptedEngine(says if callable(says) else lambda request, index: says, score=score)
    held = {} if measured is None else measured

    def measure(name: str, value: int) -> None:
        held.setdefault(name, []).append(value)

    context = Context(engine, verify, 0, measure=measure)
    assert stage.estimate(record) is not None
    return list(asyncio.run(stage(record, context)))


def reason(stage: RowStage, record: Any, says: Says | str = "", **options: Any) -> str:
    """Why a stage rejects a record."""
    try:
        found = made(stage, record, says, **options)
    except RowRejected as refused:
        return refused.reason
    if len(found) != 1 or not isinstance(found[0], Rejection):
        pytest.fail(f"nothing was rejected: {found}")
    return found[0].reason


def meta_of(record: Any) -> dict[str, Any]:
    held: dict[str, Any] = msgspec.json.decode(record.meta)
    return held


def asked(request: Request) -> str:
    """The last user turn."""
    return request.messages[-1].content


def by(**replies: str) -> Says:
    """The reply whose name, with blanks for underscores, is in the last turn; the last one where none is."""

    def says(request: Request, index: int) -> str:
        text = asked(request)
        fits = (reply for words, reply in replies.items() if words.replace("_", " ") in text)
        return next(fits, list(replies.values())[-1])

    return says
