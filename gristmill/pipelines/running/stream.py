"""A bounded, ordered, concurrent map over an iterator: the one place where rows become coroutines."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Generic, TypeVar

from gristmill.core.weights import batch

T = TypeVar("T")
R = TypeVar("R")

_READ = 64
"""Items read from the source at a time, in a thread."""
_READ_BYTES = 8 << 20
"""Fewer are read at a time where they have more bytes than this."""


def _nothing(item: object) -> int:
    return 0


class OrderedMap(Generic[T, R]):
    """Applies ``work`` to each item, ``workers`` at a time, and hands results to ``emit`` in input order.

    No item is read while ``window`` items are between reading and ``emit`` (of which more than
    ``workers`` wait only for an earlier one), so memory is bounded however slow one item is, and however
    many there are. The iterator may block; it is advanced in a thread. Once ``over`` is true, no further
    item is begun, read or not.

    ``weigh`` gives the bytes of an item, ``weigh_result`` those of what came of it. While those in the window
    have more than ``window_bytes``, no more than ``workers`` are in it.
    """

    def __init__(
        self,
        items: Iterator[T],
        work: Callable[[T], Awaitable[R]],
        emit: Callable[[R], Awaitable[None]],
        *,
        workers: int,
        window: int,
        over: Callable[[], bool] = bool,
        window_bytes: int = sys.maxsize,
        weigh: Callable[[T], int] = _nothing,
        weigh_result: Callable[[R], int] = _nothing,
    ) -> None:
        self._items = items
        self._work = work
        self._emit = emit
        self._workers = workers
        self._window = max(window, workers)
        self._over = over
        self._window_bytes = window_bytes
        self._weigh = weigh
        self._weigh_result = weigh_result
        self._weights: dict[int, int] = {}
        self._held = 0
        self._buffer: deque[tuple[T, int]] = deque()
        self._early: dict[int, R] = {}
        self._taken = 0
        self._emitted = 0
        self._draining = False
        self._moved = asyncio.Event()
        self._reading = asyncio.Lock()
        self._closed = False

    async def run(self) -> None:
        """Until the items end. The first error of ``work`` or ``emit`` ends it."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(self._worker())
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None

    async def _worker(self) -> None:
        while (taken := await self._take()) is not None:
            position, item = taken
            self._early[position] = result = await self._work(item)
            self._weigh_as(position, self._weights[position] + self._weigh_result(result))
            del taken, item, result  # what has been emitted must not be held by a worker that waits
            await self._drain()

    async def _take(self) -> tuple[int, T] | None:
        while not self._closed:
            if self._over():
                self._closed = True
            elif self._buffer and self._has_room():
                position, self._taken = self._taken, self._taken + 1
                item, weight = self._buffer.popleft()
                self._weigh_as(position, weight)
                return position, item
            else:
                async with self._reading:
                    await self._refill()
        return None

    async def _refill(self) -> None:
        """Wait until there is room in the window and something in the buffer, or the items have ended."""
        while not self._has_room():
            self._moved.clear()
            await self._moved.wait()
        if not self._buffer and not self._closed:
            self._buffer.extend(await asyncio.to_thread(batch, self._items, _READ, _READ_BYTES, self._weigh))
            self._closed = not self._buffer

    def _has_room(self) -> bool:
        """Whether one more item may be begun."""
        inside = self._taken - self._emitted
        return inside < (self._window if self._held < self._window_bytes else self._workers)

    def _weigh_as(self, position: int, weight: int) -> None:
        self._held += weight - self._weights.get(position, 0)
        self._weights[position] = weight

    async def _drain(self) -> None:
        if self._draining:
            return
        self._draining = True
        try:
            while self._emitted in self._early:
                await self._emit(self._early.pop(self._emitted))
                self._held -= self._weights.pop(self._emitted)
                self._emitted += 1
                self._moved.set()
        finally:
            self._draining = False


def first_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error inside (nested) groups."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
