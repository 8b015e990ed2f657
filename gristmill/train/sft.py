"""Supervised fine-tuning on TRL's SFTTrainer: a file of rows and a folder of weights in, a folder out.

What the folder holds, and how a stopped training goes on, is described in ``gristmill.train.base.running``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from gristmill.core.errors import InputError
from gristmill.train.base.data import cannot_render, write_rejected
from gristmill.train.base.models import adapters, arguments, history, language_model, tokenizer_of
from gristmill.train.base.options import Training, TrainingMetrics
from gristmill.train.base.rows import IGNORED, TokenRow, encode, read_rows
from gristmill.train.base.running import Prepared, run_training


class Mixed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A set that is mixed into the data."""

    data: Annotated[str, Meta(min_length=1)]
    """A JSON lines file like the option ``data``."""
    weight: Annotated[float, Meta(gt=0)]
    """How many of its rows are used for each row of ``data``: 0.25 for one for every four. They are chosen by
    the seed; a set that has too few is used several times."""


class Sft(Training, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Supervised fine-tuning on rows in one of the forms that ``gristmill.train.base.rows`` describes."""

    mix: tuple[Mixed, ...] = ()
    """Further sets, such as an older one that is to be replayed, of which some rows are used too."""
    packing: bool = False
    """Whether rows are put together to up to ``max_length`` tokens, without padding. Rows do not see each
    other; ``batch`` then counts what was put together."""

    def inputs(self) -> list[str]:
        """The files of rows that are used."""
        return [*super().inputs(), *(other.data for other in self.mix)]


OPTIONS = Sft


def train(options: Sft) -> TrainingMetrics:
    """Train, and return what was done; errors as of ``run_training``."""
    return run_training(options, _prepared)


def _prepared(options: Sft) -> Prepared:
    """TRL's trainer for rows that are already tokenised and labelled; it only pads and shuffles them."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer, pack_dataset

    tokenizer = tokenizer_of(options)
    rows, too_long = _mixed(options, tokenizer)
    data = Dataset.from_list([row._asdict() for row in rows])
    if options.packing:
        data = pack_dataset(data, options.max_length, "bfd")
    model = language_model(options)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**arguments(options, len(data)), max_length=None, padding_free=options.packing),
        processing_class=tokenizer,
        train_dataset=data,
        peft_config=adapters(options.lora, model),
        callbacks=[history(options)],
    )
    return Prepared(trainer, len(rows), too_long, *counts(rows))


def counts(rows: Sequence[TokenRow]) -> tuple[int, int]:
    """How many tokens rows have, and how many of them carry loss."""
    return sum(len(r.input_ids) for r in rows), sum(label != IGNORED for r in rows for label in r.labels)


def _mixed(options: Sft, tokenizer: Any) -> tuple[list[TokenRow], int]:
    """The rows of the data and of what is mixed in, and how many are too long; those are listed in
    ``rejected.jsonl``."""
    long: list[dict[str, object]] = []
    rows = _encoded(options, options.data, tokenizer, long)
    main = len(rows)
    for number, other in enumerate(options.mix):
        found = _encoded(options, other.data, tokenizer, long)
        rows += chosen(found, round(main * other.weight), f"{options.seed} {number}")
    write_rejected(options.output, long)
    return rows, len(long)


def chosen(rows: Sequence[TokenRow], count: int, seed: str) -> list[TokenRow]:
    """``count`` of the rows: all as often as they fit, and the rest by a seeded hash of their places."""

    def key(at: int) -> bytes:
        return hashlib.blake2b(f"{seed} {at}".encode(), digest_size=8).digest()

    rest = sorted(sorted(range(len(rows)), key=key)[: count % len(rows)])
    return [*rows] * (count // len(rows)) + [rows[at] for at in rest]


def _encoded(options: Sft, data: str, tokenizer: Any, long: list[dict[str, object]]) -> list[TokenRow]:
    """The rows of a file that are short enough; the others are added to ``long``."""
    from jinja2.exceptions import TemplateError

    rows: list[TokenRow] = []
    count = 0
    for number, row in read_rows(Path(data)):
        try:
            tokens = encode(row, tokenizer)
        except (ValueError, TypeError, TemplateError) as error:
            raise cannot_render(options.model, data, number, error) from error
        count += 1
        if len(tokens.input_ids) <= options.max_length:
            rows.append(tokens)
        else:
            where = {"data": data} if data != options.data else {}
            long.append({"row": number, "tokens": len(tokens.input_ids), **where})
    if not rows:
        write_rejected(options.output, long)
        raise InputError(
            f"all {count} rows are longer than {options.max_length} tokens.",
            path=data,
            remedy="Raise max_length, or export other rows.",
        )
    return rows
