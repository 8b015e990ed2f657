"""What the batch engines have in common: requests are gathered, submitted, followed and handed out.

The session asks for completions one by one. Those that arrive until no further one has come for ``gather``
seconds become one batch; by then every row in flight waits for an answer, so ``concurrency`` is the size that
batches reach. A request's id in a batch is a digest of the model, the request and the sample's index. So a
later process finds in the journal that it was submitted, and waits for that batch.

The ``openai`` and ``anthropic`` packages are not used: what is needed of them is four requests over HTTP, and
the engines do without them elsewhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Protocol, Self, TypeVar

import aiohttp
import msgspec
from msgspec import Meta, Struct
from yarl import URL

from gristmill.core.engine import Ability, Completion, Request
from gristmill.core.errors import EngineError, LogError, RequestRefusedError, RunStopped, TransientError
from gristmill.core.secrets import Secrets
from gristmill.engines.batch.journal import Journal, Submitted
from gristmill.engines.openai.failures import failure, snippet

_POLLS = 20
"""This many failed looks at one batch in a row are taken for a server that is down."""
_COMMITTED = 5.0
"""Seconds after which an answer that was handed out is in the completion log."""
_log = logging.getLogger(__name__)
T = TypeVar("T")


CONCURRENCY = 10_000
"""The most requests that wait for an answer, by default: it is the size that a batch can reach."""
PRICE_SHARE = 0.5
"""Both OpenAI and Anthropic take half their price for a batch."""


class Batching(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How requests become batches, and how often one looks at them."""

    gather: Annotated[float, Meta(gt=0)] = 3.0
    """Seconds without a further request after which those that have arrived are submitted as a batch."""
    poll: Annotated[float, Meta(gt=0)] = 30.0
    """Seconds between two looks at whether a batch is ready."""
    requests: Annotated[int, Meta(ge=1)] = 50_000
    """The most requests of one batch; OpenAI takes 50,000 and Anthropic 100,000."""
    megabytes: Annotated[float, Meta(gt=0)] = 190.0
    """The largest file of one batch, in 10^6 bytes; OpenAI takes 200 and Anthropic 256."""


class BatchOptions(Protocol):
    """What the engine needs of the options of its kind."""

    @property
    def concurrency(self) -> int:
        """The most requests that wait for an answer."""
        ...

    @property
    def batch(self) -> Batching:
        """How requests become batches."""
        ...


class Http:
    """The requests to one server, with its secrets in the headers and never in a message."""

    def __init__(
        self,
        base_url: str,
        secrets: Secrets,
        headers: Mapping[str, str],
        timeout: float,
        query: Mapping[str, str] | None = None,
    ) -> None:
        self.base = base_url.rstrip("/")
        self._secrets = secrets
        self._headers = dict(headers)
        self._timeout = timeout
        self._query = dict(query or {})
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Be ready for requests."""
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._timeout, sock_connect=30.0),
            trust_env=True,
        )

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()

    async def send(
        self, method: str, path: str, *, json: bytes | None = None, form: aiohttp.FormData | None = None
    ) -> bytes:
        """The body of a successful answer. ``TransientError`` or ``RequestRefusedError`` for any other."""
        data = form if json is None else aiohttp.BytesPayload(json, content_type="application/json")
        assert self._session is not None, "used outside 'async with engine'"
        url = f"{self.base}{path}"
        target = URL(url).extend_query(self._query)
        try:
            async with self._session.request(method, target, data=data, allow_redirects=False) as response:
                body = await response.read()
                status, headers = response.status, response.headers
        except TimeoutError as error:
            raise TransientError(
                f"{url} did not answer within {self._timeout:g} s", congested=True
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise TransientError(f"{url}: {snippet(f'{type(error).__name__}: {error}')}") from error
        if status != 200:
            raise failure(url, self._secrets, status, headers, body)
        return body

    async def ask(self, method: str, path: str, kind: type[T], **sent: Any) -> T:
        """The answer as a ``kind``; ``TransientError`` for anything else. ``sent`` is as for ``send``."""
        body = await self.send(method, path, **sent)
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TransientError(f"{self.base}{path}: not the expected answer ({error})") from error


class Dialect(Protocol):
    """What differs between the batch APIs."""

    def line(self, custom_id: str, request: Request, sample: int) -> bytes:
        """The JSON of one request. ``RequestRefusedError`` for one that the API cannot express."""
        ...

    async def submit(self, http: Http, lines: Sequence[bytes], uid: str) -> str:
        """Create a batch, and return its id."""
        ...

    async def find(self, http: Http, batch: Submitted) -> str | None:
        """The id of a batch that was perhaps created; ``None`` where the server does not have it."""
        ...

    async def ended(self, http: Http, batch: str) -> bool:
        """Whether there are results. ``RunStopped`` for a batch that the server refused as a whole."""
        ...

    async def results(self, http: Http, batch: str) -> dict[str, msgspec.Raw]:
        """The results of a batch that has ended, by the ids of the requests."""
        ...

    def completion(self, result: msgspec.Raw, request: Request) -> Completion:
        """The answer in a result. ``TransientError`` or ``RequestRefusedError`` where it is none."""
        ...


class _Asked(Struct):
    """A request that waits to be submitted; ``sent`` is given the batch that it becomes a part of."""

    custom_id: str
    line: bytes
    sent: asyncio.Future[Submitted]


class BatchEngine:
    """Completions by way of batches; see ``Engine``. What was submitted outlives the process."""

    def __init__(
        self, options: BatchOptions, http: Http, dialect: Dialect, model: str, abilities: frozenset[Ability]
    ) -> None:
        self.model = model
        self.abilities = abilities - {Ability.MANY, Ability.SCORE}
        self.concurrency = options.concurrency
        self._options = options
        self._http = http
        self._dialect = dialect
        self._journal = Journal(Path(".gristmill/batches"), f"{http.base} {model}")
        self._at: dict[str, Submitted] = {}
        """The batch of each request that has been submitted and not been handed out."""
        self._left: dict[str, set[str]] = {}
        self._queue: list[_Asked] = []
        self._arrived = asyncio.Event()
        self._following: dict[str, asyncio.Task[dict[str, msgspec.Raw]]] = {}
        self._over: list[Submitted] = []
        self._gathering: asyncio.Task[None] | None = None

    def keep_in(self, folder: Path) -> None:
        """Keep the ids of batches in ``folder``, which is beside the completion log."""
        self._journal = Journal(folder / "batches", f"{self._http.base} {self.model}")

    async def __aenter__(self) -> Self:
        """Find the batches of former processes again."""
        await self._http.open()
        try:
            for batch in self._journal.open():
                if batch.batch is None and not await self._adopted(batch):
                    continue
                self._take(batch)
        except EngineError as error:
            await self._http.close()
            raise RunStopped(
                f"cannot find out what became of a batch that was being submitted: {error}.",
                remedy="Run the same command again once the server answers.",
            ) from error
        self._gathering = asyncio.create_task(self._gather())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [*self._following.values(), *([self._gathering] if self._gathering else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if kind is None:
            self._forget(list(self._over))
        await self._http.close()

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """Completions ``first .. first + n - 1`` of ``request``, each by a request of its own in a batch."""
        return list(await asyncio.gather(*(self._one(request, first + i) for i in range(n))))

    async def _one(self, request: Request, sample: int) -> Completion:
        custom_id = _custom_id(self.model, request, sample)
        batch = self._at.get(custom_id)
        if batch is None:
            line = self._dialect.line(custom_id, request, sample)
            asked = _Asked(custom_id, line, asyncio.get_running_loop().create_future())
            self._queue.append(asked)
            self._arrived.set()
            batch = await asked.sent
        if batch.uid not in self._following:
            self._following[batch.uid] = asyncio.create_task(self._follow(batch))
        try:
            results = await asyncio.shield(self._following[batch.uid])
        except EngineError:
            self._following.pop(batch.uid, None)  # the next one who asks looks again
            raise
        self._handed_out(batch, custom_id)
        if custom_id not in results:
            raise TransientError(f"batch {batch.batch} has no result for this request", congested=True)
        return self._dialect.completion(results[custom_id], request)

    async def _gather(self) -> None:
        """Submit what has arrived, whenever nothing more has come for a while or a batch is full."""
        options = self._options.batch
        most = min(options.requests, self.concurrency)
        while True:
            await self._arrived.wait()
            seen = 0
            while seen < len(self._queue) < most:
                seen = len(self._queue)
                await asyncio.sleep(options.gather)
            size, count = 0, 0
            for asked in self._queue[: options.requests]:
                size += len(asked.line) + 1
                if count and size > options.megabytes * 1e6:
                    break
                count += 1
            taken, self._queue = self._queue[:count], self._queue[count:]
            if not self._queue:
                self._arrived.clear()
            await self._submit([asked for asked in taken if not asked.sent.cancelled()])

    async def _submit(self, asked: Sequence[_Asked]) -> None:
        """One batch. Those that asked get it, or the error that it came to."""
        if not asked:
            return
        error: EngineError | RunStopped | LogError
        try:
            batch = self._journal.begin([a.custom_id for a in asked])
            try:
                batch.batch = await self._dialect.submit(self._http, [a.line for a in asked], batch.uid)
                self._journal.write(batch)
            except TransientError:  # it may have been created before the connection broke
                if not await self._adopted(batch):
                    raise
            except RequestRefusedError:
                self._journal.remove(batch)
                raise
        except RequestRefusedError as refused:
            error = RunStopped(
                f"the server refused a batch: {refused}.",
                remedy="Correct the engine's options, then run the same command again.",
            )
        except (TransientError, LogError) as failed:
            error = failed
        else:
            _log.info("batch %s: %d requests submitted", batch.batch, len(asked))
            self._take(batch)
            for one in asked:
                if not one.sent.done():
                    one.sent.set_result(batch)
            return
        for one in asked:
            if not one.sent.done():
                one.sent.set_exception(error)

    async def _adopted(self, batch: Submitted) -> bool:
        """Whether the server has a batch of which no id is known; one that it does not have is forgotten."""
        batch.batch = await self._dialect.find(self._http, batch)
        if batch.batch is None:
            self._journal.remove(batch)
            return False
        self._journal.write(batch)
        return True

    def _take(self, batch: Submitted) -> None:
        self._left[batch.uid] = set(batch.ids)
        self._at.update(dict.fromkeys(batch.ids, batch))

    async def _follow(self, batch: Submitted) -> dict[str, msgspec.Raw]:
        """Wait until a batch has ended; its results."""
        assert batch.batch is not None
        failures = 0
        while True:
            try:
                if await self._dialect.ended(self._http, batch.batch):
                    results = await self._dialect.results(self._http, batch.batch)
                    _log.info("batch %s: %d results", batch.batch, len(results))
                    return results
                failures = 0
            except TransientError as error:
                failures += 1
                _log.warning("batch %s: %s", batch.batch, error)
                if failures == _POLLS:
                    raise
            except RequestRefusedError as error:
                raise RunStopped(
                    f"batch {batch.batch} cannot be looked at: {error}.",
                    remedy="Correct the key, then run the same command again. If the server has deleted the "
                    f"batch, remove {self._journal.folder / batch.uid}.json, and it is paid for again.",
                ) from error
            await asyncio.sleep(self._options.batch.poll)

    def _handed_out(self, batch: Submitted, custom_id: str) -> None:
        """Keep a batch until its last answer is in the log, which the session writes after this."""
        self._at.pop(custom_id, None)
        left = self._left[batch.uid]
        left.discard(custom_id)
        if not left and batch not in self._over:
            self._over.append(batch)
            asyncio.get_running_loop().call_later(_COMMITTED, self._forget, [batch])

    def _forget(self, batches: Sequence[Submitted]) -> None:
        for batch in batches:
            if batch in self._over:
                self._over.remove(batch)
                self._following.pop(batch.uid, None)
                self._journal.remove(batch)


def lines_of(body: bytes) -> dict[str, msgspec.Raw]:
    """A file of results: the lines by the ids of the requests. ``TransientError`` for anything else."""
    found: dict[str, msgspec.Raw] = {}
    for line in body.splitlines():
        if line.strip():
            try:
                found[msgspec.json.decode(line, type=_Line).custom_id] = msgspec.Raw(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise TransientError(f"a line of the results cannot be read: {error}") from error
    return found


class _Line(Struct):
    custom_id: str


def _custom_id(model: str, request: Request, sample: int) -> str:
    """The id of one sample of a request: 32 hexadecimal digits (both APIs allow 64 characters)."""
    text = msgspec.json.encode([model, request, sample])
    return hashlib.blake2b(text, digest_size=16).hexdigest()
