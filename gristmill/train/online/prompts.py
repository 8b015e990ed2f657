"""The problems of a file: prompts for a policy, with the columns that rewards read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.engine import Message
from gristmill.core.errors import InputError, RecipeError
from gristmill.train.base.data import read_lines, remedy, write_rejected
from gristmill.train.base.options import Training

TRAINER = "policy"


class PolicyRow(Struct, frozen=True):
    """A line of the file. Rewards are handed all its keys, these and others."""

    prompt: tuple[Message, ...] | str
    verifier: str | None = None


class PolicyPrompts(Struct, frozen=True):
    """The rows that are short enough, each with all its columns, and how many were left out.

    ``tokens`` counts those of the prompts.
    """

    rows: list[dict[str, Any]]
    too_long: int
    tokens: int
    verifier: str | None

    @property
    def dataset(self) -> Any:
        """What the trainer shuffles: prompts, and the places of their rows. The other columns stay here, so
        that they need not have one type each."""
        from datasets import Dataset

        return Dataset.from_list([{"prompt": row["prompt"], "row": i} for i, row in enumerate(self.rows)])


def read_prompts(options: Training, tokenizer: Any) -> PolicyPrompts:
    """The prompts of ``options.data``.

    One that is longer than ``max_length`` tokens is left out, and listed in ``rejected.jsonl``. Raises
    ``InputError`` for a bad row, or if none is left, ``RecipeError`` for messages where the model has no chat
    template, and for rows that name several verifiers.
    """
    rows: list[dict[str, Any]] = []
    long: list[dict[str, int]] = []
    tokens = 0
    verifiers: dict[str, int] = {}
    texts = 0
    for number, line in read_lines(Path(options.data), TRAINER):
        plain, row = _row(options, number, line)
        if row.verifier:
            verifiers.setdefault(row.verifier, number)
        texts += isinstance(row.prompt, str)
        length = _length(options, tokenizer, row.prompt)
        if length > options.max_length:
            long.append({"row": number, "tokens": length})
            continue
        tokens += length
        said = row.prompt if isinstance(row.prompt, str) else row.prompt[-1].content
        rows.append({"problem": said, **plain})
    write_rejected(options.output, long)
    if not rows:
        raise InputError(
            f"all {len(long)} prompts are longer than {options.max_length} tokens.",
            path=options.data,
            remedy="Raise max_length, or export other rows.",
        )
    if texts not in (0, len(rows) + len(long)):
        raise InputError(
            "some prompts are messages and some are text.",
            path=options.data,
            remedy="Divide the file into two, and train on one after the other.",
        )
    if len(verifiers) > 1:
        raise RecipeError(
            f"{options.data}: the rows name several verifiers: {', '.join(sorted(verifiers))}.",
            remedy="Say which one judges all of them: --set verifier.kind=NAME ('combine' asks several).",
        )
    return PolicyPrompts(rows, len(long), tokens, next(iter(verifiers), None))


def _row(options: Training, number: int, line: bytes) -> tuple[dict[str, Any], PolicyRow]:
    try:
        plain = msgspec.json.decode(line)
        row = msgspec.convert(plain, PolicyRow)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{error}.", path=options.data, row=number, remedy=remedy(TRAINER)) from error
    if not row.prompt:
        raise InputError("the prompt is empty.", path=options.data, row=number, remedy=remedy(TRAINER))
    return plain, row


def _length(options: Training, tokenizer: Any, prompt: tuple[Message, ...] | str) -> int:
    """The tokens of a prompt as the model is given it."""
    if isinstance(prompt, str):
        return len(tokenizer(prompt).input_ids)
    if not tokenizer.chat_template:
        raise RecipeError(
            f"model: {options.model!r} has no chat template, and the prompts are messages.",
            remedy="Use a model that was made for chat, or give prompts as text.",
        )
    messages = [{"role": m.role, "content": m.content} for m in prompt]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return len(tokenizer(text, add_special_tokens=False).input_ids)
