"""Starting again what has died, a bounded number of times."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gristmill.core.errors import EngineError, RunStopped, TransientError

RESTARTS = 3

T = TypeVar("T")

_log = logging.getLogger(__name__)


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
        self._over = False

    def end(self) -> None:
        """It is going to be stopped for good: nothing starts it again."""
        self._over = True

    async def through(self, work: Callable[[], Awaitable[T]]) -> T:
        """What ``work`` gives; it is done again where its ``TransientError`` came of a death.

        One death fails all that is in flight, which may be hundreds of requests: to whoever counts
        failures, the run would look hopeless. Errors as of ``ensure``.
        """
        while True:
            await self.ensure()
            life = self._deaths
            try:
                return await work()
            except TransientError:
                if self._over or (self._alive() and life == self._deaths):
                    raise

    async def ensure(self) -> None:
        """Return when it runs, having started it where it had died.

        ``TransientError`` where it did not start, ``RunStopped`` where it died too often.
        """
        if self._alive():
            return
        async with self._lock:
            if self._alive():
                return
            if self._over:
                raise TransientError(f"{self._what} has been closed")
            self._deaths += 1
            last = self._last_words()
            await self._stop()
            if self._deaths > RESTARTS:
                raise RunStopped(
                    f"{self._what} died {self._deaths} times. {last}".rstrip(), remedy=self._remedy
                )
            _log.warning("%s died and is started again (%d of %d).", self._what, self._deaths, RESTARTS)
            try:
                await self._start()
            except EngineError as error:
                raise TransientError(str(error)) from error
