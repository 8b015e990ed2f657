"""Pairs as questions to a person: which of two texts is the better answer?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from msgspec import Struct

from gristmill.core.exports import Export
from gristmill.core.records import Pair
from gristmill.core.stages import derive_seed
from gristmill.filters.preferences.disagreements import Ruling
from gristmill.synth.scoring import said


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
