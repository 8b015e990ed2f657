"""How a model calls tools: by the protocol of its server, or in its own text.

Both give the same: calls out of a completion, and the messages in which it reads what came of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Literal

from msgspec import Struct

from gristmill.core.engine import Ability, CalledFunction, Completion, Message, ToolCall

ProtocolName = Literal["native", "text"]

INSTRUCTIONS = (
    "You may use tools, one call at a time:\n{tools}\n\nTo use one, end your message with a line like "
    "this and wait for its result:\n<tool>{example_name} {example_arguments}</tool>\n\nWhen you need no "
    "tool, give your answer."
)
"""What a model that calls tools in its text is told of them."""
_CLOSE = "</tool>"
_CALL = re.compile(r"<tool>(.*?)(?:</tool>|\Z)", re.DOTALL)
_PARTS = re.compile(r"\s*([A-Za-z_][\w-]*)\s*(\{.*\})\s*", re.DOTALL)


class Native(Struct, frozen=True):
    """Calls in ``tool_calls`` and results in messages of the role ``tool``, as in the OpenAI protocol."""

    tools: str
    """The tools, as in ``Request``."""

    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.CHAT, Ability.TOOLS})
    stops: ClassVar[tuple[str, ...]] = ()

    def said(self, completion: Completion) -> Message:
        """The model's turn."""
        calls = completion.tool_calls if completion.finish_reason == "tool_calls" else ()
        return Message("assistant", completion.text, completion.reasoning, calls)

    def calls(self, said: Message, completion: Completion) -> tuple[ToolCall, ...]:
        """The calls that a turn makes."""
        return said.tool_calls

    def results(self, calls: Sequence[ToolCall], texts: Sequence[str]) -> tuple[Message, ...]:
        """A message for each result."""
        return tuple(
            Message("tool", text, tool_call_id=call.id) for call, text in zip(calls, texts, strict=True)
        )


class Textual(Struct, frozen=True):
    """A call as ``<tool>NAME {JSON}</tool>`` at the end of the model's own text, and the result in a message
    of the user: for models without calls of their own."""

    tools: str = ""
    """Nothing: the tools are described in the system message."""

    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.CHAT})
    stops: ClassVar[tuple[str, ...]] = (_CLOSE,)

    def said(self, completion: Completion) -> Message:
        """The model's turn up to its call; what it wrote behind that cannot rest on the result."""
        text = completion.text
        if (call := _CALL.search(text)) is not None and completion.finished:
            text = text[: call.end()].removesuffix(_CLOSE).rstrip() + _CLOSE
        return Message("assistant", text, completion.reasoning)

    def calls(self, said: Message, completion: Completion) -> tuple[ToolCall, ...]:
        """The call that a finished turn ends with. One that cannot be read has the name that stands there,
        and its whole text for arguments, which the tools then refuse."""
        found = _CALL.search(said.content) if completion.finished else None
        if found is None:
            return ()
        parts = _PARTS.fullmatch(found[1])
        name, arguments = (parts[1], parts[2]) if parts else ("", found[1].strip())
        return (ToolCall("", CalledFunction(name, arguments)),)

    def results(self, calls: Sequence[ToolCall], texts: Sequence[str]) -> tuple[Message, ...]:
        """One message with the result."""
        shown = "\n\n".join(f"<result>\n{text}\n</result>" for text in texts)
        return (Message("user", shown),)


Protocol = Native | Textual


def in_words(message: Message) -> str:
    """What the model wrote in a turn, its calls as ``<tool>NAME {JSON}</tool>`` behind its text."""
    calls = [f"<tool>{c.function.name} {c.function.arguments}</tool>" for c in message.tool_calls]
    return "\n".join([*([message.content] if message.content else []), *calls])
