"""Conversations: lists of messages, ShareGPT, Alpaca (and its history), and a prompt with its completion."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.errors import RowRejected
from gristmill.core.records import Conversation
from gristmill.pipelines.sources.chats import Chat, chat
from gristmill.pipelines.sources.layouts import Layout
from gristmill.pipelines.sources.options import Source
from gristmill.pipelines.sources.reading import Reader
from gristmill.pipelines.sources.values import is_nothing, kind


class Conversations(Reader):
    """Conversations of one layout. The assistant's turns are trained."""

    def __init__(self, source: Source, where: str, layout: Layout) -> None:
        super().__init__(source, where, Conversation, layout.parts, layout.needed)
        self.layout = layout

    def _record(self, row: dict[str, Any], own_id: str | None) -> Struct:
        found = {"messages": self._messages, "alpaca": self._alpaca, "completion": self._completion}[
            self.layout.form
        ](row)
        system = self.columns.given("system", row)
        if not is_nothing(system) and not any(m["role"] == "system" for m in found):
            found = [*chat(system, "system"), *found]
        if not any(m["role"] == "assistant" for m in found):
            raise RowRejected("no assistant turn", "there is nothing to train on in the conversation.")
        turns = [m | {"train": m["role"] == "assistant"} for m in found]
        tools = self.columns.given("tools", row) if "tools" in self.layout.parts else None
        used = self.columns.used(row, self.layout.parts)
        if is_nothing(tools):
            return self._made(row, own_id, {"turns": turns}, used)
        offered = tools if isinstance(tools, str) else msgspec.json.encode(tools).decode()
        return self._made(row, own_id, {"turns": turns, "tools": offered}, used)

    def _messages(self, row: dict[str, Any]) -> Chat:
        return chat(self._there("messages", row), "user")

    def _completion(self, row: dict[str, Any]) -> Chat:
        return [*chat(self._there("prompt", row), "user"), *chat(self._there("completion", row), "assistant")]

    def _alpaca(self, row: dict[str, Any]) -> Chat:
        """The instruction, an empty line, the input; before them the earlier exchanges of ``history``."""
        asked = self._text("instruction", row)
        more = self.columns.given("input", row)
        if not is_nothing(more):
            asked = f"{asked}\n\n{self._text('input', row)}"
        said = self._text("output", row)
        found: Chat = []
        for exchange in self.columns.given("history", row) or ():
            if not (isinstance(exchange, list) and len(exchange) == 2):
                raise RowRejected(
                    "history is not exchanges", f"one is {kind(exchange)}; each must be a pair of texts."
                )
            found += [*chat(exchange[0], "user"), *chat(exchange[1], "assistant")]
        return [*found, {"role": "user", "content": asked}, {"role": "assistant", "content": said}]

    def _there(self, field: str, row: dict[str, Any]) -> Any:
        value = self.columns.given(field, row)
        if value is None:
            raise self.columns.lacks(field, row)
        return value
