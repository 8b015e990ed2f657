"""The trainer behind preference training: log-probabilities of sides, a loss by its name, the reference once.

An example has one or two sides; a batch of n examples holds all first sides, then all second ones, and every
number of theirs has the shape (n,) or (sides, n).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import ExportableState

from gristmill.train.base.turns import IGNORED

RowLosses = Callable[[Any, Any, Any, dict[str, Any]], Any]


class RunningMean(TrainerCallback, ExportableState):  # type: ignore[misc]
    """BCO's mean of all rewards so far, which a checkpoint holds."""

    def __init__(self) -> None:
        self.total = 0.0
        self.count = 0

    def state(self) -> dict[str, Any]:
        """What the checkpoint holds, in Transformers' form."""
        return {"args": {}, "attributes": {"total": self.total, "count": self.count}}

    def add(self, values: Any) -> float:
        """The mean with these values among all."""
        self.total += float(values.sum())
        self.count += values.numel()
        return self.total / self.count


class ComparingTrainer(Trainer):  # type: ignore[misc]
    """Transformers' trainer with a loss of sides.

    ``row_losses`` gives those of the rows, of shape (n,), from this trainer, the sums of log-probabilities
    and the numbers of tokens of the sides, (sides, n), and the batch. Where second sides are only
    ``measured``, nothing is trained through them.
    """

    def __init__(self, row_losses: RowLosses, measured: bool, **given: Any) -> None:
        super().__init__(**given)
        self.row_losses = row_losses
        self.measured = measured
        # The loss is a mean over rows, which the trainer has to divide by the parts of a batch.
        self.model_accepts_loss_kwargs = False
        self.seen: dict[str, list[float]] = {}

    def set_reference(self, model: Any | None) -> None:
        """Compute the reference's sums once, of ``model`` or of the one that will be trained."""
        import torch

        model = (self.model if model is None else model).to(self.args.device)
        was_training = model.training
        model.eval()
        size = self.args.per_device_train_batch_size
        for start in range(0, len(self.train_dataset), size):
            rows = self.train_dataset[start : start + size]
            batch = self._prepare_inputs(self.data_collator(rows))
            with torch.no_grad(), self.accelerator.autocast():
                sums, _ = sums_of(model, batch["input_ids"], batch["labels"])
            for row, reference in zip(rows, sums.view(-1, len(rows)).T.tolist(), strict=True):
                row["reference"] = reference
        model.train(was_training)

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:
        """The mean over rows of a row's weight times its loss."""
        import torch

        n = len(inputs["weight"])
        ids, labels = inputs["input_ids"], inputs["labels"]
        trained = n if self.measured else len(ids)
        sums, counts = sums_of(model, ids[:trained], labels[:trained])
        if self.measured:
            with torch.no_grad():
                more, numbers = sums_of(model, ids[n:], labels[n:])
            sums, counts = torch.cat([sums, more]), torch.cat([counts, numbers])
        loss = (inputs["weight"] * self.row_losses(self, sums.view(-1, n), counts.view(-1, n), inputs)).mean()
        return (loss, {}) if return_outputs else loss

    def gathered(self, values: Any) -> Any:
        """The values of all processes, without a gradient."""
        return self.accelerator.gather(values.detach())

    def running_mean(self, values: Any) -> float:
        """The mean of these values of all processes and of all those of earlier steps."""
        [mean] = [one for one in self.callback_handler.callbacks if isinstance(one, RunningMean)]
        return mean.add(self.gathered(values))

    def note(self, **measures: Any) -> None:
        """Measure a batch: numbers by name, whose mean is logged."""
        for name, values in measures.items():
            if values.numel():
                self.seen.setdefault(name, []).append(float(values.detach().mean()))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the measures since the last line, of this process's rows, with the loss."""
        if "loss" in logs:
            logs |= {name: sum(values) / len(values) for name, values in self.seen.items()}
            self.seen = {}
        super().log(logs, start_time)


def sums_of(model: Any, input_ids: Any, labels: Any) -> tuple[Any, Any]:
    """The sum of the log-probabilities (natural) of the tokens with loss, and their number (at least 1), for
    rows of shape (rows, tokens); both have the shape (rows,)."""
    from trl.trainer.utils import selective_log_softmax

    mask = input_ids >= 0
    ids = input_ids.masked_fill(~mask, 0)
    logits = model(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits[:, :-1]
    wanted = labels[:, 1:]
    held = wanted != IGNORED
    logps = selective_log_softmax(logits.float(), wanted.masked_fill(~held, 0))
    return (logps * held).sum(-1), held.sum(-1).clamp(min=1)


def collated(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch of examples. ``input_ids`` and ``labels`` are (sides * n, tokens), -1 and ``IGNORED`` where a
    row has ended."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    sides = [row["sides"][k] for k in range(len(rows[0]["sides"])) for row in rows]

    def padded(lists: list[list[int]], value: int) -> Any:
        return pad_sequence([torch.tensor(one) for one in lists], batch_first=True, padding_value=value)

    return {
        "input_ids": padded([side.input_ids for side in sides], -1),
        "labels": padded([side.labels for side in sides], IGNORED),
        "reference": torch.tensor([row["reference"] for row in rows]).T,
        "wanted": torch.tensor([row["wanted"] for row in rows]),
        **{name: torch.tensor([float(row[name]) for row in rows]) for name in ("weight", "flip", "offset")},
    }


def trainer_of(
    row_losses: RowLosses, model: Any, rows: list[dict[str, Any]], arguments: dict[str, Any], **given: Any
) -> ComparingTrainer:
    """A trainer that still needs its reference (``set_reference``); ``given`` is Transformers' own, and
    ``measured``."""
    more = {"remove_unused_columns": False, "restore_callback_states_from_checkpoint": True}
    callbacks = [*given.pop("callbacks"), RunningMean()]
    return ComparingTrainer(
        row_losses,
        model=model,
        args=TrainingArguments(**arguments, **more),
        train_dataset=rows,
        data_collator=collated,
        callbacks=callbacks,
        **given,
    )
