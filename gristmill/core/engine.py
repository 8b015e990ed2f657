"""What an engine is asked, what it answers, and the protocol that every engine follows."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Protocol, Self, runtime_checkable

from msgspec import Meta, Struct
from msgspec.structs import force_setattr

Role = Literal["system", "user", "assistant", "tool"]

FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "refusal", "other"]
"""Why a completion ended. Only ``stop`` (end of turn or a stop string) is a finished answer."""


class Ability(StrEnum):
    """What an engine can do. A stage that needs a missing ability fails before the first token."""

    CHAT = "chat"
    CONTINUE = "continue an assistant turn"
    LOGPROBS = "token log-probabilities"
    SCORE = "score given text"
    TOOLS = "call tools"
    REWARD = "reward given answers"
    SEED = "seed"
    MANY = "several completions of one prompt in one request"


class CalledFunction(Struct, frozen=True):
    """Which function a model calls, and with what."""

    name: str
    """The function's name."""
    arguments: str
    """Its arguments as the model wrote them: the text of a JSON object, or what was meant to be one."""


class ToolCall(Struct, frozen=True):
    """A call of a tool in an assistant's message, in the schema of the OpenAI protocol."""

    id: str
    """What the result names as its ``tool_call_id``."""
    function: CalledFunction
    """The function and its arguments."""
    type: Literal["function"] = "function"
    """The kind of tool; functions are the only kind."""


class Message(Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation."""

    role: Role
    """Who speaks: ``system``, ``user`` or ``assistant``; or ``tool``, for the result of a call."""
    content: str
    """The text of the turn."""
    reasoning: str = ""
    """What the model thought before it, apart from the text; empty where it did not, or where that is not
    sent along."""
    tool_calls: tuple[ToolCall, ...] = ()
    """The calls of tools that an assistant's message makes, beside its text or without any."""
    tool_call_id: str = ""
    """Of a message of the role ``tool``: the call whose result it is."""


class Sampling(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How to sample."""

    temperature: Annotated[float, Meta(ge=0, le=10)] = 1.0
    """The logits are divided by it, 0 to 10; 0 always takes the likeliest token."""
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Sample only from the likeliest tokens with this share (0 to 1) of the probability; 1 for all."""
    top_k: Annotated[int, Meta(ge=0)] = 0
    """Sample only from this many of the likeliest tokens; 0 for all."""
    min_p: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Sample only from tokens at least this share, in [0, 1), as likely as the likeliest; 0 for all."""
    repetition_penalty: Annotated[float, Meta(gt=0)] = 1.0
    """Above 1, tokens that have already occurred become less likely; 1 changes nothing."""
    max_tokens: Annotated[int, Meta(ge=1)] = 512
    """The largest number of tokens of one completion. A completion that reaches it is cut off and never
    counts as an answer."""
    stop: tuple[str, ...] = ()
    """Texts at which a completion ends; they are not part of it."""
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    """Return the log-probability of each sampled token, with this many alternatives (0 to 20); ``null`` for
    none."""
    schema: str | None = None
    """A JSON Schema, as JSON text, that the completion obeys as long as its tokens suffice; ``null`` for
    free text. An engine that does not support it refuses the request."""

    def __post_init__(self) -> None:
        # ``omit_defaults`` leaves a field out where it *is* the default, not where it equals it, and the
        # log's key is made of what is left: a temperature of 1.0 from a file must be the same request.
        for name, default in zip(self.__struct_fields__, self.__struct_defaults__, strict=True):
            if getattr(self, name) == default:
                force_setattr(self, name, default)


class Request(Struct, frozen=True, omit_defaults=True):
    """One prompt and how to sample from it.

    ``prefix`` is the beginning of the assistant's answer, which the engine continues (the completion's
    text does not repeat it). Sample ``i`` of a request is drawn with seed ``seed + i``, whether it is
    asked for alone or as one of several, so ``seed`` is the seed of sample 0.

    With ``score`` the log-probabilities of the prefix itself are asked for and nothing is generated
    (``Ability.SCORE``). The completion's text is then the prefix, and ``logprobs`` its tokens, each with
    the part of the prefix that it stands for: joined they are the prefix. ``completion_tokens`` is 0.

    ``tools`` are the tools that the model may call, as the text of a JSON list in the schema of the OpenAI
    protocol (``Ability.TOOLS``); empty for none.

    An engine with ``Ability.REWARD`` is a reward model, which takes such requests only: its completion's text
    is JSON, a list of rows of numbers: one row for the whole answer, or one for each of its steps.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    seed: int | None = None
    prefix: str = ""
    score: bool = False
    tools: str = ""


def score_request(messages: Sequence[Message], text: str) -> Request:
    """The request for the log-probabilities of ``text`` as the answer to ``messages``.

    It has no seed and the default sampling, since neither has an effect, so that one text is scored once.
    ``ValueError`` for an empty text, which has no tokens.
    """
    if not text:
        raise ValueError("an empty text cannot be scored")
    return Request(tuple(messages), Sampling(), prefix=text, score=True)


class TokenScore(Struct, frozen=True):
    """A token and its natural-log probability."""

    token: str
    """The token as text."""
    logprob: float
    """Its natural-log probability."""


class TokenLogprob(Struct, frozen=True):
    """A sampled token with its natural-log probability and, if asked for, its likeliest alternatives."""

    token: str
    """The token as text."""
    logprob: float
    """Its natural-log probability."""
    top: tuple[TokenScore, ...] = ()
    """The likeliest tokens in its place, if they were asked for."""


class Completion(Struct, frozen=True, omit_defaults=True):
    """One answer. ``prompt_tokens`` is counted on the first completion of a request and 0 on its
    siblings, so that sums over completions are what was paid."""

    text: str
    """The answer, without the prefix that it continues and without the reasoning before it; empty where the
    reasoning did not end."""
    finish_reason: FinishReason = "stop"
    """Why it ended; only ``stop`` is a finished answer."""
    prompt_tokens: int = 0
    """Tokens of the prompt, on the first completion of a request only."""
    completion_tokens: int = 0
    """Tokens of the answer and of the reasoning before it."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    """Log-probabilities of the answer's tokens, ``null`` where they were not asked for or not given."""
    reasoning: str = ""
    """What the model thought before it answered, where the engine tells it apart."""
    reasoning_tokens: int = 0
    """How many of ``completion_tokens`` are the reasoning's; 0 where the server does not say."""
    reasoning_logprobs: tuple[TokenLogprob, ...] | None = None
    """Log-probabilities of the reasoning's tokens and the marks around it, ``null`` as for the answer's."""
    tool_calls: tuple[ToolCall, ...] = ()
    """The calls of tools that it makes. Such a completion ends by ``tool_calls``: it is a whole turn and no
    answer."""

    @property
    def finished(self) -> bool:
        """Whether the model ended the answer itself; a truncated answer never counts as an answer."""
        return self.finish_reason == "stop"


class Engine(Protocol):
    """A source of completions, used as ``async with engine``.

    ``generate`` makes one try. It returns completions ``first .. first + n - 1`` of the request
    (``n > 1`` only with ``Ability.MANY``) or raises ``TransientError`` or ``RequestRefusedError``. Retries,
    pacing and the completion log are added by ``gristmill.engines.Session``, which is itself an
    ``Engine``.
    """

    @property
    def model(self) -> str:
        """The identity of the weights, part of every completion's key in the log."""
        ...

    @property
    def abilities(self) -> frozenset[Ability]:
        """What this engine can do."""
        ...

    @property
    def concurrency(self) -> int:
        """The most requests to have in flight."""
        ...

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """Completions ``first .. first + n - 1`` of ``request``, in order."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class LastingEngine(Protocol):
    """An engine whose requests outlive the process: a later one is given their answers. So what it has in
    flight is not waited for when a run is stopped."""

    def keep_in(self, folder: Path) -> None:
        """Keep what it has to remember below ``folder``, the one of the completion log."""
        ...


class EngineWrapper:
    """An engine that wraps another one and forwards everything to ``self._engine``.

    A subclass overrides what it changes, mostly ``generate``. It opens and closes the engine behind it; where
    that is somebody else's to do, see ``BorrowedEngine``.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def model(self) -> str:
        """The identity of the wrapped engine's weights."""
        return self._engine.model

    @property
    def abilities(self) -> frozenset[Ability]:
        """What the wrapped engine can do."""
        return self._engine.abilities

    @property
    def concurrency(self) -> int:
        """The most requests that the wrapped engine has in flight."""
        return self._engine.concurrency

    @property
    def server(self) -> Any:
        """The ``gristmill.engines.served.Server`` behind the wrapped engine, if there is one."""
        return getattr(self._engine, "server", None)

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """What the wrapped engine answers."""
        return await self._engine.generate(request, first=first, n=n)

    async def __aenter__(self) -> Self:
        await self._engine.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._engine.__aexit__(kind, error, trace)


class BorrowedEngine(EngineWrapper):
    """An ``EngineWrapper`` around an engine that its owner opens and closes, so that it does neither."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
