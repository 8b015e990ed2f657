"""Rows of training data as tokens, and which of them carry loss.

Three forms are read from JSON lines, recognised for each row: the exports ``trl-sft`` (``messages``) and
``trl-prompt-completion`` (``prompt`` and ``completion``, as messages or as text), and ``text`` alone. Loss
is on the assistant turns of ``messages`` and of a ``completion``, on a ``completion`` that is text, and on
all of ``text``. TRL's own preparation is not used because it also trains user turns inside a completion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

from gristmill.core.engine import Message
from gristmill.core.errors import InputError
from gristmill.train.base.data import read_as, remedy

IGNORED = -100
"""The label of a token without loss, which PyTorch's cross-entropy ignores."""


class TrainingRow(Struct, frozen=True):
    """A line of a training file. Other keys (``id``) are not read."""

    messages: tuple[Message, ...] | None = None
    prompt: tuple[Message, ...] | str | None = None
    completion: tuple[Message, ...] | str | None = None
    text: str | None = None


class Segment(NamedTuple):
    """A piece of a row's text; ``loss`` says whether its tokens are trained."""

    text: str
    loss: bool


class TokenRow(NamedTuple):
    """A row for the trainer: ``labels`` are the ``input_ids``, or ``IGNORED`` where there is no loss."""

    input_ids: list[int]
    labels: list[int]


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
        return "" if any(m.role == "assistant" for m in row.messages) else "it has no assistant turn."
    if row.text is not None:
        return "" if row.text.strip() else "its text is empty."
    if isinstance(row.completion, str):
        if not isinstance(row.prompt, str):
            return "its completion is text and its prompt is not."
        return "" if row.completion.strip() else "its completion is empty."
    if not isinstance(row.prompt, tuple):
        return "its completion is a list of messages and its prompt is not."
    answers = [m for m in row.completion or () if m.role == "assistant"]
    return "" if answers else "its completion has no assistant turn."


def encode(row: TrainingRow, tokenizer: Any) -> TokenRow:
    """A row's tokens with their labels, of any length.

    Each piece is tokenised on its own, as at inference: the prompt ends before the answer begins. Plain text
    ends with the tokenizer's end-of-text token, which is trained. ``ValueError`` if the chat template renders
    the beginning of a conversation differently once more turns follow, so that the turns cannot be located.
    """
    input_ids: list[int] = []
    labels: list[int] = []
    for text, loss in segments(row, tokenizer):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        input_ids += ids
        labels += ids if loss else [IGNORED] * len(ids)
    return TokenRow(input_ids, labels)


def segments(row: TrainingRow, tokenizer: Any) -> list[Segment]:
    """A row's text in pieces with and without loss; see ``encode``."""
    if row.messages is not None:
        return _turns(row.messages, 0, tokenizer)
    if isinstance(row.prompt, tuple):
        assert isinstance(row.completion, tuple)
        return _turns((*row.prompt, *row.completion), len(row.prompt), tokenizer)
    begin = (tokenizer.bos_token or "") if getattr(tokenizer, "add_bos_token", False) else ""
    end = tokenizer.eos_token or ""
    if row.text is not None:
        return [Segment(begin, False), Segment(row.text + end, True)]
    assert isinstance(row.prompt, str)
    assert isinstance(row.completion, str)
    return [Segment(begin + row.prompt, False), Segment(row.completion + end, True)]


def _turns(messages: Sequence[Message], first: int, tokenizer: Any) -> list[Segment]:
    """A conversation in which the assistant turns from index ``first`` on are trained.

    The trained part of a turn is what the template writes after the opening of an assistant turn (its
    generation prompt), including the end of the turn.
    """
    turns = [{"role": m.role, "content": m.content} for m in messages]

    def written(count: int, ask: bool) -> str:
        text: str = tokenizer.apply_chat_template(turns[:count], tokenize=False, add_generation_prompt=ask)
        return text

    found: list[Segment] = []
    done = ""
    for i, message in enumerate(messages):
        if message.role != "assistant" or i < first:
            continue
        asked, answered = written(i, ask=True), written(i + 1, ask=False)
        if not asked.startswith(done) or not answered.startswith(asked):
            raise ValueError("the chat template renders a turn differently once other turns follow")
        found += [Segment(asked[len(done) :], False), Segment(answered[len(asked) :], True)]
        done = answered
    return found
