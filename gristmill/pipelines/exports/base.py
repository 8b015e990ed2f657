"""Curated conversations as the rows that trainers read: TRL (SFT, prompt-completion) and axolotl.

An export is a frozen Struct whose fields are its options. It turns one record into rows of the type it
``writes``, or raises ``RowRejected`` for a record that the format cannot express without training what
must not be trained. ``exports.writing`` streams stage outputs through one into a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

from msgspec import Struct
from msgspec.structs import astuple

from gristmill.core.engine import Role
from gristmill.core.errors import RowRejected
from gristmill.core.exports import Contents
from gristmill.core.records import Detail, Dialogue, ReasoningPart, Span, Turn
from gristmill.pipelines.exports.reasoning import Calls, ChatMessage, ReasoningExport, ToolExport, told


class MessagesRow(Struct, frozen=True):
    """A row of TRL's conversational SFT format."""

    id: str
    messages: tuple[ChatMessage, ...]


class PromptCompletion(Struct, frozen=True):
    """A row of TRL's conversational prompt-completion format; loss falls on all of ``completion``."""

    id: str
    prompt: tuple[ChatMessage, ...]
    completion: tuple[ChatMessage, ...]


class MarkedMessage(Struct, frozen=True):
    """A message with axolotl's loss mark, and the parts that carry it where that is not all of it; every key
    is always there."""

    role: Role
    content: str
    train: bool
    train_detail: tuple[Detail, ...] | None = None


class ReasonedMarkedMessage(Struct, frozen=True):
    """A marked message with its reasoning, on which the mark is the message's; every key is always there."""

    role: Role
    content: str
    train: bool
    train_detail: tuple[Detail, ...] | None
    reasoning_content: str | None


class MaskedMessage(Struct, frozen=True):
    """A marked message whose reasoning carries no loss; every key is always there."""

    role: Role
    content: str
    train: bool
    train_detail: tuple[Detail, ...] | None
    reasoning_content: tuple[ReasoningPart, ...] | None


class MarkedConversation(Struct, frozen=True):
    """A row for axolotl's ``chat_template`` with ``message_field_training: train``."""

    id: str
    messages: tuple[MarkedMessage, ...]


class ReasonedConversation(Struct, frozen=True):
    """As ``MarkedConversation``, with the reasoning."""

    id: str
    messages: tuple[ReasonedMarkedMessage, ...]


class MaskedConversation(Struct, frozen=True):
    """As ``MarkedConversation``, with the reasoning and no loss on it."""

    id: str
    messages: tuple[MaskedMessage, ...]


class ToolReasoningExport(ToolExport, ReasoningExport, frozen=True, forbid_unknown_fields=True):
    """Conversations for trainers that know no loss marks, with or without reasoning and calls of tools."""

    tools: Calls = "drop"
    """Whether records in which tools are called are dropped, or calls and results are kept, with the
    tools that were offered in the column ``tools`` as JSON text. With ``keep`` every row has these keys,
    null where there is nothing to say."""

    @property
    def row_type(self) -> type[Struct]:
        """``writes``, with what reasoning and calls add."""
        return self.typed(super().row_type)


class TrlSft(ToolReasoningExport, frozen=True, forbid_unknown_fields=True):
    """``messages`` for trainers that train every assistant turn alike.

    TRL's SFT trainer at its defaults trains *every* turn of them, the system's and the user's included: set
    ``assistant_only_loss=True`` there, or export ``trl-prompt-completion``.

    A record with an assistant turn (or a part of one) that must not be trained is dropped, unless
    ``untrained`` is ``keep``.
    """

    reads: ClassVar[type[Struct]] = Dialogue
    writes: ClassVar[type[Struct]] = MessagesRow
    trainer: ClassVar[str] = "TRL"
    command: ClassVar[str] = "trl sft"
    contents: ClassVar[Contents] = Contents(
        whole=("messages",), reserved=("prompt", "completion", "input_ids", "images", "image")
    )
    needs: ClassVar[Mapping[str, Any]] = {"assistant_only_loss": True}

    untrained: Literal["drop", "keep"] = "drop"
    """``drop`` records with an assistant turn that must not be trained, or ``keep`` them: TRL trains it."""

    def rows(self, record: Dialogue, /) -> Sequence[Struct]:
        """One row with all turns."""
        if self.untrained == "drop":
            if any(t.role == "assistant" and not t.train for t in record.turns):
                raise RowRejected("has an assistant turn that must not be trained")
            refuse_spans(record)
        return [self.row(record.id, self.answers(record.turns), *self.offered(record))]

    def remarks(self, record: Dialogue, /) -> dict[str, int]:
        """What becomes of reasoning."""
        return self.told(record.turns)


class TrlPromptCompletion(ToolReasoningExport, frozen=True, forbid_unknown_fields=True):
    """``prompt`` and ``completion`` message lists for TRL's SFT trainer.

    TRL puts loss on all of the completion, user turns in it included. So with ``split`` (the default)
    every trained assistant turn becomes a row of its own, with all turns before it as the prompt: each
    is trained once, and nothing else ever is. Without it a record is one row: the prompt ends after
    the last untrained assistant turn and what follows it up to the next assistant turn; trained turns
    before that are not trained, and user turns between later ones are. Either way a record with loss
    on a part of a turn is dropped: the format cannot say that (``axolotl-chat`` can).
    """

    reads: ClassVar[type[Struct]] = Dialogue
    writes: ClassVar[type[Struct]] = PromptCompletion
    trainer: ClassVar[str] = "TRL"
    command: ClassVar[str] = "trl sft"
    contents: ClassVar[Contents] = Contents(
        prompts=("prompt",), answers=("completion",), reserved=("messages", "input_ids", "images", "image")
    )
    needs: ClassVar[Mapping[str, Any]] = {"completion_only_loss": True}

    split: bool = True
    """One row for each trained turn; ``false`` makes one row of a record."""

    def rows(self, record: Dialogue, /) -> Sequence[Struct]:
        """A row for each trained turn, or one for all."""
        refuse_spans(record)
        turns = record.turns
        answers = [i for i, t in enumerate(turns) if t.role == "assistant"]
        trained = [i for i in answers if turns[i].train]
        if self.split:
            cuts = [(i, i + 1) for i in trained]
        else:
            after = max((i for i in answers if not turns[i].train), default=-1)
            cuts = [(i, len(turns)) for i in trained if i > after][:1]
        if not cuts:
            raise RowRejected("has no turn to train")
        ids = [f"{record.id}#{n}" for n in range(1, len(cuts) + 1)] if len(cuts) > 1 else [record.id]
        return [
            self.row(
                row_id, self.prompt(turns[:begin]), self.answers(turns[begin:end]), *self.offered(record)
            )
            for row_id, (begin, end) in zip(ids, cuts, strict=True)
        ]

    def remarks(self, record: Dialogue, /) -> dict[str, int]:
        """What a row without ``split`` loses or trains too much, and what becomes of reasoning."""
        told = self.told(t for t in record.turns if t.train)
        if self.split:
            return told
        _, prompt, completion, *_ = astuple(self.rows(record)[0])
        begin = len(prompt)
        return told | {
            "trained turns moved into the prompt": sum(t.train for t in record.turns[:begin]),
            "user turns inside a completion": sum(m.role == "user" for m in completion),
        }


class AxolotlChat(ToolExport, frozen=True, forbid_unknown_fields=True):
    """``messages`` with a loss mark each, for axolotl's data set type ``chat_template``.

    In axolotl's configuration: ``message_field_training: train`` and
    ``message_field_training_detail: train_detail``. The latter holds the parts of a turn where only some
    of it is trained; ``content`` stays text, so that a column has one type.
    """

    reads: ClassVar[type[Struct]] = Dialogue
    writes: ClassVar[type[Struct]] = MarkedConversation
    trainer: ClassVar[str] = "axolotl"
    command: ClassVar[str] = "axolotl train"
    contents: ClassVar[Contents] = Contents(whole=("messages",))
    needs: ClassVar[Mapping[str, Any]] = {
        "datasets": {
            "type": "chat_template",
            "field_messages": "messages",
            "message_field_training": "train",
            "message_field_training_detail": "train_detail",
        }
    }

    reasoning: Literal["strip", "keep", "mask"] = "strip"
    """What becomes of the reasoning before a turn: ``strip`` leaves it out, ``keep`` puts it into the
    message's ``reasoning_content``, with loss where all of the turn is trained, ``mask`` without loss."""
    tools: Calls = "drop"
    """Whether records in which tools are called are dropped, or calls and results are kept, with the
    tools that were offered in the column ``tools`` as JSON text. With ``keep`` every row has these keys,
    null where there is nothing to say."""

    @property
    def row_type(self) -> type[Struct]:
        """``MarkedConversation``, or what holds the reasoning too."""
        if self.reasoning == "strip":
            return self.typed(self.writes)
        return self.typed(ReasonedConversation if self.reasoning == "keep" else MaskedConversation)

    def rows(self, record: Dialogue, /) -> Sequence[Struct]:
        """One row with all turns."""
        messages = tuple(self.spoken(self._message(t), t) for t in record.turns)
        return [self.row_type(record.id, messages, *self.offered(record))]

    def remarks(self, record: Dialogue, /) -> dict[str, int]:
        """What becomes of reasoning."""
        return told(self.reasoning, record.turns)

    def faults(self, row: Mapping[str, Any], /) -> Iterator[str]:
        """axolotl drops rows without a trained token."""
        if not any(message["train"] for message in row["messages"]):
            yield "no turn is trained"

    def _message(self, turn: Turn) -> Struct:
        details = _details(turn)
        if self.reasoning == "strip":
            return MarkedMessage(turn.role, turn.content, turn.train, details)
        if self.reasoning == "keep":
            return ReasonedMarkedMessage(turn.role, turn.content, turn.train, details, turn.reasoning or None)
        parts = (ReasoningPart("text", turn.reasoning, False),) if turn.reasoning else None
        if parts and turn.train and details is None:
            # With marks on the reasoning axolotl trains no more of the content than is marked, too.
            details = (Detail(0, len(turn.content) - 1, True),)
        return MaskedMessage(turn.role, turn.content, turn.train, details, parts)


def refuse_spans(record: Dialogue) -> None:
    """``RowRejected`` for a record with loss on a part of a turn, which only axolotl's format can say."""
    if any(t.train and t.spans for t in record.turns):
        raise RowRejected("has loss on a part of a turn", "Use the format axolotl-chat for these.")


def _details(turn: Turn) -> tuple[Detail, ...] | None:
    """The whole content cut at the ends of the spans; ``None`` where all or nothing is trained."""
    if not turn.train or not turn.spans:
        return None
    ends = {0, len(turn.content), *(s.start for s in turn.spans), *(s.end for s in turn.spans)}
    return tuple(Detail(a, b - 1, _covered(turn.spans, a)) for a, b in pairwise(sorted(ends)))


def _covered(spans: Sequence[Span], at: int) -> bool:
    return any(s.start <= at < s.end for s in spans)
