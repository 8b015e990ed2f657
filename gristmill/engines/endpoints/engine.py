"""One model on several OpenAI-compatible servers: ``engine: {kind: endpoints, endpoints: [...]}``.

A load balancer such as nginx or LiteLLM's proxy would do the same as a further service. Here the
client itself chooses, since only it knows which request failed where, and a try must never be repeated
behind the session's back.
"""

from __future__ import annotations

import asyncio
import logging
import urllib.request
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, ClassVar, Self

import aiohttp
from msgspec import Meta

from gristmill.core.engine import Ability, Completion, Request
from gristmill.core.errors import (
    EngineError,
    RecipeError,
    RequestRefusedError,
    ServerRefusedError,
    TransientError,
)
from gristmill.engines.endpoints.endpoint import Endpoint, EndpointStats, Member
from gristmill.engines.limit import AdaptiveLimit
from gristmill.engines.openai.engine import OpenAI
from gristmill.engines.openai.options import ModelOptions
from gristmill.engines.pace import Pace
from gristmill.engines.served import Server, Servers, another_address

MOVES = 2
"""How many further endpoints one try may be sent to. A request that crashes its server must not crash all."""
_DRAIN_SECONDS = 1.0
"""Seconds between two readings of ``drain_file``."""

_log = logging.getLogger(__name__)


class Endpoints(ModelOptions, frozen=True, kw_only=True):
    """Several servers of one model.

    The servers must serve the same weights under the same name, since the log's key does not say which server
    answered. ``concurrency`` is divided by weight among the endpoints that do not set their own. A server can
    take itself out by answering its health check with a status of 500 or more.
    """

    pacing: ClassVar[frozenset[str]] = frozenset(
        {"endpoints", "drain_file", "health_interval", "health_timeout"}
    )

    endpoints: Annotated[tuple[Endpoint, ...], Meta(min_length=1)]
    """The servers; at least one."""
    drain_file: str | None = None
    """A file of base URLs, one a line. Within a second, a server in it gets no new requests, while those in
    flight there are finished; once its line is removed, the server is used again."""
    health_interval: Annotated[float, Meta(gt=0)] = 10.0
    """Seconds between two health checks of an endpoint."""
    health_timeout: Annotated[float, Meta(gt=0)] = 10.0
    """Seconds after which a health check fails. After two failed checks in a row, the requests in flight at
    that endpoint are given up and sent elsewhere."""

    @property
    def self_paced(self) -> bool:
        """Always: each endpoint has its own adaptive limit."""
        return True

    def open(self) -> EndpointsEngine:
        """The engine, not yet connected. ``RecipeError`` for a URL or key that cannot be used, or one
        URL twice."""
        urls = [e.base_url.rstrip("/") for e in self.endpoints]
        twice = next((url for url in urls if urls.count(url) > 1), None)
        if twice is not None:
            raise RecipeError(
                f"endpoints: {twice} is listed twice.", remedy="List it once, with a larger weight."
            )
        return EndpointsEngine(self)

    def server(self, endpoint: Endpoint, concurrency: int) -> OpenAI:
        """The options of one server as an engine of ``kind: openai``."""
        shared = {f: getattr(self, f) for f in OpenAI.__struct_fields__ if f in self.__struct_fields__}
        shared["concurrency"] = concurrency
        if endpoint.api_key_env is not None:
            shared["api_key_env"] = endpoint.api_key_env
        return OpenAI(base_url=endpoint.base_url, **shared)


class _Waiting:
    """A request for which there is no room now, and the endpoints that have already failed it."""

    __slots__ = ("slot", "tried")

    def __init__(self, tried: Sequence[Member]) -> None:
        self.slot: asyncio.Future[Member | None] = asyncio.get_running_loop().create_future()
        self.tried = tried


class EndpointsEngine:
    """One try of a request, at one endpoint or, if that fails, at up to ``MOVES`` others.

    *Choice.* Among the endpoints that have room, by start-time fair queueing (Goyal, Vin and Cheng 1996,
    section 2): a request at endpoint *e* starts at ``max(v, F_e)`` of virtual time and lasts
    ``1 / weight``; the earliest start is served, and ``v`` is set to it. So requests are spread by weight as
    long as all endpoints have room, the share of an endpoint at its limit goes to the others, and an endpoint
    that returns does not catch up on what it missed.

    *Pacing.* Each endpoint has its own ``AdaptiveLimit``. Requests without room wait here, first come, first
    served. The session does not pace them as well (``self_paced``): it would mistake this waiting for a
    slow server.

    *Failures.* After a ``TransientError`` the request is sent to another endpoint at once. The error
    reaches the session (which waits, and counts a try) only if no other endpoint is left, so the session's
    breaker sees a failure only if no endpoint could answer. A refused request is sent to a second
    endpoint: if that one answers, the first is at fault. An endpoint that refuses everybody (a wrong key,
    no money left) fails; the session hears of it only where all do. Without any usable endpoint a request
    waits ``max_backoff`` seconds."""

    def __init__(self, options: Endpoints) -> None:
        self._options = options
        self._waiting: deque[_Waiting] = deque()
        self._clock = 0.0
        self._web: aiohttp.ClientSession | None = None
        self._watches: list[asyncio.Task[None]] = []
        self._drained: set[str] = set()
        weights = sum(e.weight for e in options.endpoints)
        self.members: list[Member] = []
        for endpoint in options.endpoints:
            share = endpoint.weight / weights
            most = endpoint.concurrency or max(1, round(options.concurrency * share))
            start = options.initial_concurrency and max(1, round(options.initial_concurrency * share))
            self.members.append(
                Member(
                    endpoint,
                    options.server(endpoint, most).open(),
                    AdaptiveLimit(most, start),
                    longest_rest=options.max_backoff,
                    changed=self._dispatch_all,
                )
            )
        self.model = self.members[0].engine.model
        self.abilities = self.members[0].engine.abilities
        self.concurrency = sum(m.limit.most for m in self.members)
        self.pace = Pace.of(options)  # none: each endpoint has its own

    @property
    def server(self) -> Server:
        """What a session is told of the servers."""
        return self

    async def meet(self, servers: Servers) -> None:
        """As each endpoint; an address is only then a new one if none of them is known."""
        known = servers.of(self.model)
        urls = [m.url for m in self.members]
        if known and not set(urls) & set(known):
            _log.warning(another_address(self.model, sorted(known), ", ".join(urls)))
        for member in self.members:
            await member.engine.meet(servers, said=True)

    async def probe(self, needs: frozenset[Ability]) -> None:
        """Ask one endpoint, the first that answers, for what stages need."""
        for member in self.members:
            try:
                return await member.engine.probe(needs)
            except TransientError as error:
                failure = error
        raise failure

    @property
    def stats(self) -> list[EndpointStats]:
        """The counters of each endpoint, in the order of the options."""
        return [m.stats for m in self.members]

    async def __aenter__(self) -> Self:
        for member in self.members:
            await member.engine.__aenter__()
        self._web = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                force_close=True
            ),  # so that a check shows whether connections can be made
            trust_env=bool(urllib.request.getproxies()),
        )
        options = self._options
        self._watches = [
            asyncio.create_task(m.watch(self._web, options.health_interval, options.health_timeout))
            for m in self.members
        ]
        if options.drain_file is not None:
            path = Path(options.drain_file)
            self._drain(path)
            self._watches.append(asyncio.create_task(self._watch_drains(path)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._watches:
            task.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        if self._web is not None:
            await self._web.close()
        for member in self.members:
            await member.engine.__aexit__(kind, error, trace)
            _log.info("%s: %d answered, %d failed.", member.url, member.answered, member.failed)

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """Completions ``first .. first + n - 1`` of ``request``, by one request to one endpoint."""
        tried: list[Member] = []
        failure: EngineError | None = None
        refused: tuple[Member, RequestRefusedError] | None = None
        while True:
            member = await self._slot(tried)
            if member is None:  # every usable endpoint was tried, at least one
                assert failure is not None
                raise failure if refused is None else refused[1]
            tried.append(member)
            try:
                answers = await member.ask(request, first, n)
            except ServerRefusedError as error:
                # The endpoint is at fault, not the request: all others are tried, which costs nothing.
                member.failed_with(error)
                failure = error
            except RequestRefusedError as error:
                # A second endpoint decides whether the request or the first endpoint is at fault.
                if refused is not None or len(tried) > MOVES:
                    raise
                failure, refused = error, (member, error)
            except TransientError as error:
                member.failed_with(error, congested=error.congested)
                failure = error
                if len(tried) > MOVES:
                    raise error if refused is None else refused[1] from error
            else:
                member.succeeded()
                if refused is not None:
                    refused[0].failed_with(refused[1])
                return answers
            finally:
                self._dispatch()

    async def _slot(self, tried: list[Member]) -> Member | None:
        """An endpoint with room, at once or after a wait; ``None`` if all usable endpoints were tried.

        ``TransientError`` if none was usable for ``max_backoff`` seconds.
        """
        member = None if self._waiting else self._choose(tried)
        if member is not None:
            return member
        if tried and not self._possible(tried):
            return None
        urls = ", ".join(m.url for m in self.members)
        waiting = _Waiting(tried)
        self._waiting.append(waiting)
        self._dispatch()  # those ahead of it may be waiting for endpoints that this one does not need
        try:
            while True:
                # The wait is interrupted now and then to see whether an endpoint may still become free.
                await asyncio.wait((waiting.slot,), timeout=self._options.max_backoff)
                if waiting.slot.done():
                    break
                if not self._possible(tried):
                    self._waiting.remove(waiting)
                    raise TransientError(f"no endpoint is available ({urls})")
                rest = min((m.pace.held for m in self.members if m.usable), default=0.0)
                if rest > self._options.request_timeout:
                    self._waiting.remove(waiting)
                    why = f"every endpoint has reached a limit ({urls})"
                    raise TransientError(why, retry_after=rest, congested=True, cause="limited")
        except asyncio.CancelledError:
            if not waiting.slot.done():
                self._waiting.remove(waiting)
            elif (given := waiting.slot.result()) is not None:  # a slot was promised just before: return it
                given.promised -= 1
                self._dispatch()
            raise
        member = waiting.slot.result()
        if member is not None:
            member.promised -= 1
        return member

    def _possible(self, tried: Sequence[Member]) -> bool:
        return any(m.usable and m not in tried for m in self.members)

    def _choose(self, tried: Sequence[Member]) -> Member | None:
        """The endpoint with room whose turn it is; its virtual time moves on (start-time fair queueing)."""
        able = [m for m in self.members if m.room and m not in tried]
        if not able:
            return None
        # The earliest start; of equal starts the endpoint that has been idle the longest.
        chosen = min(able, key=lambda m: (max(self._clock, m.finish), m.finish))
        self._clock = max(self._clock, chosen.finish)
        chosen.finish = self._clock + 1 / chosen.weight
        return chosen

    def _dispatch(self) -> None:
        """Give free room to the waiting requests, in their order."""
        waiting = self._waiting
        while waiting and (member := self._choose(waiting[0].tried)) is not None:
            self._give(waiting.popleft(), member)
        if waiting and any(m.room for m in self.members):
            self._dispatch_all()

    def _dispatch_all(self) -> None:
        """As ``_dispatch``, but a request without room does not block those behind it. A request whose
        usable endpoints have all failed it gets ``None``."""
        kept: deque[_Waiting] = deque()
        for waiting in self._waiting:
            member = self._choose(waiting.tried)
            if member is not None or (waiting.tried and not self._possible(waiting.tried)):
                self._give(waiting, member)
            else:
                kept.append(waiting)
        self._waiting = kept

    def _give(self, waiting: _Waiting, member: Member | None) -> None:
        if member is not None:
            member.promised += 1
        waiting.slot.set_result(member)

    async def _watch_drains(self, path: Path) -> None:
        while True:
            await asyncio.sleep(_DRAIN_SECONDS)
            self._drain(path)

    def _drain(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            text = ""
        except OSError as error:
            _log.warning("drain_file %s cannot be read: %s", path, error.strerror or error)
            return
        named = {line.strip().rstrip("/") for line in text.splitlines() if line.strip()}
        if named == self._drained:
            return
        for url in named - self._drained - {m.url for m in self.members}:
            _log.warning("drain_file %s lists %s, which is not an endpoint of this engine.", path, url)
        self._drained = named
        for member in self.members:
            member.draining = member.url in named
        self._dispatch_all()
