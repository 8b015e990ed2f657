"""Any server that speaks the OpenAI chat completions protocol: vLLM, llama-server, SGLang, hosted ones."""

from __future__ import annotations

import asyncio
import os
import urllib.request
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from gristmill.core.engine import Ability, Completion, Request
from gristmill.core.errors import EngineError, RecipeError, RequestRefusedError, TransientError
from gristmill.engines import scoring
from gristmill.engines.openai.failures import TRANSIENT, UNREADABLE, failure, snippet
from gristmill.engines.openai.options import ContinueMode, ServerOptions
from gristmill.engines.openai.replies import Replies
from gristmill.engines.openai.requests import body_of

_CONNECT_SECONDS = 30.0
_FAILURE_BYTES = 1 << 16
_SERVERS: dict[str, ContinueMode] = {"vllm": "vllm", "sglang": "vllm", "llamacpp": "prefill"}

_encode = msgspec.json.Encoder().encode


class OpenAI(ServerOptions, frozen=True, kw_only=True):
    """A server that speaks the OpenAI chat completions protocol."""

    def open(self) -> OpenAIEngine:
        """The engine, not yet connected. ``RecipeError`` for a URL or a key that cannot be used."""
        url = URL(self.base_url)
        if not url.host or url.user or url.password:
            shown = url.with_user(None) if url.host else self.base_url
            raise RecipeError(
                f"base_url: {shown} {'contains a user name or password' if url.host else 'has no host'}.",
                remedy=f"Write it as http://HOST:PORT/v1, and put the key into ${self.api_key_env}.",
            )
        key = os.environ.get(self.api_key_env, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise RecipeError(
                f"${self.api_key_env} contains characters that are not allowed in a key.",
                remedy="Set it again, to nothing but the key, on one line.",
            )
        return OpenAIEngine(self, key)


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
    How answers are read is in ``replies``.
    """

    def __init__(self, options: OpenAI, key: str) -> None:
        self._options = options
        self._key = key
        self._url = URL(options.base_url.rstrip("/") + "/chat/completions")
        self._models_url = URL(options.base_url.rstrip("/") + "/models")
        # The body's extra fields change what the model says, so they belong to its identity.
        self.model = options.model + (
            f" {msgspec.json.encode(options.extra, order='sorted').decode()}" if options.extra else ""
        )
        self.model += options.reading
        self._replies = Replies(options, self._url)
        names = set(options.abilities) - ({"continue"} if options.continue_mode == "none" else set())
        self.abilities = frozenset(Ability[name.upper()] for name in names)
        self.concurrency = options.concurrency
        self._continue_mode = options.continue_mode
        self._asking = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        host = self._url.host or ""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.concurrency),
            headers=headers,
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
        status, headers, body = await self._send("POST", self._url, _encode(asked))
        if status != 200:
            raise self._failure(status, headers, body)
        if request.score:
            # The same text has the same scores, so one answer serves all n.
            scored = scoring.completion(body, request.prefix, str(self._url))
            return [scored, *(msgspec.structs.replace(scored, prompt_tokens=0) for _ in range(n - 1))]
        repeated = request.prefix if mode == "prefill" else ""
        return self._replies.completions(self._url, body, request, n, repeated)

    async def _send(self, method: str, url: URL, body: bytes | None = None) -> tuple[int, Any, bytes]:
        if self._session is None:
            raise RuntimeError("the engine is used outside 'async with engine'")
        try:
            # A redirect would turn the POST into a GET, and could take the key to another host.
            async with self._session.request(method, url, data=body, allow_redirects=False) as response:
                return response.status, response.headers, await self._read(response)
        except TimeoutError as error:
            raise TransientError(
                f"{url} did not answer within {self._options.request_timeout:g} s", congested=True
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise TransientError(f"{url}: {snippet(what)}") from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The body, up to ``most_body_mb``; ``RequestRefusedError`` for a longer one.

        Of what is not an answer only the beginning is read, which is enough for a message.
        """
        most = int(self._options.most_body_mb * 2**20)
        refused = response.status == 200
        most = most if refused else min(most, _FAILURE_BYTES)
        chunks, size = list[bytes](), 0
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > most:
                response.close()
                if refused:
                    raise RequestRefusedError(
                        f"{response.url}: the body is longer than most_body_mb "
                        f"({self._options.most_body_mb:g} MiB), so the rest was not read"
                    )
                break
        return b"".join(chunks)

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
        return failure(self._url, self._key, status, headers, body)
