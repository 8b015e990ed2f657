"""Supervised fine-tuning on TRL's SFTTrainer: a file of rows and a folder of weights in, a folder out.

The output folder holds ``model/`` (complete weights, LoRA merged), ``metrics.json``, ``log.jsonl`` (a line
per logged step), ``rejected.jsonl`` (rows that were too long) and, until training is finished,
``checkpoints/``. The same call again continues from the last checkpoint, or returns at once if training is
finished.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gristmill.core.errors import InputError, RecipeError, RunError
from gristmill.core.files import write_whole
from gristmill.core.registry import suggest
from gristmill.engines.weights import file_identity
from gristmill.train.extras import need
from gristmill.train.rows import IGNORED, TokenRow, encode, read_rows
from gristmill.train.weights import whole_folder

_NO_MATTER = ("output", "log_every", "save_every")
"""Options that do not change the resulting weights."""


class Lora(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Low-rank adapters (arXiv 2106.09685)."""

    r: Annotated[int, Meta(ge=1)] = 16
    """The rank of the adapters."""
    alpha: Annotated[float, Meta(gt=0)] = 32
    """What the adapters add is scaled by ``alpha / r``."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """The probability, in [0, 1), with which an input of an adapter is dropped during training."""
    targets: Annotated[tuple[str, ...], Meta(min_length=1)] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """The names of the modules that get an adapter, as the model calls them."""
    last_layers: Annotated[int, Meta(ge=1)] | None = None
    """How many layers get adapters, counted from the last; ``null`` for all."""


class Sft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A training run.

    Two runs of one configuration on one machine with the same number of threads produce the same weights.
    """

    model: Annotated[str, Meta(min_length=1)]
    """A folder that Transformers can load, with ``config.json`` and ``.safetensors`` files."""
    data: Annotated[str, Meta(min_length=1)]
    """A JSON lines file in one of the forms that ``gristmill.train.rows`` describes."""
    output: Annotated[str, Meta(min_length=1)]
    """The folder for the results."""
    epochs: Annotated[float, Meta(gt=0)] = 1
    """How many times all rows are used; may be a fraction."""
    max_steps: Annotated[int, Meta(ge=1)] | None = None
    """The number of steps; replaces ``epochs``. ``null`` for as many as ``epochs`` takes."""
    learning_rate: Annotated[float, Meta(gt=0)] = 2e-5
    """The largest learning rate, reached at the end of the warm-up."""
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    """How the learning rate falls after the warm-up."""
    warmup: Annotated[float, Meta(ge=0, lt=1)] = 0.03
    """The share of the steps, in [0, 1), over which the learning rate rises from 0."""
    weight_decay: Annotated[float, Meta(ge=0)] = 0.0
    """The weight decay of AdamW."""
    batch: Annotated[int, Meta(ge=1)] = 8
    """Rows per step."""
    accumulate: Annotated[int, Meta(ge=1)] = 1
    """Into how many parts a batch is divided to save memory; the step is the same. Must divide ``batch``."""
    max_length: Annotated[int, Meta(ge=2)] = 1024
    """The largest number of tokens of a row. A longer row is not cut but left out, and listed in
    ``rejected.jsonl``."""
    lora: Lora | None = None
    """Train low-rank adapters, which are merged into the weights at the end; ``null`` trains all weights."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The number format of the computation. Trained weights are kept as 32-bit numbers in either case; with
    ``bfloat16`` and ``lora`` the frozen weights are rounded to 16 bits."""
    gpu: bool = True
    """Whether to use a GPU if there is one."""
    seed: int = 0
    """The seed of the order of the rows, of dropout and of new weights."""
    log_every: Annotated[int, Meta(ge=1)] = 10
    """Steps between two lines of ``log.jsonl``."""
    save_every: Annotated[int, Meta(ge=1)] = 200
    """Steps between two checkpoints."""

    def __post_init__(self) -> None:
        if self.batch % self.accumulate:
            raise RecipeError(
                f"accumulate: {self.accumulate} does not divide the batch of {self.batch} rows.",
                remedy="Choose a batch that is a multiple of accumulate.",
            )


class TrainingMetrics(Struct, frozen=True):
    """What a training run did.

    ``tokens`` counts the tokens of the rows once, ``trained_tokens`` those of them that carry loss.
    ``first_loss`` and ``last_loss`` are the mean losses (natural log, per token) of the first and last logged
    steps, ``seconds`` the time since the last start.
    """

    rows: int
    rows_too_long: int
    tokens: int
    trained_tokens: int
    parameters: int
    trained_parameters: int
    steps: int
    first_loss: float
    last_loss: float
    seconds: float
    fingerprint: str


def train(options: Sft) -> TrainingMetrics:
    """Train, and return what was done; see the module. TRL shows its own progress on standard error.

    Raises ``MissingExtraError``, ``InputError`` (a bad row, by file and number), ``RecipeError`` (a model or
    targets that do not exist) and ``RunError`` (an output folder of another configuration, a full disk).
    """
    out = Path(options.output)
    fingerprint = _fingerprint(options)
    if (done := _claim(out, options, fingerprint)) is not None:
        return done
    need("torch", "transformers", "trl", "accelerate", *(["peft"] if options.lora else []))
    from transformers import set_seed

    set_seed(options.seed)
    tokenizer = _tokenizer(options)
    rows, too_long = _encoded(options, tokenizer, out / "rejected.jsonl")
    trainer = _trainer(options, tokenizer, rows)
    parameters = list(trainer.model.parameters())
    started = time.perf_counter()
    checkpoint = _last_checkpoint(out / "checkpoints")
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    metrics = TrainingMetrics(
        rows=len(rows),
        rows_too_long=too_long,
        tokens=sum(len(r.input_ids) for r in rows),
        trained_tokens=sum(label != IGNORED for r in rows for label in r.labels),
        parameters=sum(p.numel() for p in parameters),
        trained_parameters=sum(p.numel() for p in parameters if p.requires_grad),
        steps=trainer.state.global_step,
        first_loss=losses[0],
        last_loss=losses[-1],
        seconds=round(time.perf_counter() - started, 1),
        fingerprint=fingerprint,
    )
    shutil.rmtree(out / "model", ignore_errors=True)  # of a run killed between the next two lines
    whole_folder(out / "model", lambda folder: _save(trainer.model, tokenizer, folder))
    write_whole(out / "metrics.json", msgspec.json.format(msgspec.json.encode(metrics)))
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return metrics


def _claim(out: Path, options: Sft, fingerprint: str) -> TrainingMetrics | None:
    """Mark the folder as this configuration's own. Returns the metrics if training is already finished."""
    known = out / "config.json"
    try:
        if known.is_file():
            if msgspec.json.decode(known.read_bytes())["fingerprint"] != fingerprint:
                raise RunError(
                    f"{out} belongs to another configuration, model or data file.",
                    remedy="Choose another output folder, or remove this one.",
                )
            if (out / "metrics.json").is_file():
                return msgspec.json.decode((out / "metrics.json").read_bytes(), type=TrainingMetrics)
            return None
        out.mkdir(parents=True, exist_ok=True)
        text = {"fingerprint": fingerprint, **msgspec.to_builtins(options)}
        write_whole(known, msgspec.json.format(msgspec.json.encode(text)))
    except OSError as error:
        raise RunError(
            f"{out} cannot be written: {error.strerror or error}.",
            remedy="Choose another output folder.",
        ) from error
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise RunError(
            f"{known} cannot be read: {error}.", remedy="Remove the folder, or choose another output."
        ) from error
    return None


def _fingerprint(options: Sft) -> str:
    """A digest of everything that determines the resulting weights."""
    model = Path(options.model)
    files = sorted(model.glob("*.safetensors"))
    if not files or not (model / "config.json").is_file():
        raise RecipeError(
            f"model: {options.model!r} is not a folder with config.json and .safetensors files.",
            remedy="Create one from the shipped model with: gristmill train weights --out DIR",
        )
    kept = {k: v for k, v in msgspec.to_builtins(options).items() if k not in _NO_MATTER}
    digest = hashlib.blake2b(msgspec.json.encode(kept, order="deterministic"), digest_size=16)
    for file in files:
        digest.update(file_identity(file).encode())
    try:
        digest.update(Path(options.data).read_bytes())
    except OSError as error:
        raise InputError(
            f"it cannot be read ({error.strerror}).", path=options.data, remedy="Give a JSON lines file."
        ) from error
    return digest.hexdigest()


def _tokenizer(options: Sft) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.model, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _encoded(options: Sft, tokenizer: Any, rejected: Path) -> tuple[list[TokenRow], int]:
    """The rows that are short enough, and how many are not; those are listed in the file ``rejected``."""
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
    write_whole(rejected, b"".join(msgspec.json.encode(one) + b"\n" for one in long))
    if not rows:
        what = (
            f"all {len(long)} rows are longer than {options.max_length} tokens."
            if long
            else "the file is empty."
        )
        raise InputError(what, path=options.data, remedy="Raise max_length, or export other rows.")
    return rows, len(long)


def _trainer(options: Sft, tokenizer: Any, rows: Sequence[TokenRow]) -> Any:
    """TRL's trainer for rows that are already tokenised and labelled; it only pads and shuffles them."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    out = Path(options.output)
    narrow = options.dtype == "bfloat16"
    weights = torch.bfloat16 if narrow and options.lora else torch.float32
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=weights, local_files_only=True)
    model.config.use_cache = False
    steps = options.max_steps or math.ceil(options.epochs * math.ceil(len(rows) / options.batch))

    class Log(TrainerCallback):  # type: ignore[misc]
        """Writes the trainer's own history, which a checkpoint restores, to ``log.jsonl``."""

        def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            lines = (msgspec.json.encode(entry) + b"\n" for entry in state.log_history)
            write_whole(out / "log.jsonl", b"".join(lines))

    config = SFTConfig(
        output_dir=str(out / "checkpoints"),
        num_train_epochs=options.epochs,
        max_steps=options.max_steps or -1,
        learning_rate=options.learning_rate,
        lr_scheduler_type=options.schedule,
        warmup_steps=math.ceil(options.warmup * steps),
        weight_decay=options.weight_decay,
        per_device_train_batch_size=options.batch // options.accumulate,
        gradient_accumulation_steps=options.accumulate,
        gradient_checkpointing=False,
        max_length=None,
        bf16=narrow,
        fp16=False,
        use_cpu=not (options.gpu and torch.cuda.is_available()),
        seed=options.seed,
        logging_steps=options.log_every,
        logging_first_step=True,
        save_strategy="steps",
        save_steps=options.save_every,
        save_total_limit=2,
        report_to="none",
        dataloader_pin_memory=False,
    )
    return SFTTrainer(
        model=model,
        args=config,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([row._asdict() for row in rows]),
        peft_config=_adapters(options.lora, model),
        callbacks=[Log()],
    )


def _adapters(lora: Lora | None, model: Any) -> Any:
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
        task_type="CAUSAL_LM",
    )


def _last_checkpoint(folder: Path) -> Path | None:
    """The last complete checkpoint. Its state is written last, so a checkpoint without it is incomplete."""
    whole = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    if hasattr(model, "merge_and_unload"):
        # Converted to 32 bits first: in bfloat16 most of what the adapters add would be lost by rounding.
        model = model.float().merge_and_unload()
    model.config.use_cache = True
    model.float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
