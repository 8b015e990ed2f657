"""Stopping a run politely: what is in flight comes home, nothing new leaves."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from gristmill.core.engine import Completion, Engine, EngineWrapper, Request

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Gate(EngineWrapper):
    """An engine with a gate in front. Once it is closed, a request for a completion is never answered.

    It stands between the session and the engine, so that requests which wait for a slot or for their
    next try are held too, while the answers of those in flight still reach the log.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.in_flight = 0
        self.closed = False
        self._idle = asyncio.Event()

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """What the engine answers; never returns once the gate is closed."""
        if self.closed:
            await asyncio.get_running_loop().create_future()
        self.in_flight += 1
        try:
            return await self._engine.generate(request, first=first, n=n)
        finally:
            self.in_flight -= 1
            if self.closed and not self.in_flight:
                self._idle.set()

    async def close(self) -> None:
        """Let no request through any more, and wait until those in flight have ended."""
        self.closed = True
        if self.in_flight:
            await self._idle.wait()


async def close_all(gates: Iterable[Gate]) -> None:
    """Close every gate at once, and wait until what is in flight behind all of them has ended."""
    await asyncio.gather(*(gate.close() for gate in gates))


class Stopper:
    """What the signals do to the task that made it: the first closes the gates and then cancels the task,
    the second does so ``at_once`` (default: cancels the task without waiting)."""

    def __init__(
        self, gates: Sequence[Gate], say: Callable[[str], None], at_once: Callable[[], None] | None
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.stopping = False
        self._task = task
        self._gates = gates
        self._say = say
        self._at_once = at_once or self._cancel
        self._closing: asyncio.Task[None] | None = None

    def interrupt(self) -> None:
        """A signal has come."""
        if not self.stopping:
            self.stopping = True
            in_flight = sum(gate.in_flight for gate in self._gates)
            self._say(
                f"stopping: {in_flight} requests in flight are waited for and logged; "
                "Ctrl-C again stops at once."
            )
            self._closing = asyncio.create_task(self._close())
        else:
            self._at_once()

    async def _close(self) -> None:
        await close_all(self._gates)
        self._cancel()

    def _cancel(self) -> None:
        self._task.cancel()


@contextmanager
def on_interrupt(handle: Callable[[], None]) -> Iterator[None]:
    """Call ``handle`` in the running loop at every Ctrl-C and SIGTERM.

    Only the main thread may set signal handlers; in another one nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    former = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, former[number])
