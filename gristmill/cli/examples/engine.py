"""An engine that answers with what it was asked; put a call of your server or library in its place."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from gristmill.core import Ability, Completion, Engine, Request
from gristmill.engines import EngineOptions


class Echo(EngineOptions, frozen=True, kw_only=True):
    """Answers with the last message, ``times`` over."""

    times: int = 1
    """How often the message is repeated."""

    def open(self) -> Engine:
        """The engine; nothing is sent yet."""
        return EchoEngine(self)


class EchoEngine:
    """The engine at work: retries, pacing and the completion log are laid around it."""

    def __init__(self, options: Echo) -> None:
        self._options = options
        self.model = f"echo-{options.times}"  # completions are kept under this name and the request
        self.abilities = frozenset({Ability.CHAT, Ability.SEED, Ability.MANY})
        self.concurrency = options.concurrency

    async def __aenter__(self) -> Self:
        return self  # open connections here

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None  # close them here

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """Completions ``first`` to ``first + n - 1``: raise ``TransientError`` for what may work later."""
        text = " ".join([request.messages[-1].content] * self._options.times)
        words = len(text.split())
        counted = sum(len(m.content.split()) for m in request.messages)
        return [
            Completion(text, prompt_tokens=counted if i == 0 else 0, completion_tokens=words)
            for i in range(n)
        ]
