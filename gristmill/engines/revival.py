"""Starting again what has died, a bounded number of times."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gristmill.core.errors import EngineError, RunStopped, TransientError

RESTARTS = 3


class Revival:
    """Keeps something alive that can be started and stopped.

    ``alive`` says whether it runs, ``stop`` clears away what is left of it, ``start`` starts it (or raises
    ``EngineError``), ``last_words`` is what it said before it died, for the message.
    """

    def __init__(
        self,
        what: str,
        *,
        alive: Callable[[], bool],
        start: Callable[[], Awaitable[None]],
        stop: Callable[[], Awaitable[None]],
        last_words: Callable[[], str],
        remedy: str,
    ) -> None:
        self._what = what
        self._alive = alive
        self._start = start
        self._stop = stop
        self._last_words = last_words
        self._remedy = remedy
        self._lock = asyncio.Lock()
        self._deaths = 0

    async def ensure(self) -> None:
        """Return when it runs, having started it where it had died.

        ``TransientError`` where it did not start, ``RunStopped`` where it died too often. Requests that
        were in flight when it died have failed with a ``TransientError`` of their own.
        """
        if self._alive():
            return
        async with self._lock:
            if self._alive():
                return
            self._deaths += 1
            last = self._last_words()
            await self._stop()
            if self._deaths > RESTARTS:
                raise RunStopped(
                    f"{self._what} died {self._deaths} times. {last}".rstrip(), remedy=self._remedy
                )
            try:
                await self._start()
            except EngineError as error:
                raise TransientError(str(error)) from error
