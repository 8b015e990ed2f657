"""Conversations as tokens, as the engines write them when they ask the trained model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gristmill.core.engine import Message
from gristmill.core.errors import RecipeError
from gristmill.train.base.data import cannot_render
from gristmill.train.base.options import Training
from gristmill.train.base.turns import TrainedTurn


def template_of(options: Training, tokenizer: Any) -> str:
    """The tokenizer's chat template. ``RecipeError`` where it has none."""
    if not tokenizer.chat_template:
        raise RecipeError(
            f"model: {options.model!r} has no chat template.",
            remedy="Use a model that was made for chat, or put a chat_template.jinja into its folder.",
        )
    template: str = tokenizer.chat_template
    return template


def messages_of(said: Sequence[Message | TrainedTurn] | str, role: str) -> list[dict[str, str]]:
    """Messages as the chat template takes them; a text is one message of ``role``."""
    if isinstance(said, str):
        return [{"role": role, "content": said}]
    return [{"role": m.role, "content": m.content} for m in said]


def conversation(turns: Sequence[dict[str, str]], tokenizer: Any, options: Training, row: int) -> list[int]:
    """The tokens of a whole conversation, tokenised as one text. ``InputError`` for turns that the template
    refuses."""
    from jinja2.exceptions import TemplateError

    try:
        text = tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=False)
    except (ValueError, TypeError, TemplateError) as error:
        raise cannot_render(options.model, options.data, row, error) from error
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def spare_padding(tokenizer: Any) -> None:
    """Pad with a token that ends no conversation.

    A model with one reward for a text gives that of the last token which is not padding. Where the padding is
    the token that ends a turn, that would be another one in a server that does not pad.
    """
    if tokenizer.pad_token == tokenizer.eos_token:
        others = [t for t in (tokenizer.unk_token, *tokenizer.all_special_tokens) if t]
        tokenizer.pad_token = next((t for t in others if t != tokenizer.eos_token), tokenizer.eos_token)


def padded(rows: Sequence[Sequence[int]], padding: int) -> dict[str, Any]:
    """``input_ids`` and ``attention_mask``, ``[rows, longest]``, with the padding on the right."""
    import torch

    longest = max(map(len, rows))
    ids = [[*row, *[padding] * (longest - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
