"""Pairs put as questions in words: to a reward model that answers in words, and to a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core.engine import Message
from gristmill.core.exports import Contents, Export
from gristmill.core.records import Pair
from gristmill.core.stages import derive_seed
from gristmill.filters.preferences.disagreements import Ruling
from gristmill.pipelines.exports.base import PromptCompletion
from gristmill.pipelines.exports.preference import Compared
from gristmill.synth.scoring import said


class FeedbackRows(Compared, frozen=True, forbid_unknown_fields=True):
    """Two rows for each pair: of the rejected side and of the chosen one, each to be answered with the chosen
    side, for ``gristmill train sft`` (sequence-to-sequence reward modelling, arXiv 2409.00162).

    The model learns to correct a bad answer and to leave a good one as it is, and so says by its words what
    is wrong with an answer; the paper takes its rewards of tokens from where both differ.
    """

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct]] = PromptCompletion
    contents: ClassVar[Contents] = Contents(prompts=("prompt",), answers=("completion",))

    request: Annotated[str, Meta(min_length=1)] = (
        "If this answer can be improved, write the better one. Otherwise repeat it."
    )
    """The user's turn that asks for the better answer (the wording is ours)."""

    def rows(self, record: Pair, /) -> Sequence[Struct]:
        """The row that corrects, and the row that keeps."""
        chosen, rejected = self.model_turns(record.chosen, record.rejected)
        ask = Message("user", self.request)
        return [
            self.row(
                f"{record.id}/{name}",
                (*self.prompt(record.prompt), *self.answers(side), *self.prompt((ask,))),
                self.answers(chosen),
            )
            for name, side in (("correct", rejected), ("keep", chosen))
        ]

    def remarks(self, record: Pair, /) -> dict[str, int]:
        """What became of user turns and of reasoning."""
        return self.noted(record.chosen, record.rejected)


class PairQuestions(Export, frozen=True, forbid_unknown_fields=True):
    """A row for each pair with both texts and an empty ``better``, to be filled in with first, second or tie.

    Nothing tells which side is the chosen one: a hash of the id decides which is shown first. The file is
    read back with ``reads: rulings``, and the stage ``adjudicate`` gives the pairs their labels.
    """

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct]] = Ruling

    seed: int = 0
    """Another seed shows other pairs the other way round."""

    def rows(self, record: Pair, /) -> Sequence[Struct]:
        """One row."""
        first, second = said(record.chosen), said(record.rejected)
        if derive_seed(self.seed, record.id) % 2:
            first, second = second, first
        asked = "\n\n".join(f"{message.role}: {message.content}" for message in record.prompt)
        return [Ruling(record.id, first, second, better="", prompt=asked)]
