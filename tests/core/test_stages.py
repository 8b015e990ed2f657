from __future__ import annotations

import asyncio

from gristmill.core.engine import Completion
from gristmill.core.stages import Context
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine


def test_every_judged_completion_is_counted_and_one_that_was_cut_off_is_unparseable() -> None:
    counted: list[str] = []
    asked: list[str] = []

    async def verify(text: str, reference: str) -> Verdict:
        asked.append(text)
        verdict = Verdict(Outcome.CORRECT if text == reference else Outcome.INCORRECT)
        counted.append(verdict.outcome)  # as a run's does
        return verdict

    context = Context(
        ScriptedEngine(lambda r, i: ""), verify, 0, count=lambda verdict: counted.append(verdict.outcome)
    )

    async def go() -> list[Verdict]:
        return [
            await context.judge(Completion("4"), "4"),
            await context.judge(Completion("4", "length"), "4"),
            await context.judge(Completion(" 4"), "2 + 2 = 4", begun="2 + 2 ="),
        ]

    outcomes = [verdict.outcome for verdict in asyncio.run(go())]
    assert outcomes == counted == ["correct", "unparseable", "correct"]
    assert asked == ["4", "2 + 2 = 4"]
