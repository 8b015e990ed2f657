"""Fine-tuning a small encoder that reads whether a passage supports a claim, for the verifier ``grounding``.

The rows are those of ``grounding_rows``, or any with a passage, a sentence and a label. The trainer is
Transformers' own: TRL has none for classifiers of sentence pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.errors import InputError
from gristmill.core.files import write_whole
from gristmill.core.shares import wilson
from gristmill.train.base.claims import LABELS, SURE, ClaimRow, Label, premise
from gristmill.train.base.data import read_as, write_rejected
from gristmill.train.base.models import adapters, arguments, history
from gristmill.train.base.options import Training, TrainingMetrics
from gristmill.train.base.processes import is_first
from gristmill.train.base.running import Prepared, run_training
from gristmill.verifiers.grounding.entailment import Entails, load_entailment


class Encoder(Training, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fine-tuning of a classifier of sentence pairs: the passage first, then the claim.

    The loss is the cross-entropy of three labels. The head is new, unless the model has one for entailment,
    neutral and contradiction, which is then trained further.
    """

    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "accelerate")

    learning_rate: Annotated[float, Meta(gt=0)] = 5e-5
    """The largest learning rate, reached at the end of the warm-up."""
    epochs: Annotated[float, Meta(gt=0)] = 2
    """How many times all rows are used; may be a fraction."""
    batch: Annotated[int, Meta(ge=1)] = 16
    """Rows per step."""
    max_length: Annotated[int, Meta(ge=2)] = 128
    """The largest number of tokens of a passage and a claim together. A longer row is not cut but left out,
    and listed in ``rejected.jsonl``."""
    window: Annotated[int, Meta(ge=1, le=20)] | None = 3
    """Of a passage, the model reads the neighbouring sentences that have most of the claim's words, as many
    as this, just as ``grounding`` shows them to it; ``null`` for the whole passage."""
    balance: bool = True
    """Whether each label has the same weight in the loss, however many rows it has."""
    test: str | None = None
    """A JSON lines file of rows whose labels are to be trusted: how many of them the trained model finds is
    written to ``test.json``. It has no part in the training, so that a finished one can be tested again."""


OPTIONS = Encoder


class LabelFound(Struct, frozen=True):
    """How well one label is found, from a probability of ``least`` on: ``right`` of the ``called`` rows have
    it, and of the ``rows`` that have it. Precision and recall have 95 % Wilson intervals."""

    label: str
    least: float
    called: int
    right: int
    rows: int
    precision: tuple[float, float]
    recall: tuple[float, float]


class _Pair(NamedTuple):
    input_ids: list[int]
    token_type_ids: list[int] | None
    label: int

    def fields(self) -> dict[str, Any]:
        """What the trainer is given; not every model knows types of tokens."""
        own = {"input_ids": self.input_ids, "labels": self.label}
        return own if self.token_type_ids is None else {**own, "token_type_ids": self.token_type_ids}


def train(options: Encoder) -> TrainingMetrics:
    """Train, test where a file is given, and return what was done; errors as of ``run_training``."""
    tested = () if options.test is None else _claims(options.test)
    metrics = run_training(replace(options, test=None), _prepared)
    if not tested:
        return metrics
    found = measure(load_entailment(str(Path(options.output) / "model")), tested, options.window)
    if is_first():
        write_whole(Path(options.output) / "test.json", msgspec.json.format(msgspec.json.encode(found)))
    return replace(metrics, measures=metrics.measures | _shares(found))


def measure(entails: Entails, rows: Sequence[ClaimRow], window: int | None = 3) -> tuple[LabelFound, ...]:
    """What an encoder finds of labelled rows: by the likeliest label (``least`` 0), and from 0.9 on."""
    read: list[tuple[Label, Label, float]] = []
    for row in rows:
        [reading] = entails([premise(row, window)], row.sentence)
        rest = max(0.0, 1 - reading.entailed - reading.contradicted)
        chances = dict(zip(LABELS, (reading.entailed, reading.contradicted, rest), strict=True))
        likeliest = max(LABELS, key=chances.__getitem__)
        read.append((row.label, likeliest, chances[likeliest]))
    return tuple(_found(label, least, read) for least in (0.0, SURE) for label in LABELS)


def _found(label: Label, least: float, read: Sequence[tuple[Label, Label, float]]) -> LabelFound:
    called = [own == label for own, likeliest, chance in read if likeliest == label and chance >= least]
    right, rows = sum(called), sum(own == label for own, _, _ in read)
    return LabelFound(label, least, len(called), right, rows, wilson(right, len(called)), wilson(right, rows))


def _shares(found: Sequence[LabelFound]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for one in found:
        if one.least == 0:
            shares[f"{one.label}_precision"] = one.right / one.called if one.called else 0.0
            shares[f"{one.label}_recall"] = one.right / one.rows if one.rows else 0.0
    return shares


def _claims(path: str) -> tuple[ClaimRow, ...]:
    return tuple(row for _, row in read_as(Path(path), ClaimRow, "encoder"))


def _prepared(options: Encoder) -> Prepared:
    from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(options.model, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model, places = _classifier(options, tokenizer)
    rows, too_long = _encoded(options, tokenizer, places)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**arguments(options, len(rows))),
        processing_class=tokenizer,
        train_dataset=[row.fields() for row in rows],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_loss_func=cross_entropy(label_weights([row.label for row in rows], options.balance)),
        callbacks=[history(options)],
    )
    tokens = sum(len(row.input_ids) for row in rows)
    return Prepared(trainer, len(rows), too_long, tokens, tokens)


def label_weights(labels: Sequence[int], balance: bool) -> list[float]:
    """What a row of each label counts: rows / (labels that occur * rows of this label), so that all labels
    weigh the same and a row weighs 1 on average; 1 without ``balance``."""
    counts = Counter(labels)
    return [
        len(labels) / (len(counts) * counts[label]) if balance and counts[label] else 1.0
        for label in range(len(LABELS))
    ]


def cross_entropy(weights: Sequence[float]) -> Any:
    """The weighted cross-entropy of a part of a batch: the sum of w_y * -log p_y over the number of rows.

    Where a batch is divided (``accumulate``), the trainer gives the rows of the whole batch, by which the sum
    is divided, so that the step is the same.
    """
    import torch

    def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        logits = outputs.logits.float()
        own = torch.nn.functional.cross_entropy(
            logits, labels, weight=torch.tensor(weights, device=logits.device), reduction="sum"
        )
        return own / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    return loss


def _classifier(options: Encoder, tokenizer: Any) -> tuple[Any, Mapping[Label, int]]:
    """The model with a head of three labels, and the place of each label in it."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(options.model, local_files_only=True)
    places = places_of(config.id2label)
    if places is None:
        places = {label: number for number, label in enumerate(LABELS)}
        config.num_labels = len(LABELS)
        config.id2label = dict(enumerate(LABELS))
        config.label2id = dict(places)
    config.pad_token_id = tokenizer.pad_token_id
    model = AutoModelForSequenceClassification.from_pretrained(
        options.model, config=config, local_files_only=True, ignore_mismatched_sizes=True
    ).float()
    if options.lora is not None:
        from peft import get_peft_model

        model = get_peft_model(model, adapters(options.lora, model, "SEQ_CLS"))
    return model, places


def places_of(labels: Mapping[int, str]) -> dict[Label, int] | None:
    """The place of each of our labels in a head for natural language inference, or in one of our own;
    ``None`` for any other head."""
    begins = {
        "supported": ("entail", "support"),
        "contradicted": ("contradict", "refut"),
        "unsupported": ("neutral", "unsupported", "not enough"),
    }
    found: dict[Label, int] = {}
    for label in LABELS:
        fitting = [int(n) for n, name in labels.items() if name.lower().startswith(begins[label])]
        if len(fitting) == 1:
            found[label] = fitting[0]
    return found if len(found) == len(LABELS) == len(labels) else None


def _encoded(options: Encoder, tokenizer: Any, places: Mapping[Label, int]) -> tuple[list[_Pair], int]:
    """The rows that are short enough, and how many are not; those are listed in ``rejected.jsonl``."""
    rows: list[_Pair] = []
    long: list[dict[str, int]] = []
    for number, row in read_as(Path(options.data), ClaimRow, "encoder"):
        read = tokenizer(premise(row, options.window), row.sentence)
        if len(read["input_ids"]) > options.max_length:
            long.append({"row": number, "tokens": len(read["input_ids"])})
        else:
            rows.append(_Pair(read["input_ids"], read.get("token_type_ids"), places[row.label]))
    write_rejected(options.output, long)
    if not rows:
        raise InputError(
            f"all {len(long)} rows are longer than {options.max_length} tokens.",
            path=options.data,
            remedy="Raise max_length, or lower window.",
        )
    if len({row.label for row in rows}) == 1:
        raise InputError(
            "all rows have the same label, so that there is nothing to learn.",
            path=options.data,
            remedy="Give rows of at least two labels.",
        )
    return rows, len(long)
