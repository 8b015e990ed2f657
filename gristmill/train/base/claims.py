"""Claims on passages with labels, and what of a passage an encoder reads with a claim."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from msgspec import Struct

from gristmill.verifiers.grounding.support import GroundingPassage, Levels, Passages

Label = Literal["supported", "contradicted", "unsupported"]
LABELS: tuple[Label, ...] = ("supported", "contradicted", "unsupported")
"""The labels in the order of a new head; ``unsupported`` is what natural language inference calls neutral."""
SURE = 0.9
"""The probability from which ``grounding`` takes an encoder's word, unless it is told another."""


class ClaimRow(Struct, frozen=True):
    """A claim, and what its passage makes of it. Other keys of a row are not read."""

    passage: str
    sentence: str
    label: Label


def premise(row: ClaimRow, window: int | None) -> str:
    """What of a row's passage the model reads with its claim; see the option ``window``."""
    if window is None:
        return row.passage
    return next(iter(_read(row.passage, window).premises(row.sentence, most=1)), row.passage)


@lru_cache(maxsize=16)  # the rows of a passage stand together
def _read(passage: str, window: int) -> Passages:
    return Passages((GroundingPassage(text=passage),), Levels(0.0, SURE, window, 1), None)
