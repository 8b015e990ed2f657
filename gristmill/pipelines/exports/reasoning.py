"""What exports do with the reasoning of a turn, and with calls of tools and their results."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from gristmill.core.answers import in_tags
from gristmill.core.engine import Message, Role, ToolCall
from gristmill.core.errors import RowRejected
from gristmill.core.exports import Export
from gristmill.core.records import Dialogue, Turn

REMARKS = {
    "strip": "turns without the reasoning that was before them",
    "keep": "turns with their reasoning",
    "tags": "turns with their reasoning in tags",
    "mask": "turns with their reasoning, which is not trained",
}
"""What the closing table says, by the option ``reasoning``."""


class ChatMessage(Struct, frozen=True):
    """A message without reasoning."""

    role: Role
    content: str


class ReasonedMessage(Struct, frozen=True):
    """A message with its reasoning, null where there is none: the key is always there, so that readers that
    take a column's type from the first rows find it."""

    role: Role
    content: str
    reasoning_content: str | None


class ReasoningExport(Export, frozen=True, forbid_unknown_fields=True):
    """Conversations for trainers that know no loss marks, with or without the model's reasoning.

    Where a turn is a part of the prompt its reasoning is left out, as it is when the model is asked.
    """

    reasoning: Literal["strip", "keep", "tags"] = "strip"
    """What becomes of the reasoning before a turn: ``strip`` leaves it out, ``keep`` puts it into the
    message's ``reasoning_content``, which the model's chat template must render, ``tags`` between ``<think>``
    tags before the content. Either way what is trained of the turn is trained of it too."""

    @property
    def row_type(self) -> type[Struct]:
        """``writes``; with ``keep`` its messages have ``reasoning_content``."""
        return reasoned(self.writes) if self.reasoning == "keep" else self.writes

    def row(self, *values: Any) -> Struct:
        """A row of these values."""
        return self.row_type(*values)

    def answers(self, turns: Iterable[Turn | Message]) -> tuple[Struct, ...]:
        """Messages with the reasoning as the option wants it."""
        if self.reasoning == "keep":
            return tuple(
                self.spoken(ReasonedMessage(t.role, t.content, t.reasoning or None), t) for t in turns
            )
        tags = self.reasoning == "tags"
        return tuple(
            self.spoken(ChatMessage(t.role, in_tags(t.reasoning * tags, t.content)), t) for t in turns
        )

    def prompt(self, turns: Iterable[Turn | Message]) -> tuple[Struct, ...]:
        """Messages without reasoning."""
        if self.reasoning == "keep":
            return tuple(self.spoken(ReasonedMessage(t.role, t.content, None), t) for t in turns)
        return tuple(self.spoken(ChatMessage(t.role, t.content), t) for t in turns)

    def spoken(self, message: Struct, turn: Turn | Message) -> Struct:
        """A message of the format. ``RowRejected`` for a turn that calls tools, which it cannot hold."""
        refuse_calls([turn])
        return message

    def told(self, turns: Iterable[Turn | Message]) -> dict[str, int]:
        """The remark on the reasoning of ``turns``."""
        return told(self.reasoning, turns)


def told(how: str, turns: Iterable[Turn | Message]) -> dict[str, int]:
    """What is remarked of turns with reasoning, under the option ``how``; nothing without such."""
    count = sum(bool(t.reasoning) for t in turns)
    return {REMARKS[how]: count} if count else {}


@cache
def reasoned(row: type[Struct]) -> type[Struct]:
    """A type of rows with ``ReasonedMessage`` in the place of ``ChatMessage``."""
    plain, full = tuple[ChatMessage, ...], tuple[ReasonedMessage, ...]
    hints = get_type_hints(row)
    fields = [(name, full if hints[name] == plain else hints[name]) for name in row.__struct_fields__]
    return msgspec.defstruct(f"Reasoned{row.__name__}", fields, frozen=True)


Calls = Literal["drop", "keep"]


class ToolExport(Export, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What formats have in common that can hold calls of tools.

    Their option ``tools`` is a field of each: a Struct cannot have two bases with fields of their own.
    """

    @property
    def kept(self) -> bool:
        """Whether calls are written."""
        wanted: Calls = getattr(self, "tools", "drop")
        return wanted == "keep"

    def typed(self, row: type[Struct]) -> type[Struct]:
        """A type of rows, with calls where they are kept."""
        return tooled(row) if self.kept else row

    def spoken(self, message: Struct, turn: Turn | Message) -> Struct:
        """A message of the format with the calls of its turn. ``RowRejected`` where they are not kept."""
        if not self.kept:
            refuse_calls([turn])
            return message
        own = msgspec.structs.asdict(message)
        calls = turn.tool_calls or None
        return calling(type(message))(**own, tool_calls=calls, tool_call_id=turn.tool_call_id or None)

    def offered(self, record: Dialogue) -> tuple[str | None, ...]:
        """The value of the column ``tools``, where there is one."""
        return (record.tools or None,) if self.kept else ()


def calls_tools(turn: Turn | Message) -> bool:
    """Whether a turn calls a tool or is a tool's result."""
    return turn.role == "tool" or bool(turn.tool_calls)


def refuse_calls(turns: Iterable[Turn | Message]) -> None:
    """``RowRejected`` for turns that call tools, in a format that would lose the calls."""
    if any(map(calls_tools, turns)):
        raise RowRejected("calls tools", "Set 'tools: keep' in a format that has it: docs/tools.md.")


@cache
def calling(message: type[Struct]) -> type[Struct]:
    """A type of messages with calls and what they are called by."""
    own: list[Any] = [(name, get_type_hints(message)[name]) for name in message.__struct_fields__]
    more = [("tool_calls", tuple[ToolCall, ...] | None), ("tool_call_id", str | None)]
    return msgspec.defstruct(f"Calling{message.__name__}", [*own, *more], frozen=True)


@cache
def tooled(row: type[Struct]) -> type[Struct]:
    """A type of rows whose messages have calls, and which has ``tools``."""
    hints = get_type_hints(row)
    fields: list[Any] = []
    for name in row.__struct_fields__:
        hint = hints[name]
        item = get_args(hint)[0] if get_origin(hint) is tuple else None
        if isinstance(item, type) and issubclass(item, Struct) and "role" in item.__struct_fields__:
            hint = tuple[calling(item), ...]  # type: ignore[misc]
        fields.append((name, hint))
    return msgspec.defstruct(f"Tooled{row.__name__}", [*fields, ("tools", str | None)], frozen=True)
