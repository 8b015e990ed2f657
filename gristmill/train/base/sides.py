"""Rows of compared or labelled answers as tokens, and which of them carry loss.

Three forms are read, recognised for each row: the exports ``trl-dpo`` and ``trl-dpo-weighted`` (``chosen``
and ``rejected``), and ``trl-kto`` (``completion`` with a ``label``); sides may be messages or text. Loss is
on the model's turns of a side. User turns in it carry none, and neither do the turns with which both sides
begin (multi-turn DPO, arXiv 2502.19613): TRL's own preparation compares all of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from msgspec import Meta, Struct

from gristmill.core.errors import InputError
from gristmill.train.base.data import read_as, remedy
from gristmill.train.base.rows import encode_text, encode_turns
from gristmill.train.base.turns import IGNORED, TokenRow, TrainedTurn

_Side = tuple[TrainedTurn, ...] | str


class ComparedRow(Struct, frozen=True):
    """A line of a file of pairs or labelled answers. Other keys (``id``) are not read."""

    prompt: _Side
    chosen: _Side | None = None
    rejected: _Side | None = None
    completion: _Side | None = None
    label: bool | None = None
    weight: Annotated[float, Meta(ge=0)] = 1.0
    """The row's share of the loss."""
    flip: Annotated[float, Meta(ge=0, le=1)] | None = None
    """The probability that the label is the wrong way round."""
    margin: float = 0.0
    """By how much the chosen side is the better."""

    @property
    def sides(self) -> tuple[_Side, ...]:
        """The chosen and the rejected side, or the one that has a label."""
        return tuple(s for s in (self.chosen, self.rejected, self.completion) if s is not None)


class TokenSide(NamedTuple):
    """A side of a row as it is trained: after its prompt, in tokens."""

    tokens: TokenRow
    wanted: bool


def read_sides(path: Path) -> Iterator[tuple[int, ComparedRow]]:
    """The rows of a JSON lines file with their 1-based numbers. Raises ``InputError`` for a bad row."""
    for number, row in read_as(path, ComparedRow, "preference"):
        if problem := _fault(row):
            raise InputError(problem, path=str(path), row=number, remedy=remedy("preference"))
        yield number, row


def _fault(row: ComparedRow) -> str:
    """What is wrong with a row; empty if it can be trained."""
    pair = row.chosen is not None and row.rejected is not None and row.completion is None
    labelled = row.completion is not None and row.label is not None and len(row.sides) == 1
    if not pair and not labelled:
        return "it must have chosen and rejected, or completion and label."
    if any(isinstance(side, str) != isinstance(row.prompt, str) for side in row.sides):
        return "its prompt and its sides must all be text or all be lists of messages."
    if pair and row.chosen == row.rejected:
        return "its sides are the same."
    for side in row.sides:
        if isinstance(side, str):
            if not side.strip():
                return "one of its sides is empty."
        elif not any(turn.said for turn in side):
            return "one of its sides has no assistant turn to train."
    return ""


def answers(row: ComparedRow, tokenizer: Any, *, from_difference: bool = False) -> list[TokenSide]:
    """The chosen and the rejected side as tokens, or the one that has a label.

    With ``from_difference`` the first tokens that both sides share carry no loss. ``ValueError`` where the
    chat template does not write a turn as it is.
    """
    made = [put(row.prompt, side, tokenizer, _shared(row.sides)) for side in row.sides]
    if len(made) == 1:
        return [TokenSide(made[0], bool(row.label))]
    if from_difference:
        made = _from_difference(made)
    return [TokenSide(made[0], True), TokenSide(made[1], False)]


def put(prompt: _Side, side: _Side, tokenizer: Any, shared: int = 0) -> TokenRow:
    """A side after its prompt, as tokens; its first ``shared`` turns carry no loss."""
    if isinstance(prompt, str):
        return encode_text(prompt, str(side), tokenizer)
    assert isinstance(side, tuple)
    return encode_turns((*prompt, *side), len(prompt) + shared, tokenizer)


def _shared(sides: Sequence[_Side]) -> int:
    """With how many turns both sides begin; at least one of the model's is left on each."""
    if len(sides) < 2 or isinstance(sides[0], str) or isinstance(sides[1], str):
        return 0
    same = 0
    for one, other in zip(*sides, strict=False):
        if one != other:
            break
        same += 1
    while same and not all(any(turn.said for turn in side[same:]) for side in sides):  # type: ignore[union-attr]
        same -= 1
    return same


def _from_difference(made: list[TokenRow]) -> list[TokenRow]:
    """Loss only from the first token on at which the two differ."""
    one, other = (row.input_ids for row in made)
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    return [TokenRow(ids, [IGNORED] * same + labels[same:]) for ids, labels in made]
