"""Preference pairs and labelled rows as TRL's trainers read them (DPO, KTO)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from msgspec import Struct

from gristmill.core.engine import Message
from gristmill.core.errors import RowRejected
from gristmill.core.exports import Contents
from gristmill.core.records import Labelled, Pair
from gristmill.pipelines.exports.base import PromptCompletion
from gristmill.pipelines.exports.reasoning import ChatMessage, ReasoningExport
from gristmill.synth.preferences.neutral import Tie

Sides = tuple[tuple[Message, ...], ...]


class Preference(Struct, frozen=True):
    """A row of TRL's conversational preference format with an explicit prompt."""

    id: str
    prompt: tuple[ChatMessage, ...]
    chosen: tuple[ChatMessage, ...]
    rejected: tuple[ChatMessage, ...]


class WeightedPreference(Struct, frozen=True):
    """A row of TRL's preference format with the pair's share of the loss and chance of a wrong label."""

    id: str
    prompt: tuple[ChatMessage, ...]
    chosen: tuple[ChatMessage, ...]
    rejected: tuple[ChatMessage, ...]
    weight: float
    flip: float


class EqualSides(Struct, frozen=True):
    """A row of two answers of which neither is better. No trainer of pairs reads it by mistake: it has no
    chosen side."""

    id: str
    prompt: tuple[ChatMessage, ...]
    first: tuple[ChatMessage, ...]
    second: tuple[ChatMessage, ...]
    weight: float


class LabelledCompletion(PromptCompletion, frozen=True):
    """A row of TRL's conversational unpaired preference format."""

    label: bool


class Compared(ReasoningExport, frozen=True, forbid_unknown_fields=True):
    """What exports of sides have in common: a trainer that compares sides puts loss on all of them."""

    user_turns: Literal["cut", "drop", "keep"] = "cut"
    """What becomes of sides that hold a user's turn, on which the trainer would put loss too (multi-turn DPO,
    arXiv 2502.19613, masks them). ``cut`` ends each side before its first user turn, and drops a pair whose
    sides are then the same. ``drop`` drops the record. ``keep`` leaves the sides whole, and counts the user
    turns."""

    def model_turns(self, *sides: tuple[Message, ...]) -> Sides:
        """The sides as the option wants them. ``RowRejected`` where nothing can be compared."""
        if self.user_turns == "keep" or not _user_turns(*sides):
            return sides
        if self.user_turns == "drop":
            raise RowRejected("has a user turn inside what is compared")
        found = tuple(_before_user(side) for side in sides)
        if not all(found) or (len(found) > 1 and len(set(found)) == 1):
            raise RowRejected("has no difference before a user turn")
        return found

    def noted(self, *sides: tuple[Message, ...]) -> dict[str, int]:
        """The remarks on the user's turns and on reasoning."""
        inside, kept = _user_turns(*sides), self.model_turns(*sides)
        if self.user_turns == "keep":
            users = {"user turns inside what is compared": inside}
        else:
            users = {
                "sides that end before a user turn": sum(
                    len(a) > len(b) for a, b in zip(sides, kept, strict=True)
                )
            }
        return users | self.told(m for side in kept for m in side)


class TrlDpo(Compared, frozen=True, forbid_unknown_fields=True):
    """``prompt``, ``chosen`` and ``rejected`` message lists for TRL's DPO trainer, which compares all of the
    two sides."""

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct]] = Preference
    trainer: ClassVar[str] = "TRL"
    command: ClassVar[str] = "trl dpo"
    contents: ClassVar[Contents] = Contents(
        prompts=("prompt",),
        answers=("chosen", "rejected"),
        differ=("chosen", "rejected"),
        reserved=("messages", "completion", "images", "image"),
    )

    def rows(self, record: Pair, /) -> Sequence[Struct]:
        """One row."""
        return [self.row(record.id, *self.sides(record))]

    def sides(self, record: Pair) -> tuple[tuple[Struct, ...], ...]:
        """The messages of the prompt and both sides."""
        chosen, rejected = self.model_turns(record.chosen, record.rejected)
        return self.prompt(record.prompt), self.answers(chosen), self.answers(rejected)

    def remarks(self, record: Pair, /) -> dict[str, int]:
        """What became of user turns and of reasoning."""
        return self.noted(record.chosen, record.rejected)


class TrlDpoWeighted(TrlDpo, frozen=True, forbid_unknown_fields=True):
    """As ``trl-dpo``, with ``weight`` and ``flip`` (conservative DPO's epsilon) for losses that use them.

    TRL's own trainer drops columns that it does not know.
    """

    writes: ClassVar[type[Struct]] = WeightedPreference

    def rows(self, record: Pair, /) -> Sequence[Struct]:
        """One row."""
        return [self.row(record.id, *self.sides(record), record.weight, record.flip)]


class TrlKto(Compared, frozen=True, forbid_unknown_fields=True):
    """``prompt``, ``completion`` and ``label`` for TRL's KTO trainer, and for BCO.

    The trainer takes one weight for each label and not one for each row: the closing table names them.
    """

    reads: ClassVar[type[Struct]] = Labelled
    writes: ClassVar[type[Struct]] = LabelledCompletion
    trainer: ClassVar[str] = "TRL"
    command: ClassVar[str] = "trl kto"
    contents: ClassVar[Contents] = Contents(
        prompts=("prompt",), answers=("completion",), reserved=("messages", "chosen", "rejected")
    )

    def rows(self, record: Labelled, /) -> Sequence[Struct]:
        """One row."""
        [completion] = self.model_turns(record.completion)
        return [self.row(record.id, self.prompt(record.prompt), self.answers(completion), record.label)]

    def remarks(self, record: Labelled, /) -> dict[str, int]:
        """The weight of the record's label, and what became of user turns and of reasoning."""
        which = "desirable_weight" if record.label else "undesirable_weight"
        weight = {f"rows for which the trainer needs {which}={record.weight:.4g}": int(record.weight != 1)}
        return weight | self.noted(record.completion)


class Ties(Compared, frozen=True, forbid_unknown_fields=True):
    """``prompt``, ``first``, ``second`` and ``weight`` of ties, for a reward model that is trained to have no
    preference there: half of -log sigmoid either way (Crome, arXiv 2506.16507)."""

    reads: ClassVar[type[Struct]] = Tie
    writes: ClassVar[type[Struct]] = EqualSides
    contents: ClassVar[Contents] = Contents(
        prompts=("prompt",), answers=("first", "second"), differ=("first", "second")
    )

    def rows(self, record: Tie, /) -> Sequence[Struct]:
        """One row."""
        first, second = self.model_turns(record.first, record.second)
        sides = self.answers(first), self.answers(second)
        return [self.row(record.id, self.prompt(record.prompt), *sides, record.weight)]

    def remarks(self, record: Tie, /) -> dict[str, int]:
        """What became of user turns and of reasoning."""
        return self.noted(record.first, record.second)


def _user_turns(*sides: tuple[Message, ...]) -> int:
    return sum(m.role == "user" for side in sides for m in side)


def _before_user(side: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns before the first of the user's."""
    first = next((i for i, m in enumerate(side) if m.role == "user"), len(side))
    return side[:first]
