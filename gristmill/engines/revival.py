"""Restarting what has crashed, a limited number of times."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gristmill.core.errors import EngineError, RunStopped, TransientError

RESTARTS = 3
"""After this many restarts the next crash stops the run."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Revival:
    """Keeps something running that can be started and stopped.

    ``alive`` says whether it runs, ``stop`` removes what is left of it, ``start`` starts it (or raises
    ``EngineError``), ``last_words`` returns its last output, for the error message.
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
        """Declare that it is about to be stopped on purpose, so that it is not restarted."""
        self._over = True

    async def through(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of ``work``, which is repeated if its ``TransientError`` was caused by a crash.

        One crash fails everything in flight, which may be hundreds of requests. If each counted as a
        failure, the breaker would stop the run. Raises the errors of ``ensure`` too.
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
        """Return when it runs; start it first if it has crashed.

        ``TransientError`` if it did not start, ``RunStopped`` if it crashed too often.
        """
        if self._alive():
            return
        async with self._lock:
            if self._alive():
                return
            if self._over:
                raise TransientError(f"{self._what} is closed")
            self._deaths += 1
            last = self._last_words()
            await self._stop()
            if self._deaths > RESTARTS:
                raise RunStopped(
                    f"{self._what} crashed {self._deaths} times. {last}".rstrip(), remedy=self._remedy
                )
            _log.warning("%s crashed and is restarted (%d of %d).", self._what, self._deaths, RESTARTS)
            try:
                await self._start()
            except EngineError as error:
                raise TransientError(str(error)) from error
