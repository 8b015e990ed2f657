"""How many requests and tokens may be sent in a time: what the recipe says, and what the server says.

No library is used for this: aiolimiter (MIT) and pyrate-limiter (MIT) keep to a rate that is known
beforehand, but cannot be told by the server to wait, learn a rate from what it refuses, or correct an
estimate of tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from time import monotonic
from types import TracebackType
from typing import Self

from msgspec import Struct

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import RunStopped, TransientError
from gristmill.engines.options import EngineOptions

CUT, DEEP_CUT, EARLY = 0.85, 0.7, 20
"""A refusal multiplies the learned rate by the first; where fewer than the third's answers came since the
last cut, the rate is what these were in that time, and at most the second of what it was."""
LEAST_GROWTH, FIRST_GROWTH, MOST_GROWTH, LATE = 0.0005, 0.004, 0.02, 100
"""Each answer raises the learned rate by a share, which each cut halves and each ``LATE`` answers without a
refusal double: near the limit it is approached slowly, and one that has moved is found fast."""
_FEW_REFUSALS = 1 / 8
_RECENT, _LONG, _MANY_OF_LONG = 1 / 48, 1 / 1000, 0.07
"""What one request changes of the recent share of refusals and of the long one, and what is much of that."""
_FIRST_HOLD, _LONGEST_HOLD = 1.0, 30.0
_ALONE_SECONDS = 0.25
_RAMP_SCALE, _RAMP_DOUBLES, _RAMP_SECONDS = 14.4, 0.02, 0.12
_TICK = 0.001
_CHARS = 4
"""Characters of a token, for the estimate."""
_SHARE = 0.05
"""What one answer changes of the mean length of answers."""


class Hint(Struct, frozen=True):
    """What a server says of one of its limits: how much of ``what`` is left, and in how many seconds it is
    whole again."""

    what: str
    """``requests`` or ``tokens``."""
    remaining: float
    reset: float


class _Bucket:
    """A token bucket: fills at ``rate`` a second up to ``capacity``, and may be overdrawn by what it
    gives."""

    def __init__(self, rate: float, capacity: float) -> None:
        self.rate = rate
        self.capacity = capacity
        self._level = capacity
        self._at = monotonic()

    def wait(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` (at most the capacity) is there."""
        self._level = min(self.capacity, self._level + (now - self._at) * self.rate)
        self._at = now
        return (min(amount, self.capacity) - self._level) / self.rate

    def take(self, amount: float) -> None:
        """Take ``amount``, or give a negative one back."""
        self._level -= amount


class Pace:
    """When the next request to a server may be sent; first come, first served.

    * ``requests_per_minute`` and ``tokens_per_minute`` are kept to by token buckets that hold one second's
      worth. A request's tokens are estimated when it is sent, and corrected by its answer.
    * A server that says how much is left (``told``) gets no more than that before its limit is whole again.
    * A refusal for the pace (``refused``) holds everything for as long as the server says, and from then on a
      rate is learned: what was accepted until then, cut by each further refusal and raised by each answer. If
      cuts to a third of the rate leave few refusals as few as they were, the rate is not their cause: the cap
      is lifted, and single refusals are not listened to for a while.
    * A few refusals among many answers, without a time to wait, set no rate: servers under load refuse some
      at random. Only their share says that there is a limit: an eighth of the last dozens of requests, or
      7 % of a thousand.
    * The first request of all goes alone, until it has ended or a quarter of a second has passed, and those
      after it at a rate that doubles every 20 ms, for an eighth of a second at most: so a wrong key costs one
      request, and a limit is known before hundreds of requests have met it.
    """

    def __init__(
        self,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        ramp: bool = True,
    ) -> None:
        self._ramp = ramp
        self._met: float | None = None  # when the first request had ended
        self._mean_tokens = 0.0  # of a completion
        self._requests = _bucket(requests_per_minute)
        self._tokens = _bucket(tokens_per_minute)
        self._learned: _Bucket | None = None
        self._hold_until = 0.0
        self._left: dict[str, tuple[float, float]] = {}  # what: (left of it, until when that is so)
        self._in_flight = {"requests": 0.0, "tokens": 0.0}
        self._began: float | None = None
        self._sent = 0
        self._cut_at = 0.0
        self._cut_from = 0.0
        self._cutting = False  # a refusal has come, and the rate that follows is not yet known
        self._answers = 0  # since the last cut
        self._recent = self._long = 0.0  # the shares of refusals
        self._free = False  # whether nothing that is known can hold a request
        self._accepted = 0  # sent since the last cut and not refused
        self._misses = 0  # cuts without an answer between them
        self._anchor = 0.0  # the rate from which the present cuts began
        self._of_anchor = [0, 0]  # answers and cuts since then
        self._deaf = 0  # answers during which refusals set no rate
        self._deaf_for = 1000
        self._growth = FIRST_GROWTH
        self._lifted = False
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def held(self) -> float:
        """Seconds for which nothing may be sent."""
        return max(0.0, self._hold_until - monotonic())

    @classmethod
    def of(cls, options: EngineOptions) -> Pace:
        """The pace that options ask for; none at all where the engine paces itself."""
        if options.self_paced:
            return cls(ramp=False)
        return cls(
            requests_per_minute=options.requests_per_minute,
            tokens_per_minute=options.tokens_per_minute,
            ramp=False,
        )

    def sending(self, request: Request, n: int) -> Sending:
        """``async with``: waits for the turn of a request for ``n`` completions, and learns how it ends."""
        estimate = 0.0
        if self._tokens is not None or "tokens" in self._left:
            length = self._mean_tokens or request.sampling.max_tokens
            estimate = sum(len(m.content) for m in request.messages) / _CHARS + n * length
        return Sending(self, estimate)

    async def turn(self, tokens: float) -> float:
        """Return when a request of about ``tokens`` may be sent: the time of its sending, for ``refused``.

        Every turn is ended by ``answered``, ``refused`` or ``failed``.
        """
        if not self._free:
            await self._wait(tokens)
        self._sent += 1
        self._accepted += 1
        if self._tokens is not None:
            self._tokens.take(tokens)
        if self._requests is not None:
            self._requests.take(1)
        if self._learned is not None:
            self._learned.take(1)
        self._fly(1, tokens)
        return monotonic()

    async def _wait(self, tokens: float) -> None:
        """Wait for the turn of a request, and look whether the next ones need to."""
        if self._began is None:
            self._began = monotonic()
        if self._turn.locked() or self._delay(tokens) > 0:
            async with self._turn:
                while (delay := self._delay(tokens)) > 0:
                    self._changed.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(max(delay, _TICK)):
                            await self._changed.wait()
        self._free = self._limits_nothing()

    def _limits_nothing(self) -> bool:
        known = (self._requests, self._tokens, self._learned)
        return known == (None, None, None) and not (self._left or self._cutting or self._ramp or self.held)

    def answered(self, estimate: float, answers: Sequence[Completion]) -> None:
        """A request was answered, which took tokens (0 if unknown) where ``estimate`` was thought."""
        self._fly(-1, -estimate)
        if self._tokens is not None and answers:
            made = sum(a.completion_tokens for a in answers)
            share = _SHARE if self._mean_tokens else 1.0
            self._mean_tokens += (made / len(answers) - self._mean_tokens) * share
            if made:
                self._tokens.take(made + sum(a.prompt_tokens for a in answers) - estimate)
        self._answers += 1
        self._recent *= 1 - _RECENT
        self._long *= 1 - _LONG
        self._misses = 0
        if self._deaf:
            self._deaf -= 1
        if self._learned is not None:
            self._of_anchor[0] += 1
            if self._answers % LATE == 0:
                self._growth = min(MOST_GROWTH, 2 * self._growth)
            self._learned.rate *= 1 + self._growth

    def failed(self, estimate: float) -> None:
        """A request got no answer, for another reason than the pace."""
        self._fly(-1, -estimate)
        self._accepted -= 1

    def refused(self, estimate: float, sent: float, wait: float | None) -> None:
        """A request that was sent at ``sent`` was refused for the pace; the server asks for a ``wait`` (in
        seconds), if it says so."""
        self._fly(-1, -estimate)
        self._accepted -= 1
        now = monotonic()
        self._recent += (1 - self._recent) * _RECENT
        self._long += (1 - self._long) * _LONG
        if wait is not None:
            self.hold(wait)
        elif self._learned is None and self._recent < _FEW_REFUSALS and self._long < _MANY_OF_LONG:
            return
        if sent <= self._cut_at or self._deaf:  # one cut for all that were in flight together
            return
        self._free = False
        self._growth = max(LEAST_GROWTH, self._growth / 2)
        if wait is None:
            first = _FIRST_HOLD / (2 if self._answers >= EARLY else 1)
            self.hold(min(_LONGEST_HOLD, first * 2.0**self._misses))
        self._cut_from, self._cut_at, self._cutting = self._cut_at or self._began or now, now, True
        self._misses += 1

    def _cut(self, now: float) -> None:
        """Set the rate after a refusal, at the end of the hold: by then it is known what was accepted."""
        self._cutting = False
        accepted, answers = self._accepted, self._answers
        self._accepted = self._answers = 0
        measured = max(accepted, 0.5) / max(1.0, now - self._cut_from)
        if self._learned is None:
            self._anchor, self._of_anchor, self._growth = measured, [0, 0], FIRST_GROWTH
            self._learned = _Bucket(measured * CUT, 1.0)
        elif accepted:  # else the hold was too short, and the rate has not been tried
            rate = self._learned.rate
            self._learned.rate = min(measured, rate * (CUT if answers >= EARLY else DEEP_CUT))
            self._of_anchor[1] += 1
            if rate < self._anchor / 3 and self._of_anchor[1] <= _FEW_REFUSALS * self._of_anchor[0]:
                self._learned, self._deaf = None, self._deaf_for
                self._deaf_for *= 4

    def hold(self, seconds: float) -> None:
        """Send nothing for so long."""
        self._hold_until = max(self._hold_until, monotonic() + seconds)
        self._free = False

    def told(self, hint: Hint) -> None:
        """The server says what is left of a limit. What is in flight is taken off, counted there or not."""
        left = hint.remaining - self._in_flight[hint.what] if hint.remaining else 0.0
        self._left[hint.what] = left, monotonic() + hint.reset
        self._free = False
        self._changed.set()

    def lift(self) -> None:
        """Let everybody through: from now on the caller turns every request away itself."""
        self._lifted = True
        self._changed.set()

    def _delay(self, tokens: float) -> float:
        """Seconds until a request may be sent, as far as is known now."""
        if self._lifted:
            return 0.0
        now = monotonic()
        delay = self._hold_until - now
        if self._cutting and delay <= 0:
            self._cut(now)
        if self._requests is not None:
            delay = max(delay, self._requests.wait(1, now))
        if self._learned is not None:
            delay = max(delay, self._learned.wait(1, now))
        if self._tokens is not None:
            delay = max(delay, self._tokens.wait(tokens, now))
        for what, (left, until) in self._left.items():
            if now >= until:
                continue
            # A request larger than all that is ever left goes alone: it is the server's to refuse.
            if left <= 0 or (left < (tokens if what == "tokens" else 1) and self._in_flight["requests"]):
                delay = max(delay, until - now)
        return max(delay, self._start(now)) if self._ramp else delay

    def _start(self, now: float) -> float:
        """Seconds that a request waits because others have only just been sent for the first time."""
        if self._began is None or not self._sent:
            return 0.0
        if self._met is None:
            alone = self._began + _ALONE_SECONDS - now
            if alone > 0:
                return alone
            self._met = now
        ramp = now - self._met
        if ramp >= _RAMP_SECONDS:
            self._ramp = False
        return _TICK if self._sent > 1 + _RAMP_SCALE * (2 ** (ramp / _RAMP_DOUBLES) - 1) else 0.0

    def _fly(self, requests: float, tokens: float) -> None:
        if self._met is None and requests < 0:
            self._met = monotonic()
            self._changed.set()
        self._in_flight["requests"] += requests
        self._in_flight["tokens"] += tokens
        if requests > 0 and self._left:
            amounts = {"requests": requests, "tokens": tokens}
            for what, (left, until) in self._left.items():
                self._left[what] = left - amounts[what], until


class Sending:
    """A request on its way; ``answers`` is set by who sends it. What is raised inside shows how it ended."""

    __slots__ = ("_at", "_estimate", "_pace", "answers")

    def __init__(self, pace: Pace, estimate: float) -> None:
        self._pace = pace
        self._estimate = estimate
        self.answers: Sequence[Completion] = ()

    async def __aenter__(self) -> Self:
        self._at = await self._pace.turn(self._estimate)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._pace.answered(self._estimate, self.answers)
        elif isinstance(error, TransientError) and error.cause == "limited":
            self._pace.refused(self._estimate, self._at, error.retry_after)
        else:
            self._pace.failed(self._estimate)


def _bucket(per_minute: float | None) -> _Bucket | None:
    return None if per_minute is None else _Bucket(per_minute / 60, max(1.0, per_minute / 60))


def until(failure: TransientError) -> RunStopped:
    """Why the run stops for a server that asks for a long wait, with the time of day when it is over."""
    wait = timedelta(seconds=round(failure.retry_after or 0.0))
    now = datetime.now().astimezone()
    over = f"{now + wait:%H:%M}"
    if (now + wait).date() != now.date():
        over += f" on {now + wait:%A %d %B}"
    return RunStopped(
        f"{failure.message}; the server asks for a wait of {wait} (hours:minutes:seconds), until {over}.",
        remedy=f"Run the same command again after {over}: every completion paid for so far is in the log.",
    )
