"""Rows of training data as tokens, and which of them carry loss.

Three forms are read from JSON lines, recognised for each row: the exports ``axolotl-chat`` and ``trl-sft``
(``messages``, with loss marks or without) and ``trl-prompt-completion`` (``prompt`` and ``completion``, as
messages or as text), and ``text`` alone. Loss is on the marked turns and parts of turns, without marks on the
assistant turns of ``messages`` and of a ``completion``, on a ``completion`` that is text, and on all of
``text``. TRL's own preparation is not used because it also trains user turns inside a completion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from gristmill.core.errors import InputError
from gristmill.core.records import Span
from gristmill.train.base.data import read_as, remedy
from gristmill.train.base.turns import IGNORED, MarkedText, TokenRow, TrainedTurn, marked_text, tokens

__all__ = ["IGNORED", "TokenRow", "TrainingRow", "encode", "encode_text", "encode_turns", "read_rows"]


class TrainingRow(Struct, frozen=True):
    """A line of a training file. Other keys (``id``) are not read."""

    messages: tuple[TrainedTurn, ...] | None = None
    prompt: tuple[TrainedTurn, ...] | str | None = None
    completion: tuple[TrainedTurn, ...] | str | None = None
    text: str | None = None


def read_rows(path: Path) -> Iterator[tuple[int, TrainingRow]]:
    """The rows of a JSON lines file with their 1-based numbers. Raises ``InputError`` for a bad row."""
    for number, row in read_as(path, TrainingRow, "sft"):
        if problem := _fault(row):
            raise InputError(problem, path=str(path), row=number, remedy=remedy("sft"))
        yield number, row


def _fault(row: TrainingRow) -> str:
    """What is wrong with a row; empty if it can be trained."""
    given = [name for name in ("messages", "completion", "text") if getattr(row, name) is not None]
    if len(given) != 1:
        return f"it must have one of messages, completion and text, but has {' and '.join(given) or 'none'}."
    if row.messages is not None:
        return _turns_fault(row.messages, "it")
    if row.text is not None:
        return "" if row.text.strip() else "its text is empty."
    if isinstance(row.completion, str):
        if not isinstance(row.prompt, str):
            return "its completion is text and its prompt is not."
        return "" if row.completion.strip() else "its completion is empty."
    if not isinstance(row.prompt, tuple):
        return "its completion is a list of messages and its prompt is not."
    return _turns_fault(row.completion or (), "its completion")


def _turns_fault(turns: Sequence[TrainedTurn], where: str) -> str:
    if wrong := [i for i, turn in enumerate(turns, 1) if turn.train and turn.role != "assistant"]:
        return f"turn {wrong[0]} of it is the {turns[wrong[0] - 1].role}'s and marked to be trained."
    if not any(turn.role == "assistant" for turn in turns):
        return f"{where} has no assistant turn."
    return "" if any(turn.said for turn in turns) else f"{where} has no turn that is to be trained."


def encode(row: TrainingRow, tokenizer: Any) -> TokenRow:
    """A row's tokens with their labels, of any length; plain text ends with the tokenizer's end-of-text
    token, which is trained. ``ValueError`` where the chat template does not write a turn as it is."""
    if row.messages is not None:
        return encode_turns(row.messages, 0, tokenizer)
    if isinstance(row.prompt, tuple):
        assert isinstance(row.completion, tuple)
        return encode_turns((*row.prompt, *row.completion), len(row.prompt), tokenizer)
    if row.text is not None:
        return encode_text("", row.text, tokenizer)
    assert isinstance(row.prompt, str)
    assert isinstance(row.completion, str)
    return encode_text(row.prompt, row.completion, tokenizer)


def encode_turns(turns: Sequence[TrainedTurn], first: int, tokenizer: Any) -> TokenRow:
    """A conversation whose marked turns from index ``first`` on carry loss; errors as of ``encode``."""
    return tokens(marked_text(turns, first, tokenizer), tokenizer)


def encode_text(prompt: str, said: str, tokenizer: Any) -> TokenRow:
    """Plain text with loss on what is ``said``, and on the end of text after it."""
    begin = (tokenizer.bos_token or "") if getattr(tokenizer, "add_bos_token", False) else ""
    text = begin + prompt + said + (tokenizer.eos_token or "")
    start = len(begin + prompt)
    return tokens(MarkedText(text, [Span(start, len(text))], [start]), tokenizer)
