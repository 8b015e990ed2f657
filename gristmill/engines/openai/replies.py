"""Completions from what a server answered, however odd it is."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.engine import Completion, FinishReason, Request, TokenLogprob, TokenScore, ToolCall
from gristmill.core.errors import RequestRefusedError, TransientError
from gristmill.engines.openai.failures import UNREADABLE, readable, snippet
from gristmill.engines.openai.options import ServerOptions
from gristmill.engines.reading import ReplyParts, ReplyReader, calls_of, phases, token_count

LEAST_LOGPROB = -9999.0
"""What stands for minus infinity, which JSON cannot say; vLLM sends the same."""
_SURROGATES = re.compile("[\ud800-\udfff]")
_WORDS = ("text", "thinking", "reasoning", "summary", "content")
"""The fields of a part of a content list that may hold its text."""
_THOUGHT = ("thinking", "reasoning", "redacted_thinking")
"""The types of parts that are reasoning; also ``reasoning.text`` and the like."""


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
    content: str | list[Any] | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None


class _Choice(Struct):
    message: _Message
    finish_reason: Any = None
    index: Any = None
    logprobs: _Logprobs | None = None


class _Details(Struct):
    reasoning_tokens: Any = None


class _Usage(Struct):
    prompt_tokens: Any = None
    completion_tokens: Any = None
    completion_tokens_details: _Details | None = None


class _Response(Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None


_decode_response = msgspec.json.Decoder(_Response).decode


class Replies:
    """Reads the answers of one server."""

    def __init__(self, options: ServerOptions, url: object) -> None:
        self._options = options
        self._reading = ReplyReader(options, url)

    def completions(
        self, url: object, body: bytes, request: Request, n: int, repeated: str
    ) -> list[Completion]:
        """The ``n`` completions of an answer; ``repeated`` is what the server repeats before each.

        ``TransientError`` for a body that is not an answer, or that says that the server failed;
        ``RequestRefusedError`` for one beyond the limits of the options.
        """
        response = _response(url, body)
        choices = response.choices or []
        if len(choices) < n:
            advice = "; leave 'many' out of the engine's abilities" if choices else ""
            raise TransientError(f"{url}: {len(choices)} of {n} choices{advice}: {readable(body)}")
        if len(choices) > self._options.most_choices:
            raise RequestRefusedError(
                f"{url} sent {len(choices):,} choices, more than most_choices "
                f"({self._options.most_choices:,})"
            )
        if n > 1 and all(isinstance(c.index, int) for c in choices):
            choices.sort(key=lambda c: c.index)
        usage = response.usage or _Usage()
        details = usage.completion_tokens_details or _Details()
        prompt, whole = self._count(usage.prompt_tokens), self._count(usage.completion_tokens)
        thought = min(self._count(details.reasoning_tokens) or 0, whole or 0)
        # A server that leaves the reason out has said all there is where it has counted all.
        cut_off = whole is not None and whole >= n * request.sampling.max_tokens
        unsaid: FinishReason = "other" if prompt is None or whole is None else "length" if cut_off else "stop"
        completions = []
        for i, choice in enumerate(choices[:n]):
            calls = _calls(choice.message, request)
            answer = self._answer(url, body, choice, request, unsaid, repeated)
            if calls and answer.reason == "stop":
                answer = answer._replace(reason="tool_calls")
            logprobs = None
            if request.sampling.logprobs is not None:
                logprobs = _logprobs(choice, request.sampling.logprobs, answer.text)
            tokens = phases(logprobs, answer)
            completions.append(
                Completion(
                    text=answer.text,
                    finish_reason=answer.reason,
                    prompt_tokens=(prompt or 0) if i == 0 else 0,
                    completion_tokens=len(logprobs) if logprobs and n > 1 else _share(whole or 0, n, i),
                    logprobs=tokens.answer,
                    reasoning=answer.reasoning,
                    reasoning_tokens=_share(thought, n, i),
                    reasoning_logprobs=tokens.reasoning,
                    tool_calls=calls if answer.reason == "tool_calls" else (),
                )
            )
        return completions

    def _answer(
        self, url: object, body: bytes, choice: _Choice, request: Request, unsaid: FinishReason, repeated: str
    ) -> ReplyParts:
        """One choice as its answer, its reasoning and why it ended."""
        message, name = choice.message, choice.finish_reason
        reason = self._reading.meaning(str(name)) if name else unsaid
        if reason == "error":
            raise TransientError(f"{url}: the answer ended with finish_reason {name!r}: {readable(body)}")
        text, reasoning = _said(message)
        if not text and message.refusal:
            text, reason = _words(message.refusal), "refusal"
        elif not text and (message.tool_calls or message.function_call) and reason != "length":
            reason = "tool_calls"
        if not (_whole(text) and _whole(reasoning)):
            raise TransientError(f"{url}: not a chat completion (its text is not UTF-8): {readable(body)}")
        if message.content is None and reason == "stop" and not (text or reasoning):
            raise TransientError(f"{url}: the content is null: {readable(body)}")
        if len(text) + len(reasoning) > self._options.most_answer_chars:
            raise RequestRefusedError(
                f"{url}: the answer has {len(text) + len(reasoning):,} characters, more than "
                f"most_answer_chars ({self._options.most_answer_chars:,})"
            )
        answer = self._reading.apart(request, text.removeprefix(repeated), reasoning, reason)
        if request.sampling.schema is not None and answer.reason == "stop":
            _check_json(url, answer.text, request)
        return answer

    def _count(self, value: Any) -> int | None:
        """A number of tokens; ``None`` where there is none or what cannot be one, which is said once."""
        count = token_count(value)
        if count is not None or value is None:
            return count
        self._reading.warn_once(
            "tokens",
            f"{self._reading.where}: the token count {snippet(str(value)[:60])} cannot be one, so it "
            "counts as unknown.",
        )
        return None


def _calls(message: _Message, request: Request) -> tuple[ToolCall, ...]:
    """The calls of a message, where tools were offered."""
    given = message.tool_calls or message.function_call
    return calls_of(given) if request.tools and given else ()


def _share(total: int, n: int, i: int) -> int:
    """The share of completion ``i`` of ``n`` in a total, as evenly as integers allow."""
    share, rest = divmod(total, n)
    return share + (i < rest)


def _said(message: _Message) -> tuple[str, str]:
    """The text and the reasoning of a message, which some servers send as a list of parts."""
    given = message.reasoning_content or message.reasoning or message.reasoning_details
    reasoning = _words(given).strip() if given else ""
    if not isinstance(message.content, list):
        return message.content or "", reasoning
    kinds = [str(p.get("type", "")) if isinstance(p, dict) else "" for p in message.content]
    thought = [kind.partition(".")[0] in _THOUGHT for kind in kinds]
    text = "".join(_words(p) for p, own in zip(message.content, thought, strict=True) if not own)
    parts = [_words(p) for p, own in zip(message.content, thought, strict=True) if own]
    return text, reasoning or "\n\n".join(filter(None, parts)).strip()


def _words(value: Any, depth: int = 4) -> str:
    """The text in a text, a part of a content list, or a list of these."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth:
        return "".join(_words(part, depth - 1) for part in value)
    if isinstance(value, dict) and depth:
        return next(filter(None, (_words(value.get(name), depth - 1) for name in _WORDS)), "")
    return ""


def _response(url: object, body: bytes) -> _Response:
    try:
        try:
            return _decode_response(body)
        except UNREADABLE:
            return _leniently(body)
    except (*UNREADABLE, ValueError, RecursionError) as error:
        raise TransientError(
            f"{url}: not a chat completion ({snippet(str(error))}): {readable(body)}"
        ) from error


def _leniently(body: bytes) -> _Response:
    """An answer that is not quite JSON, or whose log-probabilities are none: the answer is paid for.

    Python's own decoder reads infinities, halves of surrogates and numbers of any size, behind a byte order
    mark too. Bytes that are not UTF-8 become halves of surrogates: in a log-probability's token these do no
    harm, in a text they show that it is not what the model wrote.
    """
    text = body.decode("utf-8-sig", errors="surrogateescape")
    found = json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 20 else float(digits))
    choices = found.get("choices") if isinstance(found, dict) else None
    given = [c.pop("logprobs", None) if isinstance(c, dict) else None for c in choices or ()]
    response = msgspec.convert(found, _Response)
    for choice, logprobs in zip(response.choices or (), given, strict=True):
        choice.logprobs = _convert_logprobs(logprobs)
    return response


def _convert_logprobs(given: Any) -> _Logprobs | None:
    """Log-probabilities with what JSON cannot say put right; ``None`` where one of them is not a number."""
    try:
        found = msgspec.convert(given, _Logprobs | None, strict=False)
    except msgspec.ValidationError:
        return None
    for token in (found.content if found else None) or []:
        for score in (token, *(token.top_logprobs or [])):
            if math.isnan(score.logprob):
                return None
            score.logprob = max(score.logprob, LEAST_LOGPROB)
            score.token = _SURROGATES.sub("\ufffd", score.token)
    return found


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


def _logprobs(choice: _Choice, most: int, text: str) -> tuple[TokenLogprob, ...] | None:
    """Each token with at most ``most`` alternatives; llama-server sends some without being asked.

    ``None`` where the server gave none: no list, or an empty one for an answer with ``text``.
    """
    tokens = choice.logprobs.content if choice.logprobs else None
    if tokens is None or (text and not tokens):
        return None
    return tuple(
        TokenLogprob(
            t.token, t.logprob, tuple(TokenScore(a.token, a.logprob) for a in (t.top_logprobs or [])[:most])
        )
        for t in tokens
    )


def _whole(text: str) -> bool:
    """Whether a text has no halves of surrogates, which UTF-8 cannot say."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
