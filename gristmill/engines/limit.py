"""How many requests may be in flight: additive increase, multiplicative decrease."""

from __future__ import annotations

import asyncio
from collections import deque

CONGESTED_SHARE = 8
"""The limit is halved when more than one in this many answers of a window were refused for overload."""
SLOW_RATIO = 2.5
SLOW_SECONDS = 1.0
"""Latency is rising when a window's mean is above the smallest recent one by both of these."""
MIN_SAMPLE = 16
"""Latency is judged over a window of answers, but over no fewer than this many."""
RECENT_WINDOWS = 16


class AdaptiveLimit:
    """A semaphore whose size follows what the server can take; first come, first served.

    A window is as many answers as the limit. After a full window without a sign of congestion the
    limit grows by one, up to ``most``. It is halved, down to 1,

    * when more than an eighth of a window's answers were overload refusals or time-outs. Under limit 8
      the first one suffices. A rarer refusal only withholds the increase: halving for each would let a
      server that refuses 5 % at random hold the limit near ``sqrt(2 / 0.05)``, about 6, for ever (the
      response function of AIMD, RFC 5348 section 3.1);
    * when latency rises: the mean over a window at full use is 2.5 times (and a second) above the
      smallest of the last 16 windows, and so is the time per completion token and per token of prompt
      and completion where these are known, so that longer answers or prompts alone are no sign of a
      queue. The new level then becomes the reference: if fewer requests did not help, our queue was not
      the cause.

    Signs from requests sent before a cut do not cut again (one cut per round trip, as in TCP).
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
        """Wait for a slot. The ticket returned goes back with ``release``."""
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
        """Give the slot back, with what was learnt.

        ``seconds`` is the latency of an answer (0 where there was none) and ``tokens`` its longest
        completion (0: unknown, as for ``prompt_tokens``).
        """
        self.in_flight -= 1
        if ticket >= self._epoch:
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
        """Let everyone in, for good: who comes is going to be turned away behind this."""
        self._open = True
        self._wake()

    def _wake(self) -> None:
        while self._waiters and (self._open or self.in_flight < self.limit):
            slot = self._waiters.popleft()
            if not slot.done():
                self.in_flight += 1
                slot.set_result(None)

    def _answered(self) -> None:
        self._answers += 1
        if self._answers < self.limit:
            return
        if self._full and not self._congested and self.limit < self.most:
            self.limit += 1
        self._answers = self._congested = 0
        self._full = self.in_flight >= self.limit

    def _rising(self) -> bool:
        seconds, tokens, all_tokens = self._seconds, self._tokens, self._tokens + self._prompt_tokens
        level = (
            seconds / self._sampled,
            seconds / tokens if tokens else 0.0,
            seconds / all_tokens if all_tokens else 0.0,
        )
        self._sampled = self._tokens = self._prompt_tokens = 0
        self._seconds = 0.0
        if not self._full:  # a half-empty window says nothing about a queue
            return False
        least = [min(past) for past in zip(*self._recent, strict=True)] or level
        known = [now / before for now, before in zip(level, least, strict=True) if now and before]
        rising = bool(level[0] - least[0] > SLOW_SECONDS and min(known) > SLOW_RATIO)
        if rising:
            self._recent.clear()
        self._recent.append(level)
        return rising

    def _cut(self) -> None:
        self.limit = max(1, self.limit // 2)
        self._epoch = self._sent
        self._answers = self._congested = 0
        self._sampled = self._tokens = self._prompt_tokens = 0
        self._seconds = 0.0
        self._full = False
