"""``kind: anthropic-batch``: Anthropic's Message Batches API.

The requests are the body of ``POST /v1/messages/batches``. Once the batch's ``processing_status`` is
``ended``, ``GET /v1/messages/batches/ID/results`` gives a JSON line for each, in any order, by ``custom_id``:
succeeded, errored, canceled or expired. Source: Anthropic's reference of the Message Batches API (create,
retrieve, list, results), and its guide to batch processing, which names the limits and half the price.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Completion, FinishReason, Request, Sampling
from gristmill.core.errors import RecipeError, RequestRefusedError, TransientError
from gristmill.core.secrets import Secrets
from gristmill.engines.batch.engine import (
    CONCURRENCY,
    PRICE_SHARE,
    BatchEngine,
    Batching,
    Http,
    lines_of,
)
from gristmill.engines.batch.journal import Submitted
from gristmill.engines.openai.access import keys_of
from gristmill.engines.openai.failures import snippet
from gristmill.engines.options import EngineOptions

_VERSION = "2023-06-01"
_CLOCKS = 600.0
"""Seconds by which the server's clock and ours may differ."""
_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_UNKNOWN = {"min_p": 0.0, "repetition_penalty": 1.0, "logprobs": None, "schema": None}
"""What the API does not have, with the values that mean nothing is asked."""


class AnthropicBatch(EngineOptions, frozen=True, kw_only=True):
    """Anthropic's Message Batches API: answers within a day, at half the price.

    There is no seed: samples of one prompt differ by chance, and a temperature above 1 is refused.
    """

    pacing: ClassVar[frozenset[str]] = frozenset({"batch"})
    price_share: ClassVar[float] = PRICE_SHARE

    concurrency: Annotated[int, Meta(ge=1)] = CONCURRENCY
    """The most requests that wait for an answer at a time, which is the size that a batch can reach. About
    one and a half times as many rows are held in memory."""
    batch: Batching = Batching()
    """How requests become batches."""
    model: Annotated[str, Meta(min_length=1)]
    """The model's name."""
    base_url: Annotated[str, Meta(pattern="^https?://")] = "https://api.anthropic.com/v1"
    """The API's base URL."""
    api_key_env: str = "ANTHROPIC_API_KEY"
    """The environment variable with the API key, which is read when the engine is opened."""
    abilities: tuple[Literal["chat", "continue"], ...] = ("chat",)
    """Add ``continue`` for a model that continues a last message of the assistant; newer ones refuse that."""
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    """Further fields of each request, such as ``thinking``; part of the log's key."""

    @property
    def self_paced(self) -> bool:
        """A batch's latency says nothing about how many requests the server can take."""
        return True

    def open(self) -> BatchEngine:
        """The engine, not yet connected. ``RecipeError`` without a key."""
        key = keys_of([self.api_key_env])[self.api_key_env]
        if not key:
            raise RecipeError(
                f"${self.api_key_env} does not hold an API key.", remedy="Set it to the key, on one line."
            )
        http = Http(
            self.base_url,
            Secrets([key]),
            {"x-api-key": key, "anthropic-version": _VERSION},
            self.request_timeout,
        )
        model = self.model
        if self.extra:
            model += f" {msgspec.json.encode(self.extra, order='sorted').decode()}"
        abilities = frozenset(Ability[name.upper()] for name in self.abilities)
        return BatchEngine(self, http, AnthropicDialect(self), model, abilities)


class _Batch(Struct):
    id: str
    processing_status: str = ""
    created_at: str = ""
    request_counts: dict[str, int] = {}


class _Batches(Struct):
    data: list[_Batch]


class _Block(Struct):
    type: str
    text: str = ""
    thinking: str = ""


class _Usage(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class _Message(Struct):
    content: list[_Block]
    stop_reason: str | None = None
    usage: _Usage = msgspec.field(default_factory=_Usage)


class _Outcome(Struct):
    type: str
    message: _Message | None = None
    error: Any = None


class _Result(Struct):
    result: _Outcome


class AnthropicDialect:
    """The protocol; see ``Dialect``."""

    def __init__(self, options: AnthropicBatch) -> None:
        self._options = options

    def line(self, custom_id: str, request: Request, sample: int) -> bytes:
        """One item of ``requests``. Samples of one prompt differ by chance alone."""
        sampling = request.sampling
        _check(request, sampling)
        system = "\n\n".join(m.content for m in request.messages if m.role == "system")
        turns = [{"role": m.role, "content": m.content} for m in request.messages if m.role != "system"]
        if request.prefix:
            turns.append({"role": "assistant", "content": request.prefix})
        params: dict[str, Any] = {
            "model": self._options.model,
            "max_tokens": sampling.max_tokens,
            "messages": turns,
        }
        params |= {"system": system} if system else {}
        # Only what differs from the default: newer models refuse temperature and top_p together.
        params |= {"temperature": sampling.temperature} if sampling.temperature != 1 else {}
        params |= {"top_p": sampling.top_p} if sampling.top_p != 1 else {}
        params |= {"top_k": sampling.top_k} if sampling.top_k else {}
        params |= {"stop_sequences": list(sampling.stop)} if sampling.stop else {}
        return msgspec.json.encode({"custom_id": custom_id, "params": params | self._options.extra})

    async def submit(self, http: Http, lines: Sequence[bytes], uid: str) -> str:
        """Create the batch."""
        body = {"requests": [msgspec.Raw(line) for line in lines]}
        return (await http.ask("POST", "/messages/batches", _Batch, json=msgspec.json.encode(body))).id

    async def find(self, http: Http, batch: Submitted) -> str | None:
        """The oldest batch since then with as many requests, since these batches carry no mark of ours.

        Should it be another one, its results are not under our ids, and the requests are submitted again.
        """
        page = await http.ask("GET", "/messages/batches?limit=100", _Batches)
        for made in reversed(page.data):
            size = sum(made.request_counts.values())
            if size == len(batch.ids) and _seconds(made.created_at) >= batch.created - _CLOCKS:
                return made.id
        return None

    async def ended(self, http: Http, batch: str) -> bool:
        """Whether every request has succeeded, failed, been cancelled or expired."""
        at = await http.ask("GET", f"/messages/batches/{batch}", _Batch)
        return at.processing_status == "ended"

    async def results(self, http: Http, batch: str) -> dict[str, msgspec.Raw]:
        """The lines of the results, from the server that is configured, whatever ``results_url`` says."""
        return lines_of(await http.send("GET", f"/messages/batches/{batch}/results"))

    def completion(self, result: msgspec.Raw, request: Request) -> Completion:
        """The texts of the answer, and apart from them what the model thought."""
        try:
            read = msgspec.json.decode(result, type=_Result).result
        except msgspec.DecodeError as error:
            raise TransientError(f"a result cannot be read: {error}") from error
        if read.type == "errored":
            why = read.error.get("error", read.error) if isinstance(read.error, dict) else {}
            said = f"the batch's result is an error: {snippet(str(why.get('message') or read.error))}"
            if why.get("type") == "invalid_request_error":
                raise RequestRefusedError(said)
            raise TransientError(said)
        if read.message is None:
            raise TransientError(f"the batch did not get to this request: {read.type}", congested=True)
        usage = read.message.usage
        counts = (usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens)
        return Completion(
            text="".join(block.text for block in read.message.content if block.type == "text"),
            finish_reason=_REASONS.get(read.message.stop_reason or "", "other"),
            prompt_tokens=sum(count or 0 for count in counts),
            completion_tokens=usage.output_tokens or 0,
            reasoning="\n\n".join(b.thinking for b in read.message.content if b.thinking),
        )


def _check(request: Request, sampling: Sampling) -> None:
    """Refuse what the API does not have. ``RequestRefusedError``."""
    if request.tools or any(m.role == "tool" or m.tool_calls for m in request.messages):
        raise RequestRefusedError(
            "this engine sends no tools to Anthropic's API.",
            remedy="Set 'protocol: text' in the stage, or use an engine that calls tools.",
        )
    unknown = [name for name, none in _UNKNOWN.items() if getattr(sampling, name) != none]
    if unknown or request.score:
        raise RequestRefusedError(f"Anthropic's API has no {', '.join(unknown) or 'scores of given texts'}")
    if sampling.temperature > 1:
        raise RequestRefusedError(
            f"Anthropic's API takes temperatures from 0 to 1, not {sampling.temperature:g}"
        )


def _seconds(time: str) -> float:
    """An RFC 3339 time as Unix seconds; 0 for anything else."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except ValueError:
        return 0.0
