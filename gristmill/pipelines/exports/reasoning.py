"""What exports do with the reasoning of a turn: leave it out, or give it in a field or in tags."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Literal, get_type_hints

import msgspec
from msgspec import Struct

from gristmill.core.answers import in_tags
from gristmill.core.engine import Message, Role
from gristmill.core.exports import Export
from gristmill.core.records import Turn
from gristmill.pipelines.exports.calling import refuse_calls

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
