"""Pairs and labelled rows for further trainers: TRL's reward model, axolotl and OpenRLHF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from msgspec import Struct

from gristmill.core.errors import RowRejected
from gristmill.core.exports import Contents
from gristmill.core.records import Labelled, Pair, score_of
from gristmill.pipelines.exports.llama_factory import ComparedOnce
from gristmill.pipelines.exports.preference import TrlDpo
from gristmill.pipelines.exports.reasoning import ChatMessage


class MarginPreference(Struct, frozen=True):
    """A row of TRL's preference format with the margin by which the chosen side is the better."""

    id: str
    prompt: tuple[ChatMessage, ...]
    chosen: tuple[ChatMessage, ...]
    rejected: tuple[ChatMessage, ...]
    margin: float


class AnsweredPair(Struct, frozen=True):
    """A row of axolotl's ``chat_template.default`` for pairs."""

    id: str
    messages: tuple[ChatMessage, ...]
    chosen: ChatMessage
    rejected: ChatMessage


class LabelledConversation(Struct, frozen=True):
    """A row of axolotl's ``argilla_chat`` for labels: ``completion`` is the whole conversation."""

    id: str
    completion: tuple[ChatMessage, ...]
    label: bool


class TrlReward(TrlDpo, frozen=True, forbid_unknown_fields=True):
    """As ``trl-dpo`` with a ``margin``, for TRL's reward trainer: the score of the chosen side less that of
    the rejected one. OpenRLHF's reward trainer takes the same rows.

    A pair without both scores is dropped, and so is one whose scores do not prefer the chosen side.
    """

    writes: ClassVar[type[Struct]] = MarginPreference
    command: ClassVar[str] = "trl reward"

    score: str = ""
    """The name of the score: with ``length`` the scores are ``chosen_length`` and ``rejected_length``; empty
    for ``chosen`` and ``rejected``."""

    def rows(self, record: Pair, /) -> Sequence[Struct]:
        """One row."""
        names = [f"{side}_{self.score}" if self.score else side for side in ("chosen", "rejected")]
        chosen, rejected = (score_of(record, name) for name in names)
        if chosen is None or rejected is None or chosen.value is None or rejected.value is None:
            raise RowRejected("has no scores for a margin", f"of {names[0]!r} and {names[1]!r}")
        margin = chosen.value - rejected.value
        if not margin > 0:
            raise RowRejected("its scores do not prefer the chosen side", f"the margin is {margin:.4g}")
        return [self.row(record.id, *self.sides(record), margin)]


class OpenRlhfDpo(TrlDpo, frozen=True, forbid_unknown_fields=True):
    """``prompt``, ``chosen`` and ``rejected`` message lists for OpenRLHF's DPO trainer."""

    trainer: ClassVar[str] = "OpenRLHF"
    command: ClassVar[str] = "python -m openrlhf.cli.train_dpo"
    contents: ClassVar[Contents] = Contents(
        prompts=("prompt",), answers=("chosen", "rejected"), differ=("chosen", "rejected")
    )
    needs: ClassVar[Mapping[str, Any]] = {
        "data.prompt_key": "prompt",
        "data.chosen_key": "chosen",
        "data.rejected_key": "rejected",
        "data.apply_chat_template": True,
    }


class AxolotlDpo(ComparedOnce, frozen=True, forbid_unknown_fields=True):
    """``messages`` with one ``chosen`` and one ``rejected`` message, for axolotl's
    ``type: chat_template.default``."""

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct]] = AnsweredPair
    trainer: ClassVar[str] = "axolotl"
    command: ClassVar[str] = "axolotl train"
    contents: ClassVar[Contents] = Contents(
        prompts=("messages",), answers=("chosen", "rejected"), differ=("chosen", "rejected")
    )
    needs: ClassVar[Mapping[str, Any]] = {
        "rl": "dpo",
        "chat_template": "tokenizer_default",
        "datasets": {
            "type": "chat_template.default",
            "field_messages": "messages",
            "field_chosen": "chosen",
            "field_rejected": "rejected",
        },
    }

    def rows(self, record: Pair, /) -> Sequence[Struct]:
        """One row."""
        answers = self.answers(self.single(record.chosen, record.rejected))
        return [self.row(record.id, self.prompt(record.prompt), *answers)]

    def remarks(self, record: Pair, /) -> dict[str, int]:
        """What became of user turns and of reasoning."""
        return self.noted(record.chosen, record.rejected)


class AxolotlKto(ComparedOnce, frozen=True, forbid_unknown_fields=True):
    """``completion``, the conversation up to the labelled answer, and ``label``, for axolotl's ``rl: kto``
    with ``type: chatml.argilla_chat`` or ``llama3.argilla_chat``.

    Those two are the only types of axolotl that take a conversation with labels; none uses the model's own
    chat template.
    """

    reads: ClassVar[type[Struct]] = Labelled
    writes: ClassVar[type[Struct]] = LabelledConversation
    trainer: ClassVar[str] = "axolotl"
    command: ClassVar[str] = "axolotl train"
    contents: ClassVar[Contents] = Contents(whole=("completion",))

    template: Literal["chatml", "llama3"] = "chatml"
    """How the model marks turns, for the settings."""

    def rows(self, record: Labelled, /) -> Sequence[Struct]:
        """One row."""
        answer = self.answers(self.single(record.completion))
        return [self.row(record.id, self.prompt(record.prompt) + answer, record.label)]

    def remarks(self, record: Labelled, /) -> dict[str, int]:
        """What became of user turns and of reasoning."""
        return self.noted(record.completion)

    def settings(self, out: Path) -> dict[str, Any]:
        """The type that suits the template."""
        return {
            "rl": "kto",
            "remove_unused_columns": False,
            "datasets": {"type": f"{self.template}.argilla_chat"},
        }
