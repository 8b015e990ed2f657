"""Supervised fine-tuning on TRL's SFTTrainer: a file of rows and a folder of weights in, a folder out.

The output folder holds ``model/`` (whole weights, LoRA merged), ``metrics.json``, ``log.jsonl`` (a line per
logged step), ``rejected.jsonl`` (rows that were too long) and ``checkpoints/`` while it is not done. The same
call again goes on from the last checkpoint, or returns at once where all is done.
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
from gristmill.engines.llamacpp.engine import identity
from gristmill.train.extras import need
from gristmill.train.rows import IGNORED, TokenRow, encode, read_rows
from gristmill.train.weights import whole_folder

_NO_MATTER = ("output", "log_every", "save_every")
"""Options that do not change the weights that come out."""


class Lora(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Low-rank adapters (arXiv 2106.09685) on the modules named ``targets`` of the ``last_layers`` layers
    (``null`` for all); ``alpha / r`` scales what they add."""

    r: Annotated[int, Meta(ge=1)] = 16
    alpha: Annotated[float, Meta(gt=0)] = 32
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    targets: Annotated[tuple[str, ...], Meta(min_length=1)] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    last_layers: Annotated[int, Meta(ge=1)] | None = None


class Sft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A training run. ``model`` is a folder that Transformers loads, ``data`` a file as ``rows`` reads it.

    ``batch`` rows are taken for each step, ``accumulate`` of them computed apart (less memory, same step).
    ``learning_rate`` rises over the share ``warmup`` of the steps and then falls as ``schedule`` says.
    A row of more than ``max_length`` tokens is left out, counted and named in ``rejected.jsonl``; none is
    cut. ``lora`` trains adapters, which are merged at the end; ``null`` trains everything.

    ``dtype`` is what is computed in; what is trained is held as 32-bit numbers in either case. With
    ``bfloat16`` and LoRA the frozen weights are rounded to it. Without ``gpu`` nothing leaves the CPU. Two
    runs of one configuration on one machine with the same number of threads give the same weights.
    """

    model: Annotated[str, Meta(min_length=1)]
    data: Annotated[str, Meta(min_length=1)]
    output: Annotated[str, Meta(min_length=1)]
    epochs: Annotated[float, Meta(gt=0)] = 1
    max_steps: Annotated[int, Meta(ge=1)] | None = None
    learning_rate: Annotated[float, Meta(gt=0)] = 2e-5
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    warmup: Annotated[float, Meta(ge=0, lt=1)] = 0.03
    weight_decay: Annotated[float, Meta(ge=0)] = 0.0
    batch: Annotated[int, Meta(ge=1)] = 8
    accumulate: Annotated[int, Meta(ge=1)] = 1
    max_length: Annotated[int, Meta(ge=2)] = 1024
    lora: Lora | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    gpu: bool = True
    seed: int = 0
    log_every: Annotated[int, Meta(ge=1)] = 10
    save_every: Annotated[int, Meta(ge=1)] = 200

    def __post_init__(self) -> None:
        if self.batch % self.accumulate:
            raise RecipeError(
                f"accumulate: {self.accumulate} does not divide the batch of {self.batch}.",
                remedy="Choose two of which it does.",
            )


class TrainingMetrics(Struct, frozen=True):
    """What a training run did. ``tokens`` are those of the rows trained, once; ``trained_tokens`` carry loss.

    ``first_loss`` and ``last_loss`` are of the first and last logged steps; ``seconds`` of the last start.
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
    """Train, and return what was done; see the module. Progress is TRL's own, on the error stream.

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
    shutil.rmtree(out / "model", ignore_errors=True)  # of a run that was stopped between the next two lines
    whole_folder(out / "model", lambda folder: _save(trainer.model, tokenizer, folder))
    write_whole(out / "metrics.json", msgspec.json.format(msgspec.json.encode(metrics)))
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return metrics


def _claim(out: Path, options: Sft, fingerprint: str) -> TrainingMetrics | None:
    """Make the folder this configuration's own; what it did where it is done already."""
    known = out / "config.json"
    try:
        if known.is_file():
            if msgspec.json.decode(known.read_bytes())["fingerprint"] != fingerprint:
                raise RunError(
                    f"{out} belongs to another configuration, model or data file.",
                    remedy="Choose another output, or remove it.",
                )
            if (out / "metrics.json").is_file():
                return msgspec.json.decode((out / "metrics.json").read_bytes(), type=TrainingMetrics)
            return None
        out.mkdir(parents=True, exist_ok=True)
        text = {"fingerprint": fingerprint, **msgspec.to_builtins(options)}
        write_whole(known, msgspec.json.format(msgspec.json.encode(text)))
    except OSError as error:
        raise RunError(
            f"{out} cannot be written: {error.strerror or error}.", remedy="Choose another output."
        ) from error
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise RunError(f"{known} is unreadable: {error}.", remedy="Remove the folder.") from error
    return None


def _fingerprint(options: Sft) -> str:
    """Of all that decides the weights that come out."""
    model = Path(options.model)
    files = sorted(model.glob("*.safetensors"))
    if not files or not (model / "config.json").is_file():
        raise RecipeError(
            f"model: {options.model!r} is no folder with config.json and .safetensors files.",
            remedy="Make one of the shipped model with: gristmill train weights --out DIR",
        )
    kept = {k: v for k, v in msgspec.to_builtins(options).items() if k not in _NO_MATTER}
    digest = hashlib.blake2b(msgspec.json.encode(kept, order="deterministic"), digest_size=16)
    for file in files:
        digest.update(identity(file).encode())
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
    """The rows that fit, and how many do not; these are named in ``rejected``."""
    from jinja2.exceptions import TemplateError

    rows: list[TokenRow] = []
    long: list[dict[str, int]] = []
    for number, row in read_rows(Path(options.data)):
        try:
            tokens = encode(row, tokenizer)
        except (ValueError, TypeError, TemplateError) as error:
            raise InputError(
                f"the chat template of {options.model} cannot write it: {error}",
                path=options.data,
                row=number,
                remedy="Use another form of rows, or a model with a chat template that can.",
            ) from error
        if len(tokens.input_ids) <= options.max_length:
            rows.append(tokens)
        else:
            long.append({"row": number, "tokens": len(tokens.input_ids)})
    write_whole(rejected, b"".join(msgspec.json.encode(one) + b"\n" for one in long))
    if not rows:
        what = (
            f"all {len(long)} rows are longer than {options.max_length} tokens." if long else "it is empty."
        )
        raise InputError(what, path=options.data, remedy="Raise max_length, or export other rows.")
    return rows, len(long)


def _trainer(options: Sft, tokenizer: Any, rows: Sequence[TokenRow]) -> Any:
    """TRL's trainer on rows that are tokenised and labelled: it pads and shuffles them, and no more."""
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
        """Keeps ``log.jsonl`` as the trainer's own history, which a checkpoint restores."""

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
    """PEFT's configuration; ``RecipeError`` for a module or a number of layers that the model has not."""
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
        raise RecipeError(f"lora.last_layers: {lora.last_layers} of {layers}.", remedy=f"At most {layers}.")
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
    """The last whole checkpoint. Its state is written last, so that one without it was cut off."""
    whole = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    if hasattr(model, "merge_and_unload"):
        # Widened first: in bfloat16 most of what the adapters add would be rounded away.
        model = model.float().merge_and_unload()
    model.config.use_cache = True
    model.float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
