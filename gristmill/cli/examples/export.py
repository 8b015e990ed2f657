"""An export of conversations as rows of instruction and output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from msgspec import Struct

from gristmill.core import Dialogue, Export, RowRejected


class InstructionRow(Struct, frozen=True):
    """A row of the file."""

    id: str
    instruction: str
    output: str


class Instructions(Export, frozen=True, kw_only=True):
    """``instruction`` and ``output`` of conversations with one question and one answer."""

    reads: ClassVar[type[Struct]] = Dialogue
    writes: ClassVar[type[Struct]] = InstructionRow

    system: str = ""
    """What stands before every instruction."""

    def rows(self, record: Dialogue) -> Sequence[InstructionRow]:
        """One row; a longer conversation is rejected."""
        if [turn.role for turn in record.turns] != ["user", "assistant"]:
            raise RowRejected("not one question and one answer")
        question, answer = record.turns
        return [InstructionRow(record.id, self.system + question.content, answer.content)]
