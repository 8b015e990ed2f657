"""Conversations in the layouts of trainers beside TRL: ShareGPT, Alpaca, LLaMA-Factory, verl, OpenRLHF."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from msgspec import Struct

from gristmill.core.answers import in_tags
from gristmill.core.errors import RowRejected
from gristmill.core.exports import Contents, Export
from gristmill.core.records import Dialogue, Turn
from gristmill.pipelines.exports.base import MessagesRow, TrlPromptCompletion, TrlSft, refuse_spans
from gristmill.pipelines.exports.llama_factory import (
    ShareGptRow,
    ShareGptToolRow,
    check_turns,
    dataset_info,
    share_gpt,
)
from gristmill.pipelines.exports.reasoning import Calls, ChatMessage, ToolExport, refuse_calls, told


class AlpacaRow(Struct, frozen=True):
    """A row in Alpaca's layout; ``history`` holds pairs of question and answer."""

    id: str
    instruction: str
    input: str
    output: str
    system: str
    history: tuple[tuple[str, ...], ...]


class InputOutput(Struct, frozen=True):
    """A row for OpenRLHF's SFT; loss falls on all of ``output``."""

    id: str
    input: tuple[ChatMessage, ...]
    output: tuple[ChatMessage, ...]


class Alternating(Export, frozen=True, forbid_unknown_fields=True):
    """What exports have in common for trainers that want user and assistant in turns, up to an answer, and
    train either every answer or the last."""

    reads: ClassVar[type[Struct]] = Dialogue

    untrained: Literal["drop", "keep", "split"] = "drop"
    """What becomes of a record with an answer that must not be trained: ``drop`` it, or ``keep`` it, and the
    trainer trains that answer too. ``split`` makes a row of each trained answer with all that stands before
    it; the trainer must then train the last answer alone (LLaMA-Factory's ``mask_history: true``)."""
    reasoning: Literal["strip", "tags"] = "strip"
    """What becomes of the reasoning before a turn: ``strip`` leaves it out, ``tags`` puts it between
    ``<think>`` tags before the content."""

    @property
    def keeps_calls(self) -> bool:
        """Whether the format can hold calls of tools."""
        return False

    def chats(self, record: Dialogue) -> list[tuple[str, Sequence[Turn]]]:
        """Each row's id and turns. ``RowRejected`` where the trainer would skip it or train it wrongly."""
        if not self.keeps_calls:
            refuse_calls(record.turns)
        check_turns(record.turns, "assistant")
        answers = [i for i, t in enumerate(record.turns) if t.role == "assistant"]
        trained = [i for i in answers if record.turns[i].train]
        if self.untrained != "keep":
            refuse_spans(record)
        if self.untrained == "drop" and trained != answers:
            raise RowRejected("has an assistant turn that must not be trained", "Use 'untrained: split'.")
        if self.untrained != "split":
            return [(record.id, record.turns)]
        if not trained:
            raise RowRejected("has no turn to train")
        ids = [f"{record.id}#{n}" for n in range(1, len(trained) + 1)] if len(trained) > 1 else [record.id]
        return [(name, record.turns[: i + 1]) for name, i in zip(ids, trained, strict=True)]

    def settings(self, out: Path) -> dict[str, Any]:
        """``needs``; of split rows only the last answer is trained."""
        return {**self.needs, **({"mask_history": True} if self.untrained == "split" else {})}

    def remarks(self, record: Dialogue, /) -> dict[str, int]:
        """What the trainer must be told of split rows, and what becomes of reasoning."""
        split = {"rows of which only the last turn is to be trained": len(self.chats(record))}
        return (split if self.untrained == "split" else {}) | told(self.reasoning, record.turns)

    def text(self, turn: Turn) -> str:
        """The content with the reasoning as the option wants it."""
        return in_tags(turn.reasoning * (self.reasoning == "tags"), turn.content)


class ShareGpt(ToolExport, Alternating, frozen=True, forbid_unknown_fields=True):
    """``conversations`` of ``from`` (human, gpt, system) and ``value``: ShareGPT's layout.

    Calls of tools are ``function_call`` with JSON, their results ``observation``.
    """

    writes: ClassVar[type[Struct]] = ShareGptRow
    contents: ClassVar[Contents] = Contents(whole=("conversations",), alternates=True)

    tools: Calls = "drop"
    """Whether records in which tools are called are dropped, or calls and results are kept, with the
    tools that were offered in the column ``tools`` as JSON text. With ``keep`` every row has these keys,
    null where there is nothing to say."""

    def rows(self, record: Dialogue, /) -> Sequence[Struct]:
        """One row, or one for each trained answer."""
        tags = self.reasoning == "tags"
        return [
            self.row_type(name, share_gpt(turns, tags=tags), *self.offered(record))
            for name, turns in self.chats(record)
        ]

    @property
    def row_type(self) -> type[Struct]:
        """``ShareGptRow``, with the tools where they are kept."""
        return ShareGptToolRow if self.kept else self.writes

    @property
    def keeps_calls(self) -> bool:
        """As the option says."""
        return self.kept


class LlamaFactoryShareGpt(ShareGpt, frozen=True, forbid_unknown_fields=True):
    """As ``sharegpt``, with ``dataset_info.json`` beside it, for LLaMA-Factory's ``stage: sft``."""

    trainer: ClassVar[str] = "LLaMA-Factory"
    command: ClassVar[str] = "llamafactory-cli train"
    needs: ClassVar[Mapping[str, Any]] = {"stage": "sft"}

    def beside(self, out: Path) -> dict[str, bytes]:
        """``dataset_info.json``."""
        columns = {"messages": "conversations", **({"tools": "tools"} if self.kept else {})}
        return dataset_info(out, {"formatting": "sharegpt", "columns": columns})


class LlamaFactoryOpenAi(Alternating, frozen=True, forbid_unknown_fields=True):
    """``messages`` of role and content, with ``dataset_info.json`` beside it, for LLaMA-Factory's
    ``stage: sft``."""

    writes: ClassVar[type[Struct]] = MessagesRow
    trainer: ClassVar[str] = "LLaMA-Factory"
    command: ClassVar[str] = "llamafactory-cli train"
    contents: ClassVar[Contents] = Contents(whole=("messages",), alternates=True)
    needs: ClassVar[Mapping[str, Any]] = {"stage": "sft"}

    def rows(self, record: Dialogue, /) -> Sequence[Struct]:
        """One row, or one for each trained answer."""
        return [
            MessagesRow(name, tuple(ChatMessage(t.role, self.text(t)) for t in turns))
            for name, turns in self.chats(record)
        ]

    def beside(self, out: Path) -> dict[str, bytes]:
        """``dataset_info.json``."""
        tags = {f"{role}_tag": role for role in ("user", "assistant", "system")}
        tags |= {"role_tag": "role", "content_tag": "content"}
        return dataset_info(out, {"formatting": "openai", "columns": {"messages": "messages"}, "tags": tags})


class Alpaca(Alternating, frozen=True, forbid_unknown_fields=True):
    """``instruction``, ``input`` (empty), ``output``, ``system`` and ``history``: Alpaca's layout.

    LLaMA-Factory trains the answers in ``history`` too, where its ``dataset_info.json`` names that column;
    trainers that know no ``history`` lose the turns before the last question.
    """

    writes: ClassVar[type[Struct]] = AlpacaRow
    contents: ClassVar[Contents] = Contents(filled=("instruction", "output"))

    def rows(self, record: Dialogue, /) -> Sequence[Struct]:
        """One row, or one for each trained answer."""
        return [self._row(name, turns) for name, turns in self.chats(record)]

    def faults(self, row: Mapping[str, Any], /) -> Iterator[str]:
        """LLaMA-Factory unpacks the turns of ``history`` two by two."""
        if any(len(pair) != 2 for pair in row["history"]):
            yield "history: an item that is not a question with its answer"

    def _row(self, name: str, turns: Sequence[Turn]) -> AlpacaRow:
        system = turns[0].content if turns[0].role == "system" else ""
        texts = [self.text(t) for t in turns if t.role != "system"]
        *history, (instruction, output) = zip(texts[::2], texts[1::2], strict=True)
        return AlpacaRow(name, instruction, "", output, system, tuple(history))


class VerlSft(TrlSft, frozen=True, forbid_unknown_fields=True):
    """``messages`` in Parquet for verl's SFT trainer, which trains every assistant turn.

    Records with a turn that must not be trained are dropped, as in ``trl-sft``, and so are those in which
    tools are called.
    """

    suffix: ClassVar[str] = ".parquet"
    trainer: ClassVar[str] = "verl"
    command: ClassVar[str] = "python -m verl.trainer.sft_trainer"
    contents: ClassVar[Contents] = Contents(whole=("messages",))
    needs: ClassVar[Mapping[str, Any]] = {
        "defaults": ["sft_trainer_engine", "_self_"],
        "data": {"messages_key": "messages"},
    }

    tools: Literal["drop"] = "drop"
    """Records in which tools are called are dropped."""


class OpenRlhfSft(TrlPromptCompletion, frozen=True, forbid_unknown_fields=True):
    """``input`` and ``output`` message lists for OpenRLHF's SFT trainer, which trains all of ``output``.

    As in ``trl-prompt-completion``, every trained turn is a row of its own. Records in which tools are called
    are dropped.
    """

    writes: ClassVar[type[Struct]] = InputOutput
    trainer: ClassVar[str] = "OpenRLHF"
    command: ClassVar[str] = "python -m openrlhf.cli.train_sft"
    contents: ClassVar[Contents] = Contents(prompts=("input",), answers=("output",))
    needs: ClassVar[Mapping[str, Any]] = {
        "data.input_key": "input",
        "data.output_key": "output",
        "data.apply_chat_template": True,
    }

    tools: Literal["drop"] = "drop"
    """Records in which tools are called are dropped."""
