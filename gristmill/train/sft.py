"""Supervised fine-tuning on TRL's SFTTrainer: a file of rows and a folder of weights in, a folder out.

What the folder holds, and how a stopped training goes on, is described in ``gristmill.train.base.running``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gristmill.core.errors import InputError
from gristmill.train.base.data import write_rejected
from gristmill.train.base.models import adapters, arguments, history, language_model, tokenizer_of
from gristmill.train.base.options import Training, TrainingMetrics
from gristmill.train.base.rows import IGNORED, TokenRow, encode, read_rows
from gristmill.train.base.running import Prepared, run_training


class Sft(Training, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Supervised fine-tuning on rows in one of the forms that ``gristmill.train.base.rows`` describes."""


OPTIONS = Sft


def train(options: Sft) -> TrainingMetrics:
    """Train, and return what was done; errors as of ``run_training``."""
    return run_training(options, _prepared)


def _prepared(options: Sft) -> Prepared:
    """TRL's trainer for rows that are already tokenised and labelled; it only pads and shuffles them."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    tokenizer = tokenizer_of(options)
    rows, too_long = _encoded(options, tokenizer)
    model = language_model(options)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**arguments(options, len(rows)), max_length=None),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([row._asdict() for row in rows]),
        peft_config=adapters(options.lora, model),
        callbacks=[history(options)],
    )
    return Prepared(trainer, len(rows), too_long, *counts(rows))


def counts(rows: Sequence[TokenRow]) -> tuple[int, int]:
    """How many tokens rows have, and how many of them carry loss."""
    return sum(len(r.input_ids) for r in rows), sum(label != IGNORED for r in rows for label in r.labels)


def _encoded(options: Sft, tokenizer: Any) -> tuple[list[TokenRow], int]:
    """The rows that are short enough, and how many are not; those are listed in ``rejected.jsonl``."""
    from jinja2.exceptions import TemplateError

    rows: list[TokenRow] = []
    long: list[dict[str, int]] = []
    for number, row in read_rows(Path(options.data)):
        try:
            tokens = encode(row, tokenizer)
        except (ValueError, TypeError, TemplateError) as error:
            raise InputError(
                f"the chat template of {options.model} cannot render this row: {error}",
                path=options.data,
                row=number,
                remedy="Use another form of rows, or a model whose chat template supports them.",
            ) from error
        if len(tokens.input_ids) <= options.max_length:
            rows.append(tokens)
        else:
            long.append({"row": number, "tokens": len(tokens.input_ids)})
    write_rejected(options.output, long)
    if not rows:
        raise InputError(
            f"all {len(long)} rows are longer than {options.max_length} tokens.",
            path=options.data,
            remedy="Raise max_length, or export other rows.",
        )
    return rows, len(long)
