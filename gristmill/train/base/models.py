"""Models, tokenizers and the trainer's arguments, as the options of a training ask for them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec

from gristmill.core.errors import RecipeError
from gristmill.core.files import write_whole
from gristmill.core.registry import suggest
from gristmill.train.base.options import Lora, Training
from gristmill.train.base.processes import processes


def tokenizer_of(options: Training) -> Any:
    """The model's tokenizer; where it has no padding token, the end-of-text token pads."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.model, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def language_model(options: Training, folder: str | None = None) -> Any:
    """The causal language model in ``folder`` (the option ``model``), in the format that is trained."""
    import torch
    from transformers import AutoModelForCausalLM

    narrow = options.dtype == "bfloat16" and options.lora is not None
    weights = torch.bfloat16 if narrow else torch.float32
    model = AutoModelForCausalLM.from_pretrained(
        folder or options.model, dtype=weights, local_files_only=True
    )
    model.config.use_cache = False
    return model


def arguments(options: Training, rows: int) -> dict[str, Any]:
    """What every kind tells its trainer, in the names of Transformers' ``TrainingArguments``.

    ``RecipeError`` where the batch cannot be divided among the processes.
    """
    import torch

    if options.batch % (options.accumulate * processes()):
        raise RecipeError(
            f"batch: {options.batch} rows cannot be divided among {processes()} processes in "
            f"{options.accumulate} parts.",
            remedy=f"Choose a multiple of {options.accumulate * processes()}.",
        )

    steps = options.max_steps or math.ceil(options.epochs * math.ceil(rows / options.batch))
    return {
        "output_dir": str(Path(options.output) / "checkpoints"),
        "num_train_epochs": options.epochs,
        "max_steps": options.max_steps or -1,
        "learning_rate": options.learning_rate,
        "lr_scheduler_type": options.schedule,
        "warmup_steps": math.ceil(options.warmup * steps),
        "weight_decay": options.weight_decay,
        "per_device_train_batch_size": options.batch // options.accumulate // processes(),
        "gradient_accumulation_steps": options.accumulate,
        "gradient_checkpointing": False,
        "bf16": options.dtype == "bfloat16",
        "fp16": False,
        "use_cpu": not (options.gpu and torch.cuda.is_available()),
        "seed": options.seed,
        "logging_steps": options.log_every,
        "logging_first_step": True,
        "save_strategy": "steps",
        "save_steps": options.save_every,
        "save_total_limit": 2,
        "report_to": "none",
        "dataloader_pin_memory": False,
        "ddp_find_unused_parameters": False,
    }


def history(options: Training) -> Any:
    """A callback that writes the trainer's own history, which a checkpoint restores, to ``log.jsonl``."""
    from transformers import TrainerCallback

    path = Path(options.output) / "log.jsonl"

    class Log(TrainerCallback):  # type: ignore[misc]
        """Writes every logged step, the last one among them."""

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step >= state.max_steps:
                control.should_log = True  # so that the last loss is that of the end

        def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if not state.is_world_process_zero:
                return
            lines = (msgspec.json.encode(entry) + b"\n" for entry in state.log_history)
            write_whole(path, b"".join(lines))

    return Log()


def adapters(lora: Lora | None, model: Any, task: str = "CAUSAL_LM") -> Any:
    """PEFT's configuration. ``RecipeError`` for modules or layers that the model does not have."""
    if lora is None:
        return None
    from peft import LoraConfig

    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if unknown := [target for target in lora.targets if target not in names]:
        raise RecipeError(
            f"lora.targets: the model has no module {unknown[0]!r}.",
            remedy=suggest(unknown[0], sorted(names)),
        )
    layers = model.config.num_hidden_layers
    if lora.last_layers is not None and lora.last_layers > layers:
        raise RecipeError(
            f"lora.last_layers: {lora.last_layers} is more than the model's {layers} layers.",
            remedy=f"Give a number from 1 to {layers}.",
        )
    first = layers - (lora.last_layers or layers)
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        layers_to_transform=list(range(first, layers)) if first else None,
        task_type=task,
    )


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write complete weights as 32-bit numbers, and the tokenizer with its chat template."""
    if hasattr(model, "merge_and_unload"):
        # Converted to 32 bits first: in bfloat16 most of what the adapters add would be lost by rounding.
        model = model.float().merge_and_unload()
    model.config.use_cache = True
    model.float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
