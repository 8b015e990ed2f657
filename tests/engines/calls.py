"""An engine that notes its calls, and a session around it for one coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from gristmill.core.engine import Ability, Completion, Request
from gristmill.engines.options import EngineOptions
from gristmill.engines.scripted import ABILITIES, ScriptedEngine
from gristmill.engines.session import Session

Ask = Callable[..., Request]
QUICK = EngineOptions(backoff=0.001, max_backoff=0.01)


class Calls(ScriptedEngine):
    """Answers with the sample's index, and notes what it was asked for."""

    def __init__(
        self, *, many: bool = True, fail: Callable[[int], Exception | None] = lambda call: None
    ) -> None:
        abilities = ABILITIES if many else ABILITIES - {Ability.MANY}
        super().__init__(lambda request, i: f"{request.seed}/{i}", abilities=abilities)
        self.asked: list[tuple[int, int]] = []
        self._fail = fail

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        error = self._fail(len(self.asked))
        self.asked.append((first, n))
        await asyncio.sleep(0.001)
        if error is not None:
            raise error
        return await super().generate(request, first=first, n=n)


def run_in(session: Session, main: Callable[[], Awaitable[Any]]) -> Any:
    async def inside() -> Any:
        async with session:
            return await main()

    return asyncio.run(inside())


def texts(completions: list[Completion]) -> list[str]:
    return [c.text for c in completions]
