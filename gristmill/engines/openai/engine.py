"""Any server that speaks the OpenAI chat completions protocol: vLLM, llama-server, SGLang, hosted ones."""

from __future__ import annotations

import asyncio
import logging
import ssl
import urllib.request
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from gristmill.core.engine import Ability, Completion, Message, Request, Sampling, score_request
from gristmill.core.errors import (
    EngineError,
    RecipeError,
    RequestRefusedError,
    RunStopped,
    ServerRefusedError,
    TransientError,
)
from gristmill.engines import scoring
from gristmill.engines.openai.access import Access, address, certificates, keys_of
from gristmill.engines.openai.failures import TRANSIENT, UNREADABLE, failure, hints, snippet
from gristmill.engines.openai.options import ContinueMode, ServerOptions
from gristmill.engines.openai.replies import Replies
from gristmill.engines.openai.requests import body_of
from gristmill.engines.pace import Pace
from gristmill.engines.served import Described, Server, Servers, another_address, another_model, telling

_log = logging.getLogger(__name__)

_CONNECT_SECONDS = 30.0
_IDLE_SECONDS = 2.0
"""A connection that was idle for longer is not used again: servers close theirs (uvicorn, and with it vLLM,
after 5 s), and a request that is sent on one at that moment is lost."""
_FAILURE_BYTES = 1 << 16
_OF_THE_KEY = frozenset({401, 402, 403, 429})
"""Statuses that another key may not meet."""
_MEET_SECONDS = 5.0
_ONE = (Message("user", "Say yes."),)
_A_TOOL = '[{"type":"function","function":{"name":"now","parameters":{"type":"object","properties":{}}}}]'
_PROBES = {
    Ability.CONTINUE: (
        Request(_ONE, Sampling(max_tokens=1), prefix="Ye"),
        "Set continue_mode to what the server can do, or use vLLM, SGLang or llama-server.",
    ),
    Ability.LOGPROBS: (
        Request(_ONE, Sampling(max_tokens=1, logprobs=0)),
        "Use a server that returns them (vLLM, SGLang, llama-server), or a stage that needs none.",
    ),
    Ability.SCORE: (
        score_request(_ONE, "Yes"),
        "Use a vLLM server, the only kind of server that scores a given text, or the engine 'transformers'.",
    ),
    Ability.TOOLS: (
        Request(_ONE, Sampling(max_tokens=1), tools=_A_TOOL),
        "Start it so that it takes tools (vLLM: --enable-auto-tool-choice and --tool-call-parser NAME), or "
        "set 'protocol: text' in the stage.",
    ),
    Ability.REWARD: (
        score_request(_ONE, "Yes"),
        "Set 'route' to what the server offers, and serve the reward model as one that pools.",
    ),
}
"""What is asked of a server before the first request, and the remedy where it cannot."""
_SERVERS: dict[str, ContinueMode] = {"vllm": "vllm", "sglang": "vllm", "llamacpp": "prefill"}

_encode = msgspec.json.Encoder().encode


class OpenAI(ServerOptions, frozen=True, kw_only=True):
    """A server that speaks the OpenAI chat completions protocol."""

    def open(self) -> OpenAIEngine:
        """The engine, not yet connected. ``RecipeError`` for a URL or a key that cannot be used."""
        address(self.base_url)
        return OpenAIEngine(self, keys_of(self.key_names))


class _Models(Struct):
    data: list[dict[str, Any]] | None = None


class _Reported(Struct):
    model: str | None = None
    system_fingerprint: str | None = None


_decode_models = msgspec.json.Decoder(_Models).decode
_decode_reported = msgspec.json.Decoder(_Reported).decode


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

    def __init__(self, options: OpenAI, keys: Mapping[str, str]) -> None:
        """``keys`` by the environment variables that they are from."""
        self._options = options
        self._access = Access(options, keys)
        self._url = address(options.base_url.rstrip("/") + "/chat/completions")
        self._models_url = address(options.base_url.rstrip("/") + "/models")
        self.model = options.identity
        self._replies = Replies(options, self._url)
        names = set(options.abilities) - ({"continue"} if options.continue_mode == "none" else set())
        self.abilities = frozenset(Ability[name.upper()] for name in names - set(options.omit))
        self.concurrency = options.concurrency
        self.pace = Pace(
            requests_per_minute=options.requests_per_minute, tokens_per_minute=options.tokens_per_minute
        )
        self._continue_mode = options.continue_mode
        self._asking = asyncio.Lock()
        self._seen = Described()
        self._reported = ""
        self._said = _Reported()
        self._servers: Servers | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        host = self._url.host or ""
        tls: ssl.SSLContext | bool = certificates() if self._url.scheme == "https" else True
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.concurrency, ssl=tls, keepalive_timeout=_IDLE_SECONDS),
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
        if self._servers is not None and self._reported:
            self._seen.model = self._reported
            self._servers.note(self.model, self._options.base_url, self._seen)
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def server(self) -> Server | None:
        """What a session is told of the server; ``None`` for one that the run itself starts."""
        return self

    async def meet(self, servers: Servers, *, said: bool = False) -> None:
        """Say (unless it was ``said``) whether the log's answers are from elsewhere, or from a model that
        is described otherwise now."""
        known, url = servers.of(self.model), self._options.base_url
        self._servers, self._seen = servers, known.get(url, Described())
        if known and url not in known and not said:
            _log.warning(another_address(self.model, sorted(known), url))
        elif url in known:
            entry = await self._entry()
            if entry and self._seen.entry and entry != self._seen.entry:
                _log.warning(another_model(self.model, url, self._seen.entry, entry))
            self._seen.entry = entry or self._seen.entry

    async def probe(self, needs: frozenset[Ability]) -> None:
        """Ask for one token for each of what stages need beyond an answer. ``RecipeError`` with the
        remedy."""
        if self._servers is not None and not self._seen.entry:
            self._seen.entry = await self._entry()
        for ability, (asked, remedy) in _PROBES.items():
            if ability not in needs:
                continue
            try:
                [answer] = await self.generate(asked)
            except ServerRefusedError:
                raise
            except RequestRefusedError as error:
                why = f": {error.message}"
            else:
                if (
                    asked.sampling.logprobs is None
                    or answer.logprobs is not None
                    or answer.finish_reason == "other"
                ):
                    continue
                why = ": an answer came without, although they were asked for"
            raise RecipeError(f"{self._url}: this server lacks '{ability.value}'{why}.", remedy=remedy)

    async def _entry(self) -> dict[str, Any]:
        """What ``/models`` says of this model; nothing where it says nothing in time."""
        try:
            async with asyncio.timeout(_MEET_SECONDS):
                status, _, body = await self._send("GET", self._models_url)
            listed = _decode_models(body).data if status == 200 else None
        except (TransientError, TimeoutError, *UNREADABLE):
            return {}  # it is advice: whoever needs the server will say what is wrong with it
        return next((telling(entry) for entry in listed or [] if entry.get("id") == self._options.model), {})

    def _compare(self, body: bytes) -> None:
        """Notice another model behind the same name. ``RunStopped`` where the options say so."""
        try:
            said = _decode_reported(body)
        except UNREADABLE:
            return  # whoever reads the answer will say so
        if said == self._said:
            return
        self._said, name = said, snippet(said.model or "")
        self._seen.fingerprint = snippet(said.system_fingerprint or "") or self._seen.fingerprint
        if not name or name == self._reported:
            return
        first, before = not self._reported, self._reported or self._seen.model
        self._reported = name
        if before in ("", name):
            return
        text = (
            f"{self._url}: the answers for {self._options.model} were from {before!r}, and now from {name!r}"
        )
        if self._options.on_model_change == "note" or first:
            _log.warning("%s.", text)
            return
        raise RunStopped(
            f"{text}; no answer of the second was kept.",
            remedy="Set 'revision' to pay for the new model's answers, or 'on_model_change: note' to mix "
            "them, then run the same command again.",
        )

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
        self._compare(body)
        if request.score:
            # The same text has the same scores, so one answer serves all n.
            scored = scoring.completion(body, request.prefix, str(self._url))
            return [scored, *(msgspec.structs.replace(scored, prompt_tokens=0) for _ in range(n - 1))]
        repeated = request.prefix if mode == "prefill" else ""
        return self._replies.completions(self._url, body, request, n, repeated)

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
                return response.status, response.headers, await self._read(response)
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

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The body, up to ``most_body_mb``; ``RequestRefusedError`` for a longer one.

        Of what is not an answer only the beginning is read, which is enough for a message.
        """
        most = int(self._options.most_body_mb * 2**20)
        refused = response.status == 200
        most = most if refused else min(most, _FAILURE_BYTES)
        plain = response.headers.get("Content-Encoding", "identity") == "identity"
        if plain and response.content_length is not None and response.content_length <= most:
            return await response.read()
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
            owners = {m.get("owned_by") for m in _decode_models(body).data or []}
        except UNREADABLE:
            return "none"
        return next((mode for owner, mode in _SERVERS.items() if owner in owners), "none")

    def _failure(self, status: int, headers: Any, body: bytes) -> EngineError:
        return failure(self._url, self._access.secrets, status, headers, body)
