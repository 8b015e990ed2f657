"""A trainer of Transformers for a loss of our own, where TRL has none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, TypeVar

from gristmill.core.errors import InputError
from gristmill.train.base.data import write_rejected
from gristmill.train.base.models import adapters, arguments, history
from gristmill.train.base.options import Training

T = TypeVar("T")
Batch = dict[str, Any]
Loss = Callable[[Any, Batch], tuple[Any, dict[str, float]]]
"""Of the model and a batch: the sum of the losses of its items, and what is to be logged besides."""


def plain_trainer(
    options: Training,
    model: Any,
    tokenizer: Any,
    rows: Sequence[Any],
    collate: Callable[[list[Any]], Batch],
    loss: Loss,
    task: str,
) -> Any:
    """A trainer that minimises the mean of ``loss`` over the items of a step.

    ``collate`` makes a batch of rows, whose key ``items`` says how many items have a loss. The mean is over
    all parts of an accumulated batch and over all processes at once, so that dividing a batch changes
    nothing.
    ``task`` is PEFT's name of the kind of model.
    """
    import torch
    from transformers import Trainer, TrainingArguments

    if options.lora is not None:
        from peft import get_peft_model

        model = get_peft_model(model, adapters(options.lora, model, task))

    class Plain(Trainer):  # type: ignore[misc]
        """Minimises ``loss``."""

        loss_is_scaled_for_ga = True
        seen: ClassVar[dict[str, list[float]]] = defaultdict(list)

        def get_batch_samples(self, iterator: Any, count: int, device: Any) -> Any:
            batches, _ = super().get_batch_samples(iterator, count, device)
            items = torch.tensor(sum(batch["items"] for batch in batches), device=device)
            # The gradients of processes are averaged, so each divides by its share of all items.
            return batches, self.accelerator.gather(items[None]).float().mean()

        def compute_loss(
            self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            total, measures = loss(model, inputs)
            for name, value in measures.items():
                self.seen[name].append(value)
            return total / num_items_in_batch

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            logs |= {name: sum(values) / len(values) for name, values in self.seen.items()}
            self.seen.clear()
            super().log(logs, start_time)

    return Plain(
        model=model,
        args=TrainingArguments(**arguments(options, len(rows)), remove_unused_columns=False),
        data_collator=collate,
        train_dataset=list(rows),
        processing_class=tokenizer,
        callbacks=[history(options)],
    )


def short_enough(options: Training, read: Iterable[tuple[int, int, T]]) -> tuple[list[T], int]:
    """Of rows with their numbers and lengths in tokens those that are not too long, and how many are; these
    are listed in ``rejected.jsonl``. None is cut: a solution that is cut loses step tags, but not their
    values. ``InputError`` where none is left."""
    found = list(read)
    kept = [row for _, length, row in found if length <= options.max_length]
    write_rejected(
        options.output,
        [{"row": n, "tokens": length} for n, length, _ in found if length > options.max_length],
    )
    if not kept:
        raise InputError(
            f"of {len(found)} rows none has at most {options.max_length} tokens.",
            path=options.data,
            remedy="Raise max_length, or export other rows.",
        )
    return kept, len(found) - len(kept)
