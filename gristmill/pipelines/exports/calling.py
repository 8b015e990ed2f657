"""What exports do with calls of tools and their results: drop the record, or write them as the OpenAI
protocol has them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from gristmill.core.engine import Message, ToolCall
from gristmill.core.errors import RowRejected
from gristmill.core.exports import Export
from gristmill.core.records import Dialogue, Turn

Calls = Literal["drop", "keep"]


class ToolExport(Export, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What formats have in common that can hold calls of tools, with an option ``tools``."""

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
