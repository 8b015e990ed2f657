"""Stopping a run politely: what is in flight comes home, nothing new leaves."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from gristmill.core.engine import Completion, Engine, EngineWrapper, LastingEngine, Request
from gristmill.core.errors import RunStopped
from gristmill.core.money import Price
from gristmill.pipelines.running.purse import Purse

SIGNALS = (signal.SIGINT, signal.SIGTERM)
HURRY = 0.3
"""Seconds that requests in flight have to end when a notebook's cell is interrupted."""


class Gate(EngineWrapper):
    """An engine with a gate in front. Once it is closed, a request for a completion is never answered.

    It stands between the session and the engine, so that requests which wait for a slot or for their
    next try are held too, while the answers of those in flight still reach the log. What each try costs at
    ``price`` is counted in ``purse``, which may hold it back.
    """

    def __init__(self, engine: Engine, purse: Purse | None = None, price: Price | None = None) -> None:
        super().__init__(engine)
        self.in_flight = 0
        self._purse = purse or Purse()
        self.price = price
        self.closed = False
        self._idle = asyncio.Event()

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """What the engine answers; never returns once the gate is closed."""
        await self._pass()
        if self.price is None and self._purse.budget is None:  # there is nothing to count
            return await self._through(request, first, n)
        hold = await self._purse.hold(self.price, request, n)
        answers: list[Completion] | None = None
        try:
            await self._pass()
            answers = await self._through(request, first, n)
            return answers
        finally:
            self._purse.settle(hold, answers)

    async def _through(self, request: Request, first: int, n: int) -> list[Completion]:
        self.in_flight += 1
        try:
            return await self._engine.generate(request, first=first, n=n)
        finally:
            self.in_flight -= 1
            if self.closed and not self.in_flight:
                self._idle.set()

    async def _pass(self) -> None:
        """Return at once; once the gate is closed, never."""
        if self.closed:
            await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        """Let no request through any more, and wait until those in flight have ended."""
        self.closed = True
        if self.awaited:
            await self._idle.wait()

    @property
    def awaited(self) -> int:
        """The requests in flight that are lost with the process, and are waited for."""
        return 0 if isinstance(self._engine, LastingEngine) else self.in_flight


async def close_all(gates: Iterable[Gate]) -> None:
    """Close every gate at once, and wait until what is in flight behind all of them has ended."""
    await asyncio.gather(*(gate.close() for gate in gates))


class Stopper:
    """Ends the task that made it, politely: the gates are closed, and the task is cancelled once what is in
    flight has come home.

    The first signal does so, the second ``at_once`` (default: cancels the task without waiting). In a thread
    of its own, beside a notebook's loop, the first waits ``HURRY`` seconds at most: a cell that is
    interrupted has to end.
    """

    def __init__(
        self, gates: Sequence[Gate], say: Callable[[str], None], at_once: Callable[[], None] | None
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.stopping = False
        self.reason: RunStopped | None = None
        """Why the run ended itself; ``None`` where a signal ended it."""
        self._task = task
        self._gates = gates
        self._say = say
        self._at_once = at_once or self._cancel
        self._closing: asyncio.Task[None] | None = None
        self._cancelled = False
        self._patience = None if threading.current_thread() is threading.main_thread() else HURRY

    def interrupt(self) -> None:
        """A signal has come."""
        if self.stopping:
            self._at_once()
            return
        in_flight = sum(gate.awaited for gate in self._gates)
        if self._patience is None:
            self._say(
                f"stopping: {in_flight} requests in flight are waited for and logged; "
                "Ctrl-C again stops at once."
            )
        else:
            self._say(f"stopping: {in_flight} requests in flight have {self._patience:g} s to end.")
        self._begin(self._patience)

    def stop(self, reason: RunStopped) -> None:
        """The run ends itself: what is in flight comes home, and ``reason`` is raised in the end."""
        if not self.stopping:
            self.reason = reason
            self._begin(None)

    def _begin(self, patience: float | None) -> None:
        self.stopping = True
        self._closing = asyncio.create_task(self._close(patience))

    async def _close(self, patience: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await close_all(self._gates)
        self._cancel()

    def _cancel(self) -> None:
        if not self._cancelled:  # a second time would cut off what the task does on its way out
            self._cancelled = True
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
