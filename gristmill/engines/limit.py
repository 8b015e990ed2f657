"""How many requests may be in flight: additive increase, multiplicative decrease.

No library is used for this: semaphores and rate limiters (``asyncio.Semaphore``, aiolimiter) have a fixed
size, and the adaptive ones that exist need a latency target that a language model's server does not have,
since its latency grows with the length of the answer.
"""

from __future__ import annotations

import asyncio
from collections import deque

CONGESTED_SHARE = 8
"""The limit is halved when more than one in this many answers of a window were refused for overload."""
SLOW_RATIO = 2.5
"""Latency counts as rising when a window's mean is this many times the smallest recent mean ..."""
SLOW_SECONDS = 1.0
"""... and this many seconds above it."""
MIN_SAMPLE = 16
"""Latency is judged over a window of answers, but never over fewer than this many."""
RECENT_WINDOWS = 16
"""A window's latency is compared with the smallest of this many windows before it."""


class AdaptiveLimit:
    """A semaphore whose size adapts to what the server can handle; first come, first served.

    A window is as many answers as the limit. After a window without a sign of congestion in which the limit
    was reached, the limit grows by one, up to ``most``. It is halved, down to 1,

    * when more than an eighth of a window's answers were refusals for overload or time-outs. Below a limit
      of 8 the first one is enough. Fewer refusals only prevent the increase: halving for each of them would
      let a server that refuses 5 % at random keep the limit near ``sqrt(2 / 0.05)``, about 6, forever
      (the response function of AIMD, RFC 5348 section 3.1);
    * when latency rises: the mean over a window at full use is 2.5 times (and a second) above the smallest
      of the last 16 windows, and so are the time per completion token and the time per token of prompt and
      completion, where these are known, so that longer answers or prompts alone do not look like a queue.
      The new level then becomes the reference: if fewer requests did not help, our own queue was not the
      cause.

    Signs of congestion from requests that were sent before a cut do not cut again (one cut per round trip,
    as in TCP).
    """

    __slots__ = (
        "_answers",
        "_congested",
        "_epoch",
        "_full",
        "_open",
        "_prompt_tokens",
        "_recent",
        "_sampled",
        "_seconds",
        "_sent",
        "_tokens",
        "_waiters",
        "in_flight",
        "limit",
        "most",
    )

    def __init__(self, most: int, start: int | None = None) -> None:
        self.most = most
        self.limit = min(start or most, most)
        self.in_flight = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._open = False
        self._sent = 0
        self._epoch = 0  # the first request sent since the last cut
        self._answers = self._congested = 0
        self._full = False  # whether the limit was reached in this window
        self._sampled = self._tokens = self._prompt_tokens = 0
        self._seconds = 0.0
        self._recent: deque[tuple[float, float, float]] = deque(maxlen=RECENT_WINDOWS)

    async def acquire(self) -> int:
        """Wait for a slot. Returns a ticket, which ``release`` takes back."""
        # Nobody overtakes those that wait already, even if a slot is free at this moment.
        if self._open or (self.in_flight < self.limit and not self._waiters):
            self.in_flight += 1
        else:
            await self._queue()
        if self.in_flight >= self.limit:
            self._full = True
        ticket = self._sent
        self._sent = ticket + 1
        return ticket

    async def _queue(self) -> None:
        slot = asyncio.get_running_loop().create_future()
        self._waiters.append(slot)
        try:
            await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled():
                self.in_flight -= 1  # the slot was handed over just before the cancellation
                self._wake()
            raise

    def release(
        self,
        ticket: int,
        *,
        seconds: float = 0.0,
        tokens: int = 0,
        prompt_tokens: int = 0,
        congested: bool = False,
    ) -> None:
        """Give the slot back, with what the request showed.

        ``seconds`` is the latency of an answer (0 if there was none), ``tokens`` the length of its longest
        completion and ``prompt_tokens`` that of its prompt (0 if unknown). ``congested`` says that the
        server refused for overload.
        """
        self.in_flight -= 1
        if ticket >= self._epoch:  # what was sent before the last cut says nothing about the new limit
            if congested:
                self._congested += 1
                if self._congested * CONGESTED_SHARE > self.limit:
                    self._cut()
                else:
                    self._answered()
            elif seconds:
                self._sampled += 1
                self._seconds += seconds
                self._tokens += tokens
                self._prompt_tokens += prompt_tokens
                if self._sampled >= MIN_SAMPLE and self._sampled >= self.limit and self._rising():
                    self._cut()
                else:
                    self._answered()
        self._wake()

    def lift(self) -> None:
        """Stop limiting: from now on the caller turns every request away itself."""
        self._open = True
        self._wake()

    def _wake(self) -> None:
        """Hand free slots to those that wait. The slot is counted here, so that nobody can take it first."""
        while self._waiters and (self._open or self.in_flight < self.limit):
            slot = self._waiters.popleft()
            if not slot.done():  # one that was cancelled meanwhile gets none
                self.in_flight += 1
                slot.set_result(None)

    def _answered(self) -> None:
        """Count an answer; at the end of a window increase the limit by one if nothing speaks against it."""
        self._answers += 1
        if self._answers < self.limit:
            return
        # A limit that was never reached has not been tested, so it does not grow.
        if self._full and not self._congested and self.limit < self.most:
            self.limit += 1
        self._answers = self._congested = 0
        self._full = self.in_flight >= self.limit

    def _rising(self) -> bool:
        """End a window of latencies: whether they rose against the windows before it."""
        seconds, tokens, all_tokens = self._seconds, self._tokens, self._tokens + self._prompt_tokens
        level = (
            seconds / self._sampled,
            seconds / tokens if tokens else 0.0,
            seconds / all_tokens if all_tokens else 0.0,
        )
        self._sampled = self._tokens = self._prompt_tokens = 0
        self._seconds = 0.0
        if not self._full:  # a half-empty window cannot show a queue
            return False
        # The smallest of each measure on its own: the best that this server has shown recently.
        least = [min(past) for past in zip(*self._recent, strict=True)] or level
        known = [now / before for now, before in zip(level, least, strict=True) if now and before]
        rising = bool(level[0] - least[0] > SLOW_SECONDS and min(known) > SLOW_RATIO)
        if rising:  # the new level becomes the reference
            self._recent.clear()
        self._recent.append(level)
        return rising

    def _cut(self) -> None:
        """Halve the limit and begin all windows anew."""
        self.limit = max(1, self.limit // 2)
        self._epoch = self._sent
        self._answers = self._congested = 0
        self._sampled = self._tokens = self._prompt_tokens = 0
        self._seconds = 0.0
        self._full = False
