"""Reward models behind vLLM's ``/pooling``, ``/score`` and ``/rerank``, or servers that speak as these do.

Requests and replies are as vLLM's protocol defines them (``vllm/entrypoints/pooling``): ``/pooling`` takes
the conversation as ``messages`` and answers with numbers, or with a row of numbers for each step; ``/score``
and ``/rerank`` take two texts, of which the first is all that stands before the answer.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Completion, Request
from gristmill.core.errors import RequestRefusedError, TransientError
from gristmill.engines.openai.access import address, keys_of
from gristmill.engines.openai.engine import OpenAIEngine
from gristmill.engines.openai.failures import UNREADABLE, readable
from gristmill.engines.openai.options import ServerOptions
from gristmill.engines.reading import sent, token_count

Rows = list[list[float]]
_encode = msgspec.json.Encoder().encode


class RewardServer(ServerOptions, frozen=True, kw_only=True):
    """A reward model on a server: an engine that gives rewards to given answers and generates nothing."""

    route: Literal["pooling", "score", "rerank"] = "pooling"
    """The path that is asked: ``pooling`` with the conversation, for reward models and process reward
    models; ``score`` or ``rerank`` with two texts, for cross-encoders."""
    activation: bool | None = None
    """Whether the server puts a sigmoid or softmax over the numbers (``use_activation``): ``false`` for a
    reward's own scale, ``true`` for probabilities; ``null`` leaves it to the model's configuration."""

    @property
    def identity(self) -> str:
        """The model as the log's key has it, with the route and the activation."""
        own = ServerOptions.identity.fget(self)  # type: ignore[attr-defined]
        activation = "" if self.activation is None else f" activation={self.activation}"
        return f"{own} route={self.route}{activation}"

    def open(self) -> RewardServerEngine:
        """The engine, not yet connected. ``RecipeError`` for a URL or a key that cannot be used."""
        address(self.base_url)
        return RewardServerEngine(self, keys_of(self.key_names))


class _Pooled(Struct):
    data: Any


class _Scored(Struct):
    score: float


class _Ranked(Struct):
    relevance_score: float


class _Usage(Struct):
    prompt_tokens: Any = None
    total_tokens: Any = None


class _Reply(Struct):
    data: list[Any] | None = None
    results: list[Any] | None = None
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Reply).decode


class RewardServerEngine(OpenAIEngine):
    """One try of a request against a reward model's server; see ``RewardServer`` and ``Ability.REWARD``."""

    def __init__(self, options: RewardServer, keys: dict[str, str]) -> None:
        """``keys`` by the environment variables that they are from."""
        super().__init__(options, keys)  # type: ignore[arg-type]
        self._reward = options
        base = options.base_url.rstrip("/")
        if options.route == "pooling":
            base = base.removesuffix("/v1")  # vLLM has it at the root alone
        self._url = address(f"{base}/{options.route}")
        self.abilities = frozenset({Ability.REWARD})

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """The rewards of the request's ``prefix``, as JSON; the same for all ``n``.

        ``RequestRefusedError`` for a request that is not one to score, ``TransientError`` for a body that is
        not an answer.
        """
        if not request.score:
            raise RequestRefusedError(
                f"{self._url}: a reward model generates nothing.",
                remedy="Give the stage another engine, and name this one in a scorer's 'engine'.",
            )
        body = await self._post(_encode(self._asked(request)))
        rows, tokens = _read(body, self._reward.route, str(self._url))
        found = Completion(_encode(rows).decode(), prompt_tokens=tokens)
        return [found, *(replace(found, prompt_tokens=0) for _ in range(n - 1))]

    def _asked(self, request: Request) -> dict[str, Any]:
        options = self._reward
        body: dict[str, Any] = {"model": options.model}
        if options.activation is not None:
            body["use_activation"] = options.activation
        before = "\n\n".join(message.content for message in request.messages)
        if options.route == "pooling":
            answer = {"role": "assistant", "content": request.prefix}
            body["messages"] = [*sent(request.messages, options.reasoning_as), answer]
        elif options.route == "score":
            body |= {"text_1": before, "text_2": request.prefix}
        else:
            body |= {"query": before, "documents": [request.prefix]}
        return body | options.extra


def _read(body: bytes, route: str, url: str) -> tuple[Rows, int]:
    """The rows of numbers in an answer, and the tokens of the prompt. ``TransientError`` for another body."""
    try:
        reply = _decode(body)
        found = (reply.results if route == "rerank" else reply.data) or []
        if len(found) != 1:
            raise msgspec.ValidationError(f"{len(found)} results, one was asked for")
        rows = _rows(found[0], route)
    except UNREADABLE as error:
        raise TransientError(f"{url}: not an answer of /{route} ({error}): {readable(body)}") from error
    usage = reply.usage or _Usage()
    return rows, token_count(usage.prompt_tokens) or token_count(usage.total_tokens) or 0


def _rows(result: Any, route: str) -> Rows:
    """The numbers of one result; a plain list is the one row of the whole answer."""
    if route == "score":
        rows = [[msgspec.convert(result, _Scored).score]]
    elif route == "rerank":
        rows = [[msgspec.convert(result, _Ranked).relevance_score]]
    else:
        data = msgspec.convert(result, _Pooled).data
        flat = isinstance(data, list) and not any(isinstance(one, list) for one in data)
        rows = [msgspec.convert(data, list[float])] if flat else msgspec.convert(data, Rows)
    if not rows or not all(row and all(map(math.isfinite, row)) for row in rows):
        raise msgspec.ValidationError("no finite numbers")
    return rows
