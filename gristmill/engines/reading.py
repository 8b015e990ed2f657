"""How an answer is read, whichever engine gave it: why it ended, and its reasoning apart from the answer."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from gristmill.core.answers import in_tags, split_reasoning
from gristmill.core.engine import CalledFunction, FinishReason, Message, Request, TokenLogprob, ToolCall
from gristmill.engines.options import FinishMeaning, ReadingOptions, ReasoningAs

_MOST_TOKENS = 2**31

_log = logging.getLogger(__name__)

# The names of the OpenAI protocol first, then those of other servers that speak it or are translated to it.
_NAMES: Mapping[FinishMeaning, str] = {
    "stop": "stop eos eos_token end_turn stop_sequence end complete",
    "length": "length max_tokens max_output_tokens model_length token_limit model_context_window_exceeded",
    "content_filter": "content_filter safety recitation blocklist prohibited_content spii sensitive "
    "guardrail_intervened",
    "tool_calls": "tool_calls tool_use function_call",
    "refusal": "refusal",
    "other": "other",
    "error": "error abort aborted cancelled network_error insufficient_system_resource",
}
FINISH_REASONS = {name: meaning for meaning, names in _NAMES.items() for name in names.split()}
"""What the names of finish reasons mean, in lower case."""


class ReplyParts(NamedTuple):
    """A reply taken apart."""

    text: str
    reasoning: str
    reason: FinishReason
    whole: str
    """The text that the answer was taken from."""


class ReplyReader:
    """The options for reading answers at work: each name that is not known is said once."""

    def __init__(self, options: ReadingOptions, where: object) -> None:
        """``where`` is the server or model, for messages."""
        own = {name.casefold(): meaning for name, meaning in options.finish_reasons.items()}
        self._meanings = {**FINISH_REASONS, **own}
        self._in_text = options.reasoning_in_text
        self.where = where
        self._said: set[str] = set()

    def meaning(self, name: str) -> FinishMeaning:
        """What a finish reason means; ``other`` for one that is in no table."""
        known = self._meanings.get(name.casefold())
        if known is None:
            self.warn_once(
                name,
                f"{self.where}: the finish reason {name[:60]!r} is not known, so its answers count as not "
                "finished. Say what it means under the engine's 'finish_reasons', such as "
                f"{{{name[:60]}: stop}}.",
            )
        return known or "other"

    def warn_once(self, about: str, message: str) -> None:
        """A warning in the run's log and on the terminal, the first time that it is ``about`` this."""
        if about not in self._said:
            self._said.add(about)
            _log.warning("%s", message)

    def apart(self, request: Request, text: str, reasoning: str, reason: FinishReason) -> ReplyParts:
        """A reply's answer and reasoning, of its ``text`` and what the server itself took for ``reasoning``.

        Reasoning without an answer behind it was not finished: the text is then empty, and what ended by
        itself (``stop``) ends as ``other``.
        """
        whole = text
        if reasoning:
            text = text.lstrip()
        elif self._in_text != "keep" and not request.prefix:
            reasoning, answer = split_reasoning(text, begun=self._in_text == "begun")
            text = answer or ""
        if not text and reason == "stop" and (reasoning or whole.strip()):
            reason = "other"
        return ReplyParts(text, reasoning, reason, whole)


def token_count(value: Any) -> int | None:
    """A number of tokens, whatever it is written as; ``None`` for what cannot be one."""
    try:
        count = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(count) if 0 <= count < _MOST_TOKENS else None


class TokenPhases(NamedTuple):
    """The tokens of a reply by phase: of the reasoning, with the marks around it, and of the answer. Each is
    ``None`` where there are none or it cannot be told which they are."""

    reasoning: tuple[TokenLogprob, ...] | None
    answer: tuple[TokenLogprob, ...] | None


def phases(tokens: Sequence[TokenLogprob] | None, answer: ReplyParts) -> TokenPhases:
    """The tokens of a whole reply, taken apart. An answer without text has no tokens, which is not
    ``None``."""
    if tokens is None or (answer.text == answer.whole and not answer.reasoning):
        return TokenPhases(None, None if tokens is None else tuple(tokens))
    if not answer.text:
        return TokenPhases(tuple(tokens) or None if answer.reasoning else None, ())
    at, spelled = "".join(t.token for t in tokens).rfind(answer.text), 0
    for i, token in enumerate(tokens if at >= 0 else ()):
        spelled += len(token.token)
        if spelled > at:
            return TokenPhases(tuple(tokens[:i]) or None if answer.reasoning else None, tuple(tokens[i:]))
    return TokenPhases(None, None)


def sent(messages: Sequence[Message], how: ReasoningAs) -> list[dict[str, Any]]:
    """Messages as they are sent, with the reasoning of earlier turns where the options want it, and with
    calls of tools and the ids of results."""
    turns = []
    for message in messages:
        turn: dict[str, Any] = {"role": str(message.role), "content": message.content}
        if message.tool_calls:
            turn["tool_calls"] = msgspec.to_builtins(message.tool_calls)
        if message.tool_call_id:
            turn["tool_call_id"] = message.tool_call_id
        if message.reasoning and how == "tags":
            turn["content"] = in_tags(message.reasoning, message.content)
        elif message.reasoning:
            turn[how] = message.reasoning
        turns.append(turn)
    return turns


def calls_of(given: Any) -> tuple[ToolCall, ...]:
    """The calls in the ``tool_calls`` of a server's message; ``()`` where one of them names no function.

    Arguments that are an object become its text, and a call without an id gets one by its place.
    """
    found = []
    for place, one in enumerate(given if isinstance(given, list) else [given]):
        function = one.get("function", one) if isinstance(one, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if function is None or not isinstance(name, str) or not name:
            return ()
        arguments = function.get("arguments", {})
        if not isinstance(arguments, str):
            arguments = msgspec.json.encode(arguments).decode()
        own = one.get("id")
        found.append(
            ToolCall(
                own if isinstance(own, str) and own else f"call_{place}", CalledFunction(name, arguments)
            )
        )
    return tuple(found)


_OPENED, _CLOSED = "<tool_call>", "</tool_call>"


def calls_in(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    """A text without the calls that it makes between ``<tool_call>`` tags, as models of the Hermes, Qwen and
    SmolLM families write them, and these calls. A text with a call that is not JSON is returned as it is."""
    said: list[str] = []
    found: list[str] = []
    at = 0
    # By find, not by a pattern: text of a model with many tags would take time by the square of its length.
    while (begin := text.find(_OPENED, at)) >= 0 and (end := text.find(_CLOSED, begin)) >= 0:
        inner = text[begin + len(_OPENED) : end].strip()
        end += len(_CLOSED)
        is_call = inner.startswith("{") and inner.endswith("}")
        found += [inner] if is_call else []
        said.append(text[at : begin if is_call else end])
        at = end
    try:
        calls = calls_of([msgspec.json.decode(one) for one in found])
    except msgspec.DecodeError:
        calls = ()
    return ("".join([*said, text[at:]]).strip(), calls) if calls else (text, ())
