"""Any server that speaks the OpenAI chat completions protocol: vLLM, llama-server, SGLang, hosted ones."""

from __future__ import annotations

import asyncio
import ssl
import urllib.request
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from gristmill.core.engine import Ability, Completion, Request
from gristmill.core.errors import (
    EngineError,
    RecipeError,
    RequestRefusedError,
    ServerRefusedError,
    TransientError,
)
from gristmill.engines import scoring
from gristmill.engines.openai.access import Access, address, certificates, keys_of
from gristmill.engines.openai.failures import TRANSIENT, UNREADABLE, failure, hints, snippet
from gristmill.engines.openai.options import ContinueMode, ServerOptions
from gristmill.engines.openai.replies import completions_of
from gristmill.engines.openai.requests import body_of
from gristmill.engines.pace import Pace

_CONNECT_SECONDS = 30.0
_OF_THE_KEY = frozenset({401, 402, 403, 429})
"""Statuses that another key may not meet."""
_SERVERS: dict[str, ContinueMode] = {"vllm": "vllm", "sglang": "vllm", "llamacpp": "prefill"}

_encode = msgspec.json.Encoder().encode


class OpenAI(ServerOptions, frozen=True, kw_only=True):
    """A server that speaks the OpenAI chat completions protocol."""

    def open(self) -> OpenAIEngine:
        """The engine, not yet connected. ``RecipeError`` for a URL or a key that cannot be used."""
        address(self.base_url)
        return OpenAIEngine(self, keys_of(self))


class _Model(Struct):
    owned_by: str | None = None


class _Models(Struct):
    data: list[_Model] | None = None


_decode_models = msgspec.json.Decoder(_Models).decode


class OpenAIEngine:
    """One try of a request against the server; see ``Engine``.

    The requests are made with aiohttp and not with the ``openai`` package, which takes about eight times the
    processor time per request and retries by itself, while the session must see every try.

    Sample ``i`` is requested with seed ``seed + i``; ``n > 1`` is sent with the seed of the first, to which
    vLLM and llama-server add the index themselves. ``temperature`` and ``top_p`` are always sent (vLLM takes
    missing ones from the model's generation_config), the others only if they differ from the default, since
    some servers refuse names that they do not know.

    Tokens are counted by the server. Without ``usage`` they are 0, which means unknown: nothing is
    estimated. The server's total is divided among several completions as evenly as integers allow, unless
    they have log-probabilities, which show the number (llama-server reports the total of the first only).
    """

    def __init__(self, options: OpenAI, keys: Mapping[str, str]) -> None:
        """``keys`` by the environment variables that they are from."""
        self._options = options
        self._access = Access(options, keys)
        self._url = address(options.base_url.rstrip("/") + "/chat/completions")
        self._models_url = address(options.base_url.rstrip("/") + "/models")
        self.model = options.identity
        names = set(options.abilities) - ({"continue"} if options.continue_mode == "none" else set())
        self.abilities = frozenset(Ability[name.upper()] for name in names - set(options.omit))
        self.concurrency = options.concurrency
        self.pace = Pace(
            requests_per_minute=options.requests_per_minute, tokens_per_minute=options.tokens_per_minute
        )
        self._continue_mode = options.continue_mode
        self._asking = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        host = self._url.host or ""
        tls: ssl.SSLContext | bool = certificates() if self._url.scheme == "https" else True
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.concurrency, ssl=tls),
            headers={"Content-Type": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._options.request_timeout, sock_connect=_CONNECT_SECONDS),
            # Looked up once here, since aiohttp would read the environment for every request.
            trust_env=bool(urllib.request.getproxies()) and not urllib.request.proxy_bypass(host),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """Completions ``first .. first + n - 1`` of ``request``, by one HTTP request.

        At temperature 0 several are requested one by one, since vLLM refuses them in one request.
        """
        if n > 1 and not (request.sampling.temperature or request.score):
            alone = [(await self.generate(request, first=first + i))[0] for i in range(n)]
            return [alone[0], *(msgspec.structs.replace(c, prompt_tokens=0) for c in alone[1:])]
        mode = await self._mode() if request.prefix else "none"
        asked = self._body(request, first, 1 if request.score else n, mode)
        if request.score:
            if mode != "vllm":
                raise RequestRefusedError(
                    f"{self._url}: only vLLM scores given text (continue_mode is {mode!r})"
                )
            asked |= scoring.fields(self._options.max_tokens_field)
        body = await self._post(_encode(asked))
        if request.score:
            # The same text has the same scores, so one answer serves all n.
            scored = scoring.completion(body, request.prefix, str(self._url))
            return [scored, *(msgspec.structs.replace(scored, prompt_tokens=0) for _ in range(n - 1))]
        return completions_of(self._url, body, request, n, request.prefix if mode == "prefill" else "")

    async def _post(self, asked: bytes) -> bytes:
        """The body of the answer. A key that is refused or over its limit hands the request to the next."""
        while True:
            name, headers = self._access.pick()
            status, answered, body = await self._send("POST", self._url, asked, headers)
            body = self._access.secrets.out_of_bytes(body)
            if status == 200:
                for hint in hints(answered):
                    self.pace.told(hint)
                return body
            error = self._failure(status, answered, body)
            if not self._other_key(name, status, error):
                raise error

    def _other_key(self, name: str, status: int, error: EngineError) -> bool:
        """Whether another key may be answered where this one was not."""
        if isinstance(error, ServerRefusedError) and status in _OF_THE_KEY:
            return self._access.dropped(name, error.message)
        if isinstance(error, TransientError) and error.cause == "limited":
            return self._access.rests(name, error.retry_after)
        return False

    async def _send(
        self, method: str, url: URL, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, bytes]:
        headers = self._access.pick()[1] if headers is None else headers
        target = url.update_query(self._access.query) if self._access.query else url
        if self._session is None:
            raise RuntimeError("the engine is used outside 'async with engine'")
        try:
            # A redirect would turn the POST into a GET, and could take the key to another host.
            async with self._session.request(
                method, target, data=body, headers=headers, allow_redirects=False
            ) as response:
                return response.status, response.headers, await response.read()
        except TimeoutError as error:
            raise TransientError(
                f"{url} did not answer within {self._options.request_timeout:g} s",
                congested=True,
                cause="silent",
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise TransientError(f"{url}: {self._words(error)}", cause="unreachable") from error
        except (aiohttp.ClientError, OSError) as error:
            raise TransientError(f"{url}: {self._words(error)}") from error

    def _words(self, error: Exception) -> str:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return self._access.secrets.out_of(snippet(text))

    def _body(self, request: Request, first: int, n: int, mode: ContinueMode) -> dict[str, Any]:
        return body_of(self._options, request, first, n, mode)

    async def _mode(self) -> ContinueMode:
        """How this server continues a turn. With ``auto`` the server is asked once."""
        async with self._asking:
            if self._continue_mode == "auto":
                status, headers, body = await self._send("GET", self._models_url)
                if status in TRANSIENT:
                    raise self._failure(status, headers, body)
                self._continue_mode = self._recognize(body) if status == 200 else "none"
        if self._continue_mode == "none":
            # No row could be continued, so the run ends here instead of rejecting every row.
            raise RecipeError(
                f"{self._url}: cannot tell how this server continues an assistant turn.",
                remedy="Set continue_mode to 'vllm' or 'prefill' if the server can do it; otherwise leave "
                "'continue' out of the engine's abilities.",
            )
        return self._continue_mode

    @staticmethod
    def _recognize(body: bytes) -> ContinueMode:
        try:
            owners = {m.owned_by for m in _decode_models(body).data or []}
        except UNREADABLE:
            return "none"
        return next((mode for owner, mode in _SERVERS.items() if owner in owners), "none")

    def _failure(self, status: int, headers: Any, body: bytes) -> EngineError:
        return failure(self._url, self._access.secrets, status, headers, body)
