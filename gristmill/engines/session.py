"""A session: an engine with the completion log, retries, pacing and a breaker around it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from time import monotonic, perf_counter
from typing import Self

from msgspec import Struct

from gristmill.core.engine import Ability, Completion, Engine, EngineWrapper, Request
from gristmill.core.errors import (
    EngineError,
    GristmillError,
    LogError,
    RecipeError,
    RequestRefusedError,
    RowRejected,
    RunStopped,
    ServerRefusedError,
    TransientError,
)
from gristmill.engines.breaker import Breaker, Try
from gristmill.engines.limit import AdaptiveLimit
from gristmill.engines.log.entry import plain
from gristmill.engines.log.store import CompletionLog, LogKey, request_key
from gristmill.engines.options import EngineOptions
from gristmill.engines.pace import Pace, until
from gristmill.engines.served import Server, Servers

_RESUME = "Fix the cause, then run the same command again: every completion paid for so far is in the log."
_MOST_WAITS = 100
"""Refusals of one request for the pace; the next count as tries, since it alone may be what is refused."""
_TRIES: dict[str, Try] = {"limited": "limited", "silent": "silent"}


class Stats(Struct):
    """Counters of a session, for progress and summary.

    Completions and tokens are those paid for in this session.
    """

    requests: int = 0
    """Tries sent to the engine."""
    completions: int = 0
    from_log: int = 0
    """Completions that cost nothing: from the log, or from a request that was already in flight."""
    retries: int = 0
    """Tries that repeat an earlier one."""
    failures: int = 0
    """Tries without an answer."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    in_flight: int = 0
    """Requests in flight at this moment."""
    limit: int = 0
    """How many requests may be in flight at this moment."""
    seconds: float = 0.0
    """Time since the session was opened."""


class Session(EngineWrapper):
    """An engine that pays for a completion once, retries, and paces itself; itself an ``Engine``.

    ``generate`` raises ``RowRejected`` when a request is refused or has failed ``options.tries`` times,
    ``RunStopped`` when the breaker has tripped, the server refuses everybody or asks for a long wait,
    ``LogError`` when the log cannot be read or written (which also stops the session, so that nothing is
    paid for that cannot be kept).

    With ``read_after`` completions in the log of an earlier generation than that are ignored. Of two runs
    over one log one asks for a sample, and both use its answer. The session does not close the log.

    No library is used for this: retry libraries such as tenacity repeat a call, but here the retries, the
    shared in-flight requests, the limit, the pace and the breaker must see the same try.
    """

    def __init__(
        self,
        engine: Engine,
        options: EngineOptions,
        log: CompletionLog,
        *,
        read_after: int | None = None,
        servers: Servers | None = None,
        needs: frozenset[Ability] = frozenset(),
    ) -> None:
        """``needs`` are the abilities that the server is asked for before the first request of all;
        ``servers`` is what is known of servers, with which it is compared before anything of the log is
        used."""
        super().__init__(engine)
        self._options = options
        self._log = log
        self._read_after = read_after
        start = None if options.self_paced else options.initial_concurrency
        self._limit = AdaptiveLimit(engine.concurrency, start)
        self._breaker = Breaker(
            options.max_error_rate, engine.concurrency, options.max_backoff, options.request_timeout
        )
        self._server: Server | None = getattr(engine, "server", None)
        self._pace = Pace.of(options) if self._server is None else self._server.pace
        self._servers = servers
        self._needs = needs
        self._probing = asyncio.Lock()
        self._probed = self._server is None
        self._flying: dict[
            tuple[bytes, int], asyncio.Future[dict[int, Completion] | GristmillError | None]
        ] = {}
        self._stopped: GristmillError | None = None
        self._stop = asyncio.Event()
        self._stats = Stats()
        self._opened = perf_counter()

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self._server is not None and self._servers is not None:
            await self._server.meet(self._servers)
        self._opened = perf_counter()
        return self

    @property
    def stats(self) -> Stats:
        """The counters as they stand now (one object, brought up to date by each reading)."""
        stats = self._stats
        stats.in_flight, stats.limit = self._limit.in_flight, self._limit.limit
        stats.seconds = perf_counter() - self._opened
        return stats

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """Completions ``first .. first + n - 1``: those in the log from there, the others from the engine.

        Each is in the log when this returns. Two callers that want the same sample at the same time pay
        for it once. ``RecipeError`` if the request asks to score a text and the engine cannot.
        """
        if request.score and not self.abilities & {Ability.SCORE, Ability.REWARD}:
            raise RecipeError(
                f"the engine {self.model} cannot score a given text.",
                remedy="Use a vLLM server ('kind: openai' with 'score' among its abilities), or the kind "
                "'transformers'.",
            )
        try:
            key = request_key(self.model, request)
        except UnicodeEncodeError as error:
            raise RowRejected(
                "invalid text", f"the prompt has characters that cannot be written as UTF-8: {error}"
            ) from error
        have = self._log.get(key, first, n, self._read_after)
        self._stats.from_log += len(have)
        while len(have) < n:
            missing = [i for i in range(first, first + n) if i not in have]
            mine = [i for i in missing if (key.digest, i) not in self._flying]
            others = {f for i in missing if (f := self._flying.get((key.digest, i))) is not None}
            if mine:
                have |= await self._fly(key, request, mine)
            for future in others:
                await asyncio.wait((future,))  # unlike awaiting it, does not cancel it with this caller
                result = future.result()
                if isinstance(result, GristmillError):
                    raise _again(result)
                shared = {i: c for i, c in (result or {}).items() if i in missing}
                self._stats.from_log += len(shared)
                have |= shared
        return [have[i] for i in range(first, first + n)]

    async def _fly(self, key: LogKey, request: Request, samples: list[int]) -> dict[int, Completion]:
        """Ask the engine for ``samples``; other callers that want one of them wait for this call.

        The answers may be to some of them only, while another run over the same log asks for the rest.
        """
        landed: asyncio.Future[dict[int, Completion] | GristmillError | None]
        landed = asyncio.get_running_loop().create_future()
        for i in samples:
            self._flying[key.digest, i] = landed
        result: dict[int, Completion] | GristmillError | None = None  # None: cancelled, the others ask again
        try:
            free, have = await self._log.claim(key, samples, self._read_after)
            self._stats.from_log += len(have)
            result = have | (await self._fetch(key, request, free) if free else {})
            return result
        except GristmillError as error:
            result = error
            if isinstance(error, LogError):
                self._stop_all(error)
            raise
        finally:
            self._log.release(key, samples)
            for i in samples:
                del self._flying[key.digest, i]
            landed.set_result(result)

    async def _fetch(self, key: LogKey, request: Request, samples: list[int]) -> dict[int, Completion]:
        runs = _runs(samples, joined=Ability.MANY in self.abilities)
        if len(runs) == 1:
            return await self._ask(key, request, *runs[0])
        # Not a task group, which cancels the others when one fails: they are paid for, so they are logged.
        results = await asyncio.gather(
            *(self._ask(key, request, start, n) for start, n in runs), return_exceptions=True
        )
        have: dict[int, Completion] = {}
        for result in results:
            if isinstance(result, BaseException):
                raise result
            have |= result
        return have

    async def _ask(self, key: LogKey, request: Request, first: int, n: int) -> dict[int, Completion]:
        """The tries of one request. A refusal for the pace is not counted as one.

        Its place among the requests in flight is held until the answer is in the log, so that a kill of the
        process costs at most the requests in flight.
        """
        began, tries, waits = monotonic(), 1, 0
        while True:
            try:
                return await self._try(key, request, first, n, again=tries + waits > 1)
            except TransientError as error:
                failure = error
            if self._stopped is not None:
                raise _again(self._stopped)
            if (failure.retry_after or 0.0) > self._options.request_timeout:
                raise _again(self._stop_all(until(failure)))
            if failure.cause == "limited" and waits < _MOST_WAITS:
                waits += 1  # the pace holds all requests for as long as it takes, or else this one waits
                if not self._pace.held:
                    await self._back_off(failure, waits)
                continue
            if tries >= self._options.tries:
                break
            await self._back_off(failure, tries)
            tries += 1
        if failure.cause == "unreachable" and self._breaker.last_answer <= began:
            raise _again(self._stop_all(RunStopped(f"{failure} ({tries} tries).", remedy=_RESUME)))
        raise RowRejected("request failed", f"{failure} (the last of {tries} tries)") from failure

    async def _try(
        self, key: LogKey, request: Request, first: int, n: int, *, again: bool
    ) -> dict[int, Completion]:
        """One try. Raises ``TransientError`` where there may be another."""
        ticket = await self._limit.acquire()
        seconds, tokens, prompt_tokens, congested = 0.0, 0, 0, False
        try:
            async with self._pace.sending(request, n) as sent:
                if self._stopped is not None:  # the run stopped while this request waited for its turn
                    raise _again(self._stopped)
                if not self._probed:
                    await self._probe()
                self._stats.requests += 1
                self._stats.retries += again
                started = perf_counter()
                answers = [plain(a) for a in await self._engine.generate(request, first=first, n=n)]
                seconds = perf_counter() - started
                if len(answers) != n:
                    raise TransientError(f"the engine returned {len(answers)} of {n} completions")
                sent.answers = answers
            tokens, prompt_tokens = max(a.completion_tokens for a in answers), answers[0].prompt_tokens
            return dict(enumerate(await self._keep(key, first, answers), first))
        except (RunStopped, RecipeError) as error:
            raise _again(self._stop_all(error)) from error
        except RequestRefusedError as error:
            self._failed(error, "own" if error.own else "refused")
            if isinstance(error, ServerRefusedError):
                why = f"the server refuses all requests: {error.message}."
                raise _again(
                    self._stop_all(RunStopped(why, remedy=f"{error.remedy} {_RESUME}".strip()))
                ) from error
            raise RowRejected("request refused", str(error)) from error
        except TransientError as error:
            congested = error.congested
            self._failed(
                error, _TRIES.get(error.cause, "congested" if congested else "failed"), (key.digest, first)
            )
            raise
        finally:
            if self._options.self_paced:  # without a latency the limit never changes
                self._limit.release(ticket)
            else:
                self._limit.release(
                    ticket, seconds=seconds, tokens=tokens, prompt_tokens=prompt_tokens, congested=congested
                )

    async def _probe(self) -> None:
        """Before the first request: whether the server can do what stages need of it."""
        async with self._probing:
            if not self._probed and self._server is not None:
                await self._server.probe(self._needs)
                self._probed = True

    async def _keep(self, key: LogKey, first: int, answers: Sequence[Completion]) -> list[Completion]:
        """Put what was paid for into the log; what it then holds, since another run may have been faster."""
        self._breaker.record("answered")
        stats = self._stats
        stats.completions += len(answers)
        for answer in answers:
            stats.prompt_tokens += answer.prompt_tokens
            stats.completion_tokens += answer.completion_tokens
        try:
            return await self._log.put(key, first, answers, self._read_after)
        except UnicodeEncodeError as error:
            raise RowRejected(
                "invalid text", f"the answer has characters that cannot be written as UTF-8: {error}"
            ) from error

    def _failed(self, error: EngineError, result: Try, of: object = None) -> None:
        self._stats.failures += 1
        why = self._breaker.record(result, of)
        if why is not None:
            self._stop_all(RunStopped(f"{why}; the last error: {error}.", remedy=_RESUME))

    def _stop_all(self, error: GristmillError) -> GristmillError:
        """Stop the session; returns why it was stopped, if by this or before."""
        if self._stopped is None:
            self._stopped = error
            self._limit.lift()
            self._pace.lift()
            self._stop.set()
        return self._stopped

    async def _back_off(self, failure: TransientError, tries: int) -> None:
        """Wait before the next try: twice as long each time, with jitter, on top of ``Retry-After``."""
        options = self._options
        # The upper half of the interval: enough jitter to spread the retries of requests that failed
        # together, and never a wait of almost nothing.
        delay = min(options.max_backoff, options.backoff * 2 ** (tries - 1)) * random.uniform(0.5, 1.0)
        delay += failure.retry_after or 0.0
        try:
            async with asyncio.timeout(delay):
                await self._stop.wait()  # a run that stops ends the wait early
        except TimeoutError:
            return


def _runs(samples: Sequence[int], *, joined: bool) -> list[tuple[int, int]]:
    """Neighbouring numbers in ``samples`` (ascending) as (first, count); each alone unless ``joined``."""
    runs: list[tuple[int, int]] = []
    for i in samples:
        if joined and runs and sum(runs[-1]) == i:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((i, 1))
    return runs


def _again(error: GristmillError) -> GristmillError:
    """A copy of an error for another caller, since a raised exception carries one caller's traceback."""
    if isinstance(error, RowRejected):
        return RowRejected(error.reason, error.message)
    return type(error)(error.message, remedy=error.remedy)
