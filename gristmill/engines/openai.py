"""Any server that speaks the OpenAI chat completions protocol: vLLM, llama-server, SGLang, hosted ones."""

from __future__ import annotations

import asyncio
import os
import urllib.request
from email.utils import parsedate_to_datetime
from time import time
from types import TracebackType
from typing import Annotated, Any, Literal, Self, get_args

import aiohttp
import msgspec
from msgspec import Meta, Struct
from yarl import URL

from gristmill.core.engine import Ability, Completion, FinishReason, Request, TokenLogprob, TokenScore
from gristmill.core.errors import EngineError, RecipeError, RequestRefusedError, TransientError
from gristmill.engines import scoring
from gristmill.engines.options import EngineOptions

ContinueMode = Literal["auto", "vllm", "prefill", "none"]
AbilityName = Literal["chat", "continue", "logprobs", "score", "seed", "many"]

_CONNECT_SECONDS = 30.0
_SNIPPET = 200
_CONGESTED = frozenset({429, 503, 529})
_TRANSIENT = _CONGESTED | {408, 409, 425, 500, 502, 504, 520, 521, 522, 523, 524}
_FINISH_REASONS = frozenset(get_args(FinishReason))
DEFAULT_ABILITIES: tuple[AbilityName, ...] = ("chat", "continue", "logprobs", "seed", "many")
_SERVERS: dict[str, ContinueMode] = {"vllm": "vllm", "sglang": "vllm", "llamacpp": "prefill"}

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)

_encode = msgspec.json.Encoder().encode


class OpenAI(EngineOptions, frozen=True, kw_only=True):
    """A server that speaks the OpenAI chat completions protocol."""

    base_url: Annotated[str, Meta(pattern="^https?://")]
    """The server's base URL, which ends in ``/v1`` with most servers: ``http://HOST:PORT/v1``."""
    model: Annotated[str, Meta(min_length=1)]
    """The model's name, as the server knows it."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable with the API key, which is read when the engine is opened; may be unset."""
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    """Further fields of each request's body, such as ``chat_template_kwargs``; part of the log's key."""
    continue_mode: ContinueMode = "auto"
    """How an assistant turn is continued. ``vllm`` (and SGLang): a last assistant message with
    ``continue_final_message``. ``prefill``: a last assistant message alone, as llama-server continues
    it; if the server repeats the prefix, it is removed from the answer. ``auto`` asks ``/models`` before
    the first such request which server it is. ``none``: the server cannot continue a turn."""
    abilities: tuple[AbilityName, ...] = DEFAULT_ABILITIES
    """What the server can do. Leave out ``many`` if it ignores or limits ``n`` (llama-server accepts at most
    as many as it has parallel slots). Add ``score`` for a vLLM server, the only kind that returns the
    log-probabilities of a given text (see ``scoring``)."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The name of the field for the token limit; some hosted models accept only the second."""

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


class _Alternative(Struct):
    token: str
    logprob: float


class _Token(Struct):
    token: str
    logprob: float
    top_logprobs: list[_Alternative] | None = None


class _Logprobs(Struct):
    content: list[_Token] | None = None


class _Message(Struct):
    content: str | None = None


class _Choice(Struct):
    message: _Message
    finish_reason: str | None = None
    index: int | None = None
    logprobs: _Logprobs | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Response(Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None


class _Problem(Struct):
    error: Any = None
    message: Any = None
    detail: Any = None


class _Model(Struct):
    owned_by: str | None = None


class _Models(Struct):
    data: list[_Model] | None = None


_decode_response = msgspec.json.Decoder(_Response).decode
_decode_problem = msgspec.json.Decoder(_Problem).decode
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

    def __init__(self, options: OpenAI, key: str) -> None:
        self._options = options
        self._key = key
        self._url = URL(options.base_url.rstrip("/") + "/chat/completions")
        self._models_url = URL(options.base_url.rstrip("/") + "/models")
        # The body's extra fields change what the model says, so they belong to its identity.
        self.model = options.model + (
            f" {msgspec.json.encode(options.extra, order='sorted').decode()}" if options.extra else ""
        )
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
        return self._completions(body, request, n, request.prefix if mode == "prefill" else "")

    async def _send(self, method: str, url: URL, body: bytes | None = None) -> tuple[int, Any, bytes]:
        if self._session is None:
            raise RuntimeError("the engine is used outside 'async with engine'")
        try:
            # A redirect would turn the POST into a GET, and could take the key to another host.
            async with self._session.request(method, url, data=body, allow_redirects=False) as response:
                return response.status, response.headers, await response.read()
        except TimeoutError as error:
            raise TransientError(
                f"{url} did not answer within {self._options.request_timeout:g} s", congested=True
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise TransientError(f"{url}: {_snippet(what)}") from error

    def _body(self, request: Request, first: int, n: int, mode: ContinueMode) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self._options.model,
            "messages": request.messages,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self._options.max_tokens_field: sampling.max_tokens,
        }
        if n > 1:
            body["n"] = n
        if request.seed is not None:
            body["seed"] = request.seed + first
        if sampling.stop:
            body["stop"] = sampling.stop
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if sampling.min_p:
            body["min_p"] = sampling.min_p
        if sampling.repetition_penalty != 1.0:
            body["repetition_penalty"] = sampling.repetition_penalty
        if sampling.logprobs is not None:
            body["logprobs"] = True
            if sampling.logprobs:
                body["top_logprobs"] = sampling.logprobs
        if sampling.schema is not None:
            body["response_format"] = _response_format(sampling.schema)
        if request.prefix:
            body["messages"] = [*request.messages, {"role": "assistant", "content": request.prefix}]
            if mode == "vllm":
                body["continue_final_message"] = True
                body["add_generation_prompt"] = False
        return body | self._options.extra if self._options.extra else body

    async def _mode(self) -> ContinueMode:
        """How this server continues a turn. With ``auto`` the server is asked once."""
        async with self._asking:
            if self._continue_mode == "auto":
                status, headers, body = await self._send("GET", self._models_url)
                if status in _TRANSIENT:
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
        except _UNREADABLE:
            return "none"
        return next((mode for owner, mode in _SERVERS.items() if owner in owners), "none")

    def _completions(self, body: bytes, request: Request, n: int, repeated: str) -> list[Completion]:
        try:
            response = _decode_response(body)
        except _UNREADABLE as error:
            raise TransientError(f"{self._url}: not a chat completion ({error}): {_text(body)}") from error
        choices = response.choices or []
        if len(choices) < n:
            advice = "; leave 'many' out of the engine's abilities" if choices else ""
            raise TransientError(f"{self._url}: {len(choices)} of {n} choices{advice}: {_text(body)}")
        if n > 1 and all(c.index is not None for c in choices):
            choices.sort(key=lambda c: c.index or 0)
        usage = response.usage or _Usage()
        share, rest = divmod(usage.completion_tokens or 0, n)
        completions = []
        for i, choice in enumerate(choices[:n]):
            text, reason = choice.message.content, choice.finish_reason
            if text is None and reason != "length":
                raise TransientError(f"{self._url}: the content is null: {_text(body)}")
            if request.sampling.schema is not None and reason == "stop":
                self._check_json(text or "", request)
            most = request.sampling.logprobs
            logprobs = None if most is None else _logprobs(choice, most)
            completions.append(
                Completion(
                    text=(text or "").removeprefix(repeated),
                    finish_reason=reason if reason in _FINISH_REASONS else "other",  # type: ignore[arg-type]
                    prompt_tokens=(usage.prompt_tokens or 0) if i == 0 else 0,
                    completion_tokens=len(logprobs) if logprobs and n > 1 else share + (i < rest),
                    logprobs=logprobs,
                )
            )
        return completions

    def _check_json(self, text: str, request: Request) -> None:
        """Refuse text that is not JSON: servers that do not know ``response_format`` silently ignore it."""
        if request.sampling.stop or request.prefix:
            return  # the text is only a part of the JSON
        try:
            msgspec.json.decode(text, type=msgspec.Raw)
        except _UNREADABLE as error:
            raise RequestRefusedError(
                f"{self._url}: asked for JSON, but the answer is {_snippet(text)!r}; "
                "the server may not support response_format"
            ) from error

    def _failure(self, status: int, headers: Any, body: bytes) -> EngineError:
        code, text = _reason(body)
        if self._key:
            text = text.replace(self._key, "***")
        message = f"HTTP {status} from {self._url}: {text or 'no reason given'}"
        if 300 <= status < 400:
            message += f" (redirects to {headers.get('Location', '?')}; set base_url to that)"
        if status in _TRANSIENT and code != "insufficient_quota":
            return TransientError(
                message, retry_after=_retry_after(headers.get("Retry-After")), congested=status in _CONGESTED
            )
        return RequestRefusedError(message)


def _response_format(schema: str) -> dict[str, Any]:
    """How the protocol asks for JSON of a schema. vLLM silently ignores its older ``guided_json``."""
    try:
        parsed = msgspec.json.decode(schema)
    except _UNREADABLE as error:
        raise RequestRefusedError(f"the schema is not JSON ({error}): {_snippet(schema)}") from error
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": parsed, "strict": True}}


def _logprobs(choice: _Choice, most: int) -> tuple[TokenLogprob, ...]:
    """Each token with at most ``most`` alternatives; llama-server sends some without being asked."""
    tokens = (choice.logprobs.content if choice.logprobs else None) or []
    return tuple(
        TokenLogprob(
            t.token, t.logprob, tuple(TokenScore(a.token, a.logprob) for a in (t.top_logprobs or [])[:most])
        )
        for t in tokens
    )


def _reason(body: bytes) -> tuple[str, str]:
    """The code and the message of an error's body, in any of the forms that servers use."""
    try:
        problem = _decode_problem(body)
    except _UNREADABLE:
        return "", _text(body)
    error = problem.error or problem.message or problem.detail
    if isinstance(error, dict):
        return str(error.get("code") or ""), _snippet(str(error.get("message") or error))
    return "", _snippet(str(error)) if error else _text(body)


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a Retry-After header of either form (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except ValueError:
        return None


def _text(body: bytes) -> str:
    return _snippet(body[: 4 * _SNIPPET].decode(errors="replace")) or "an empty body"


def _snippet(text: str) -> str:
    """The beginning of ``text`` on one line."""
    text = " ".join(text[: 4 * _SNIPPET].split())
    return text if len(text) <= _SNIPPET else text[:_SNIPPET] + "..."
