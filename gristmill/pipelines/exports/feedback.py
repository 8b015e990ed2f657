"""Pairs as rows for a reward model that answers in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core.engine import Message
from gristmill.core.exports import Contents
from gristmill.core.records import Pair
from gristmill.pipelines.exports.base import PromptCompletion
from gristmill.pipelines.exports.preference import Compared


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
