"""Conversations as plain text, for trainers of base models: TRL's ``text`` and its string form of prompt and
completion; see ``exports`` for what an export is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import ClassVar, Literal

from msgspec import Struct

from gristmill.core.answers import in_tags
from gristmill.core.errors import RowRejected
from gristmill.core.exports import Contents, Export
from gristmill.core.records import Dialogue, Turn
from gristmill.pipelines.exports.base import refuse_spans
from gristmill.pipelines.exports.reasoning import refuse_calls, told


class Text(Struct, frozen=True):
    """A row of TRL's plain format; loss falls on all of ``text``."""

    id: str
    text: str


class TextCompletion(Struct, frozen=True):
    """A row of TRL's prompt-completion format in text; loss falls on all of ``completion``."""

    id: str
    prompt: str
    completion: str


class TextExport(Export, frozen=True, forbid_unknown_fields=True):
    """The contents of a record's turns joined by ``separator``, as ``text``.

    The trainer puts loss on everything, the user's turns included. A record with an assistant turn (or a
    part of one) that must not be trained is dropped, unless ``untrained`` is ``keep``. The pieces of
    R-Tuning's plain form hold the blanks between them, so that its separator is nothing; for chats give a
    line break.
    """

    reads: ClassVar[type[Struct]] = Dialogue
    writes: ClassVar[type[Struct]] = Text
    trainer: ClassVar[str] = "TRL"
    command: ClassVar[str] = "trl sft"
    contents: ClassVar[Contents] = Contents(
        filled=("text",), reserved=("messages", "prompt", "completion", "input_ids")
    )

    separator: str = ""
    """What stands between two turns."""
    untrained: Literal["drop", "keep"] = "drop"
    """``drop`` records with an assistant turn that must not be trained, or ``keep`` them: it is trained."""
    reasoning: Literal["strip", "keep"] = "strip"
    """What becomes of the reasoning before a turn: ``strip`` leaves it out, ``keep`` puts it between
    ``<think>`` tags before the turn."""

    def rows(self, record: Dialogue, /) -> Sequence[Text]:
        """One row with all turns."""
        refuse_calls(record.turns)
        if self.untrained == "drop" and any(t.role == "assistant" and not t.train for t in record.turns):
            raise RowRejected("has an assistant turn that must not be trained")
        if self.untrained == "drop":
            refuse_spans(record)
        keep = self.reasoning == "keep"
        said = (in_tags(t.reasoning * keep, t.content) for t in record.turns)
        return [Text(record.id, self.separator.join(said))]

    def remarks(self, record: Dialogue, /) -> dict[str, int]:
        """What is trained that is not marked, and what becomes of reasoning."""
        beside = {"turns trained beside those marked": sum(not t.train for t in record.turns)}
        return beside | told(self.reasoning, record.turns)


class TextCompletionExport(Export, frozen=True, forbid_unknown_fields=True):
    """A row for each run of trained turns: all that stands before it as ``prompt``, it as ``completion``.

    So every marked turn is trained once and nothing else ever is. A record with loss on a part of a turn is
    dropped, and so is one that begins with a trained turn, which has no prompt.
    """

    reads: ClassVar[type[Struct]] = Dialogue
    writes: ClassVar[type[Struct]] = TextCompletion
    trainer: ClassVar[str] = "TRL"
    command: ClassVar[str] = "trl sft"
    contents: ClassVar[Contents] = Contents(
        filled=("prompt", "completion"), reserved=("messages", "input_ids")
    )

    separator: str = ""
    """What stands between two turns."""
    reasoning: Literal["strip", "keep", "mask"] = "strip"
    """What becomes of the reasoning before a trained turn: ``strip`` leaves it out, ``keep`` puts it between
    ``<think>`` tags before the turn, ``mask`` does so at the end of the prompt, where it is not trained; of
    several trained turns in a row only the first is given it then."""

    def rows(self, record: Dialogue, /) -> Sequence[TextCompletion]:
        """The rows, in order."""
        refuse_calls(record.turns)
        refuse_spans(record)
        made: list[tuple[str, str]] = []
        before = ""
        for trained, run in groupby(record.turns, key=_trained):
            turns = list(run)
            text = self.separator.join(t.content for t in turns)
            if trained and not before:
                raise RowRejected("begins with a trained turn", "Use the format text for these.")
            if trained:
                made.append(self._row(before, turns, text))
            before += (self.separator if before else "") + text
        if not made:
            raise RowRejected("has no turn to train")
        ids = [f"{record.id}#{n}" for n in range(1, len(made) + 1)] if len(made) > 1 else [record.id]
        return [TextCompletion(i, *texts) for i, texts in zip(ids, made, strict=True)]

    def _row(self, before: str, turns: Sequence[Turn], text: str) -> tuple[str, str]:
        """The prompt and the completion of a run of trained turns."""
        if self.reasoning == "mask" and turns[0].reasoning:
            return before + self.separator + in_tags(turns[0].reasoning, ""), text
        if self.reasoning == "keep":
            text = self.separator.join(in_tags(t.reasoning, t.content) for t in turns)
        return before, self.separator + text

    def remarks(self, record: Dialogue, /) -> dict[str, int]:
        """What becomes of reasoning."""
        return told(self.reasoning, (t for t in record.turns if t.train))


def _trained(turn: Turn) -> bool:
    return turn.train


class PassageClaim(Struct, frozen=True):
    """A claim on a passage, and what the passage makes of it: the row that ``gristmill train encoder``
    reads."""

    id: str
    passage: str
    sentence: str
    label: Literal["supported", "unsupported", "contradicted"]


class GroundingClaims(Export, frozen=True, forbid_unknown_fields=True):
    """The rows of ``grounding_rows`` without what is only told of them, for training an encoder."""

    reads: ClassVar[type[Struct]] = PassageClaim
    writes: ClassVar[type[Struct]] = PassageClaim

    def rows(self, record: PassageClaim, /) -> Sequence[PassageClaim]:
        """The record itself."""
        return [record]
