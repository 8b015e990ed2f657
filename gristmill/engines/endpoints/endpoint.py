"""One of several servers of a model: whether it may be sent requests, and how many; see ``endpoints``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter
from typing import Annotated, Literal

import aiohttp
from msgspec import Meta, Struct

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import TransientError
from gristmill.core.secrets import refuse_secrets
from gristmill.engines.limit import AdaptiveLimit
from gristmill.engines.openai.engine import OpenAIEngine

State = Literal["open", "trial", "closed"]
Health = Literal["well", "ill", "silent"]

FAILURES = 3
"""This many failures in a row close an endpoint. A server that fails 5 % of its requests at random is
closed once in 8,000 requests, for a second."""
MISSES = 2
"""After this many health checks in a row without any answer, the requests in flight there are given up."""
REST_SECONDS = 1.0
"""How long an endpoint rests after it was closed; doubled after each trial that fails."""

_log = logging.getLogger(__name__)


class Endpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One server of the model."""

    base_url: Annotated[
        str, Meta(pattern="^https?://", description="a URL that begins with http:// or https://")
    ]
    """The server's base URL, as for ``kind: openai``."""
    weight: Annotated[float, Meta(gt=0)] = 1.0
    """Its share of the requests, relative to the weights of the others."""
    concurrency: Annotated[int, Meta(ge=1)] | None = None
    """The largest number of requests in flight there; ``null`` for its share, by weight, of the engine's
    ``concurrency``."""
    health_url: (
        Annotated[str, Meta(pattern="^https?://", description="a URL that begins with http:// or https://")]
        | None
    ) = None
    """The URL whose GET shows whether the server works; ``null`` for ``BASE_URL/models``. vLLM's
    ``http://HOST:PORT/health`` shows more."""
    api_key_env: str | tuple[str, ...] | None = None
    """The environment variable or variables that hold its API keys; ``null`` for the engine's."""

    def __post_init__(self) -> None:
        refuse_secrets({f: getattr(self, f) for f in ("base_url", "health_url", "api_key_env")})


class EndpointStats(Struct, frozen=True):
    """How many requests an endpoint answered and failed, and its present state."""

    base_url: str
    state: State
    draining: bool
    answered: int
    failed: int
    in_flight: int
    limit: int


class Member:
    """An endpoint of a running engine.

    ``open``: it gets as many requests as its adaptive limit allows. ``closed``: it gets none until it has
    rested and a health check succeeds. Then ``trial``: one request at a time, and the first success opens
    it. ``changed`` is called when its free room may have changed.
    """

    def __init__(
        self,
        options: Endpoint,
        engine: OpenAIEngine,
        limit: AdaptiveLimit,
        *,
        longest_rest: float,
        changed: Callable[[], None],
    ) -> None:
        self.url = options.base_url.rstrip("/")
        self.weight = options.weight
        self.engine = engine
        self.limit = limit
        self.pace = engine.pace
        self.state: State = "open"
        self.draining = False
        self.promised = 0  # slots that were given to requests which have not taken them yet
        self.finish = 0.0  # the virtual time at which its last request ends (``endpoints``)
        self.answered = self.failed = 0
        self._health_url = options.health_url or f"{self.url}/models"
        self._longest_rest = longest_rest
        self._changed = changed
        self._streak = self._rests = self._misses = 0
        self._lifelines: set[asyncio.Timeout] = set()
        self._closed = asyncio.Event()

    @property
    def usable(self) -> bool:
        """Whether requests may be sent to it, now or once it has room."""
        return self.state != "closed" and not self.draining

    @property
    def room(self) -> bool:
        """Whether one more request may be sent to it now."""
        taken = self.limit.in_flight + self.promised
        free = taken < (1 if self.state == "trial" else self.limit.limit)
        return self.usable and free and not self.pace.held

    @property
    def stats(self) -> EndpointStats:
        """The present values of the counters."""
        in_flight, limit = self.limit.in_flight, self.limit.limit
        return EndpointStats(
            self.url, self.state, self.draining, self.answered, self.failed, in_flight, limit
        )

    async def ask(self, request: Request, first: int, n: int) -> list[Completion]:
        """One try. The caller has made sure that there is room, so nothing waits here for a slot."""
        ticket = await self.limit.acquire()
        seconds, tokens, prompt_tokens, congested = 0.0, 0, 0, False
        started = perf_counter()
        lifeline = asyncio.timeout(None)  # ``_abandon`` sets it to end at once if the server stays silent
        try:
            async with self.pace.sending(request, n) as sent, lifeline:
                self._lifelines.add(lifeline)
                started = perf_counter()
                answers = await self.engine.generate(request, first=first, n=n)
                if len(answers) != n:
                    raise TransientError(f"{self.url} returned {len(answers)} of {n} completions")
                sent.answers = answers
            seconds = perf_counter() - started
            tokens, prompt_tokens = max(a.completion_tokens for a in answers), answers[0].prompt_tokens
        except TimeoutError as error:
            raise TransientError(f"{self.url} answers neither a request nor the health checks") from error
        except TransientError as error:
            congested = error.congested
            if self.pace.held:
                asyncio.get_running_loop().call_later(self.pace.held, self._changed)
            raise
        finally:
            self._lifelines.discard(lifeline)
            self.limit.release(
                ticket, seconds=seconds, tokens=tokens, prompt_tokens=prompt_tokens, congested=congested
            )
        return answers

    def succeeded(self) -> None:
        """A request was answered."""
        self.answered += 1
        self._streak = self._rests = 0
        if self.state == "trial":
            self.state = "open"
            _log.info("%s answers again.", self.url)

    def failed_with(self, error: Exception, *, congested: bool = False) -> None:
        """A request failed. An answer that asks to slow down only lowers the limit."""
        self.failed += 1
        if congested:
            return
        self._streak += 1
        if self.state == "trial" or (self.state == "open" and self._streak >= FAILURES):
            self._close(str(error))

    def _close(self, why: str) -> None:
        if self.state == "open":
            _log.warning("%s gets no more requests until it works again: %s", self.url, why)
        self.state = "closed"
        self._rests += 1
        self._streak = 0
        self._closed.set()
        self._changed()

    async def watch(self, web: aiohttp.ClientSession, interval: float, seconds: float) -> None:
        """Check its health until cancelled: every ``interval`` seconds, and after each rest.

        A health check of an open endpoint that gets no answer is repeated after a second, since one may get
        lost by accident.
        """
        while True:
            rested = self.state == "closed"
            if rested:
                self._closed.clear()
                # The rest is capped before the power, which would overflow after a night of failures.
                await asyncio.sleep(min(self._longest_rest, REST_SECONDS * 2 ** min(self._rests - 1, 30)))
            elif await self._closes_within(REST_SECONDS if self._misses else interval):
                continue
            self._judge(rested, *await self._health(web, seconds))

    async def _closes_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return False
        self._closed.clear()
        return True

    def _judge(self, rested: bool, health: Health, why: str) -> None:
        """Act on a health check. ``rested``: the endpoint was closed when the check began. If a request
        closed it during the check, it rests first."""
        self._misses = self._misses + 1 if health == "silent" else 0
        if self._misses >= MISSES:
            self._abandon()
        if health == "well":
            if rested:
                self.state = "trial"
                self._changed()
        elif self.state != "closed" and (health == "ill" or self._misses >= MISSES):
            # An endpoint that is closed already is not closed again: its rest must not get longer for that.
            self._close(why)

    async def _health(self, web: aiohttp.ClientSession, seconds: float) -> tuple[Health, str]:
        """Ask the health URL. Any status below 500 counts: not every server has this page, or shows it to
        requests without a key."""
        try:
            timeout = aiohttp.ClientTimeout(total=seconds)
            async with web.get(self._health_url, timeout=timeout, allow_redirects=False) as answer:
                if answer.status < 500:
                    return "well", ""
                return "ill", f"HTTP {answer.status} from {self._health_url}"
        except TimeoutError:
            return "silent", f"{self._health_url} did not answer within {seconds:g} s"
        except (aiohttp.ClientError, OSError) as error:
            return "silent", f"{self._health_url}: {str(error) or type(error).__name__}"

    def _abandon(self) -> None:
        """Give up the requests in flight, so that their callers try other endpoints."""
        now = asyncio.get_running_loop().time()
        for lifeline in self._lifelines:
            lifeline.reschedule(now)
        self._lifelines.clear()
