"""What LLaMA-Factory's exports share: its order of turns, and the file that tells it of its data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
from msgspec import Struct, defstruct

from gristmill.core.answers import in_tags
from gristmill.core.engine import Message, Role
from gristmill.core.errors import RowRejected, RunError
from gristmill.core.exports import Contents
from gristmill.core.records import Labelled, Pair, Turn
from gristmill.pipelines.exports.preference import Compared
from gristmill.pipelines.exports.reasoning import refuse_calls

INFO = "dataset_info.json"
"""The file in which LLaMA-Factory looks up a data set's layout, in the folder of the data."""

_CALLED: dict[Role, str] = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}

# A field cannot be called 'from' in a class statement.
SaidBy = defstruct("SaidBy", [("from", str), ("value", str)], frozen=True)
SaidBy.__doc__ = (
    "A message in ShareGPT's layout: ``from`` is ``human``, ``gpt`` or ``system``, with tools also "
    "``function_call`` and ``observation``."
)
_SAID = tuple[SaidBy, ...]  # type: ignore[valid-type]
ShareGptRow = defstruct("ShareGptRow", [("id", str), ("conversations", _SAID)], frozen=True)
RankingRow = defstruct(
    "RankingRow",
    [("id", str), ("conversations", _SAID), ("chosen", SaidBy), ("rejected", SaidBy)],
    frozen=True,
)
KtoRow = defstruct("KtoRow", [("id", str), ("conversations", _SAID), ("kto_tag", bool)], frozen=True)


ShareGptToolRow = defstruct(
    "ShareGptToolRow", [("id", str), ("conversations", _SAID), ("tools", str | None)], frozen=True
)


def share_gpt(turns: Iterable[Turn | Message], *, tags: bool) -> tuple[Struct, ...]:
    """Turns in ShareGPT's words; with ``tags`` their reasoning stands before the content. ``RowRejected`` for
    a call that the layout cannot hold."""
    return tuple(_said(t, in_tags(t.reasoning * tags, t.content)) for t in _joined(turns))


def _said(turn: Turn | Message, text: str) -> Struct:
    if not turn.tool_calls:
        return SaidBy(_CALLED[turn.role], text)
    if turn.content.strip():
        raise RowRejected("has text beside a call", "LLaMA-Factory reads a function_call as JSON alone.")
    calls = []
    for call in turn.tool_calls:
        try:
            arguments = msgspec.json.decode(call.function.arguments, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise RowRejected(
                "has a call whose arguments are not a JSON object",
                f"{call.function.name}({call.function.arguments[:200]})",
            ) from error
        calls.append({"name": call.function.name, "arguments": arguments})
    return SaidBy("function_call", msgspec.json.encode(calls[0] if len(calls) == 1 else calls).decode())


def _joined(turns: Iterable[Turn | Message]) -> list[Turn | Message]:
    """The turns with results that follow each other as one."""
    found: list[Turn | Message] = []
    for turn in turns:
        if turn.role == "tool" and found and found[-1].role == "tool":
            found[-1] = msgspec.structs.replace(found[-1], content=f"{found[-1].content}\n\n{turn.content}")
        else:
            found.append(turn)
    return found


def check_turns(turns: Sequence[Turn | Message], last: Role) -> None:
    """``RowRejected`` unless users (or tools, several results as one) and assistants take turns, behind at
    most one system message, up to ``last``. LLaMA-Factory skips any other row with a line in its log."""
    said = ["user" if t.role == "tool" else t.role for t in _joined(turns)]
    said = said[1:] if said[:1] == ["system"] else said
    if any(role != ("user", "assistant")[i % 2] for i, role in enumerate(said)):
        raise RowRejected("the turns of user and assistant do not alternate", ", ".join(said))
    if not said or said[-1] != last:
        raise RowRejected(f"does not end with a turn of the {last}")


def dataset_info(out: Path, entry: Mapping[str, Any]) -> dict[str, bytes]:
    """``dataset_info.json`` in the folder of ``out`` with an entry for it; what else it holds stays.

    ``RunError`` where there is one that cannot be read.
    """
    path = out.with_name(INFO)
    try:
        known = msgspec.json.decode(path.read_bytes(), type=dict[str, Any]) if path.exists() else {}
    except msgspec.DecodeError as e:
        raise RunError(
            f"{path} is not a JSON object: {e}.", remedy="Correct it or move it away, then export again."
        ) from e
    known[out.stem] = {"file_name": out.name, **entry}
    return {INFO: msgspec.json.format(msgspec.json.encode(known), indent=2) + b"\n"}


class ComparedOnce(Compared, frozen=True, forbid_unknown_fields=True):
    """What exports have in common for trainers that compare one message with one other, and drop the turns
    before it silently."""

    reasoning: Literal["strip", "tags"] = "strip"
    """What becomes of the reasoning before a turn: ``strip`` leaves it out, ``tags`` puts it between
    ``<think>`` tags before the content."""

    def single(self, *sides: tuple[Message, ...]) -> tuple[Message, ...]:
        """The one message of each side. ``RowRejected`` where a side has more."""
        found = self.model_turns(*sides)
        refuse_calls(turn for side in found for turn in side)
        if any(len(side) != 1 for side in found):
            raise RowRejected("has more than one turn on a side", "Use the format trl-dpo for these.")
        return tuple(side[0] for side in found)


class LlamaFactoryRanking(ComparedOnce, frozen=True, forbid_unknown_fields=True):
    """``conversations`` up to the user's last turn, with one ``chosen`` and one ``rejected`` answer, for
    LLaMA-Factory's ``stage: dpo`` and ``rm``. ``dataset_info.json`` is written beside it."""

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct]] = RankingRow
    trainer: ClassVar[str] = "LLaMA-Factory"
    command: ClassVar[str] = "llamafactory-cli train"
    contents: ClassVar[Contents] = Contents(
        prompts=("conversations",),
        answers=("chosen", "rejected"),
        differ=("chosen", "rejected"),
        alternates=True,
    )
    needs: ClassVar[Mapping[str, Any]] = {"stage": "dpo"}

    def rows(self, record: Pair, /) -> Sequence[Struct]:
        """One row."""
        refuse_calls(record.prompt)
        check_turns(record.prompt, "user")
        answers = share_gpt(self.single(record.chosen, record.rejected), tags=self.reasoning == "tags")
        return [RankingRow(record.id, share_gpt(record.prompt, tags=False), *answers)]

    def remarks(self, record: Pair, /) -> dict[str, int]:
        """What became of user turns and of reasoning."""
        return self.noted(record.chosen, record.rejected)

    def beside(self, out: Path) -> dict[str, bytes]:
        """``dataset_info.json``."""
        columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
        return dataset_info(out, {"formatting": "sharegpt", "ranking": True, "columns": columns})


class LlamaFactoryKto(ComparedOnce, frozen=True, forbid_unknown_fields=True):
    """``conversations`` that end with the answer, and ``kto_tag``, for LLaMA-Factory's ``stage: kto``.
    ``dataset_info.json`` is written beside it."""

    reads: ClassVar[type[Struct]] = Labelled
    writes: ClassVar[type[Struct]] = KtoRow
    trainer: ClassVar[str] = "LLaMA-Factory"
    command: ClassVar[str] = "llamafactory-cli train"
    contents: ClassVar[Contents] = Contents(whole=("conversations",), alternates=True)
    needs: ClassVar[Mapping[str, Any]] = {"stage": "kto"}

    def rows(self, record: Labelled, /) -> Sequence[Struct]:
        """One row."""
        refuse_calls(record.prompt)
        check_turns(record.prompt, "user")
        answer = share_gpt(self.single(record.completion), tags=self.reasoning == "tags")
        return [KtoRow(record.id, share_gpt(record.prompt, tags=False) + answer, record.label)]

    def remarks(self, record: Labelled, /) -> dict[str, int]:
        """What became of user turns and of reasoning."""
        return self.noted(record.completion)

    def beside(self, out: Path) -> dict[str, bytes]:
        """``dataset_info.json``."""
        columns = {"messages": "conversations", "kto_tag": "kto_tag"}
        return dataset_info(out, {"formatting": "sharegpt", "columns": columns})
