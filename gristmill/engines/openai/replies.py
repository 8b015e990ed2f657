"""Completions from what a server answered."""

from __future__ import annotations

from typing import get_args

import msgspec
from msgspec import Struct

from gristmill.core.engine import Completion, FinishReason, Request, TokenLogprob, TokenScore
from gristmill.core.errors import RequestRefusedError, TransientError
from gristmill.engines.openai.failures import UNREADABLE, readable, snippet

_FINISH_REASONS = frozenset(get_args(FinishReason))


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


_decode_response = msgspec.json.Decoder(_Response).decode


def completions_of(url: object, body: bytes, request: Request, n: int, repeated: str) -> list[Completion]:
    """The ``n`` completions of an answer; ``repeated`` is what the server repeats before each."""
    try:
        response = _decode_response(body)
    except UNREADABLE as error:
        raise TransientError(f"{url}: not a chat completion ({error}): {readable(body)}") from error
    choices = response.choices or []
    if len(choices) < n:
        advice = "; leave 'many' out of the engine's abilities" if choices else ""
        raise TransientError(f"{url}: {len(choices)} of {n} choices{advice}: {readable(body)}")
    if n > 1 and all(c.index is not None for c in choices):
        choices.sort(key=lambda c: c.index or 0)
    usage = response.usage or _Usage()
    share, rest = divmod(usage.completion_tokens or 0, n)
    completions = []
    for i, choice in enumerate(choices[:n]):
        text, reason = choice.message.content, choice.finish_reason
        if text is None and reason != "length":
            raise TransientError(f"{url}: the content is null: {readable(body)}")
        if request.sampling.schema is not None and reason == "stop":
            _check_json(url, text or "", request)
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


def _check_json(url: object, text: str, request: Request) -> None:
    """Refuse text that is not JSON: servers that do not know ``response_format`` silently ignore it."""
    if request.sampling.stop or request.prefix:
        return  # the text is only a part of the JSON
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except UNREADABLE as error:
        raise RequestRefusedError(
            f"{url}: asked for JSON, but the answer is {snippet(text)!r}; "
            "the server may not support response_format"
        ) from error


def _logprobs(choice: _Choice, most: int) -> tuple[TokenLogprob, ...]:
    """Each token with at most ``most`` alternatives; llama-server sends some without being asked."""
    tokens = (choice.logprobs.content if choice.logprobs else None) or []
    return tuple(
        TokenLogprob(
            t.token, t.logprob, tuple(TokenScore(a.token, a.logprob) for a in (t.top_logprobs or [])[:most])
        )
        for t in tokens
    )
