"""One training from its options to a folder, which every kind goes through.

The output folder holds ``model/`` (complete weights, LoRA merged), ``metrics.json``, ``log.jsonl`` (a line
per logged step), ``rejected.jsonl`` (rows that were left out) and, until training is finished,
``checkpoints/``. The same call again continues from the last checkpoint, or returns at once if training is
finished.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from gristmill.core.errors import InputError, RecipeError, RunError
from gristmill.core.files import write_whole
from gristmill.engines.weights import MODEL_FILES, folder_identity
from gristmill.train.base.models import save_model
from gristmill.train.base.options import Training, TrainingMetrics
from gristmill.train.base.processes import is_first, processes
from gristmill.train.extras import need
from gristmill.train.weights import whole_folder

T = TypeVar("T", bound=Training)
_NO_MATTER = ("output", "log_every", "save_every")
"""Options that do not change the resulting weights."""
_DOWNLOADED = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.tiktoken", "*.txt")
_NO_MEASURE = ("loss", "grad_norm", "learning_rate", "epoch", "step", "num_tokens")


class Prepared(NamedTuple):
    """A trainer of TRL or Transformers that is ready to train, and what it was given.

    ``rows`` are used and ``too_long`` were left out; ``tokens`` counts those of the rows, ``trained`` those
    of them that carry loss. ``save`` writes the trained model into a folder.
    """

    trainer: Any
    rows: int
    too_long: int
    tokens: int
    trained: int
    save: Callable[[Path], None] | None = None


def run_training(options: T, prepare: Callable[[T], Prepared]) -> TrainingMetrics:
    """Train, and return what was done; see the module. The trainer shows its own progress on standard error.

    ``prepare`` is called when the folder is claimed, the packages are there and the seed is set. Raises
    ``MissingExtraError``, ``InputError`` (a bad row, by file and number), ``RecipeError`` (a model that does
    not exist), ``RunError`` (an output folder of another configuration, a full disk), and what ``prepare``
    raises.
    """
    out = Path(options.output)
    folders = _folders(options)
    fingerprint = _fingerprint(options, folders)
    if (done := _claim(out, options, fingerprint)) is not None:
        return done
    need(*options.packages, *(["peft"] if options.lora else []))
    from transformers import set_seed

    set_seed(options.seed)
    options = replace(options, **{name: str(folder) for name, folder in folders.items()})
    with enough_memory(options):
        ready = prepare(options)
    trainer = ready.trainer
    parameters = list(trainer.model.parameters())
    started = time.perf_counter()
    checkpoint = _last_checkpoint(out / "checkpoints")
    with enough_memory(options):
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    metrics = TrainingMetrics(
        rows=ready.rows,
        rows_too_long=ready.too_long,
        tokens=ready.tokens,
        trained_tokens=ready.trained,
        parameters=sum(p.numel() for p in parameters),
        trained_parameters=sum(p.numel() for p in parameters if p.requires_grad),
        steps=trainer.state.global_step,
        first_loss=logged[0]["loss"],
        last_loss=logged[-1]["loss"],
        seconds=round(time.perf_counter() - started, 1),
        fingerprint=fingerprint,
        measures={k: float(v) for k, v in logged[-1].items() if k not in _NO_MEASURE},
        processes=processes(),
    )
    if is_first():
        shutil.rmtree(out / "model", ignore_errors=True)  # of a run killed between the next two lines
        whole_folder(
            out / "model", ready.save or (lambda to: save_model(trainer.model, trainer.processing_class, to))
        )
        write_whole(out / "metrics.json", msgspec.json.format(msgspec.json.encode(metrics)))
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return metrics


@contextmanager
def enough_memory(options: Training) -> Iterator[None]:
    """Say what to do where the memory does not suffice. Raises ``RunError``."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        # The CPU's allocator has no error of its own.
        if type(error) is RuntimeError and "not enough memory" not in str(error):
            raise
        raise RunError(
            f"out of memory with {options.batch // options.accumulate} rows of up to {options.max_length} "
            f"tokens at once: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            remedy="Raise accumulate, lower max_length, or train adapters (lora) or in bfloat16; in another "
            "output folder, if this one has a checkpoint.",
        ) from error


def _claim(out: Path, options: Training, fingerprint: str) -> TrainingMetrics | None:
    """Mark the folder as this configuration's own. Returns the metrics if training is already finished."""
    known = out / "config.json"
    try:
        if known.is_file():
            same = msgspec.json.decode(known.read_bytes())["fingerprint"] == fingerprint
            if not same and _trained(out):
                raise RunError(
                    f"{out} belongs to another configuration, model or data file.",
                    remedy="Choose another output folder, or remove this one.",
                )
            if (out / "metrics.json").is_file():
                return msgspec.json.decode((out / "metrics.json").read_bytes(), type=TrainingMetrics)
            if same:
                return None
        if not is_first():
            return None
        out.mkdir(parents=True, exist_ok=True)
        text = {"fingerprint": fingerprint, "kind": _kind(options), **msgspec.to_builtins(options)}
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


def _trained(out: Path) -> bool:
    """Whether something of a training is there. A call that was refused before its first checkpoint leaves
    nothing that another one could be mixed up with, so its options may be corrected."""
    return any((out / name).exists() for name in ("metrics.json", "model", "checkpoints"))


def _kind(options: Training) -> str:
    """The module of the kind of training, by which two kinds with equal options are told apart."""
    return type(options).__module__.rpartition(".")[2]


def _folders(options: Training) -> dict[str, Path]:
    """The folders of weights that the options name."""
    names = {name: getattr(options, name) for name in options.models}
    return {name: weights_folder(name, given) for name, given in names.items() if given is not None}


def _fingerprint(options: Training, folders: Mapping[str, Path]) -> str:
    """A digest of everything that determines the resulting weights."""
    kept = {k: v for k, v in msgspec.to_builtins(options).items() if k not in _NO_MATTER}
    digest = hashlib.blake2b(msgspec.json.encode(kept, order="deterministic"), digest_size=16)
    digest.update(_kind(options).encode())
    for folder in folders.values():
        digest.update(folder_identity(folder, MODEL_FILES).encode())
    for file in options.inputs():
        digest.update(_read(file))
    return digest.hexdigest()


def weights_folder(option: str, given: str) -> Path:
    """The folder that an option names, downloaded where it is ``hf:OWNER/NAME`` on the Hub. ``RecipeError``
    where it holds no weights that Transformers loads, or cannot be downloaded."""
    folder = _downloaded(option, given) if given.startswith("hf:") else Path(given)
    if not any(folder.glob("*.safetensors")) or not (folder / "config.json").is_file():
        raise RecipeError(
            f"{option}: {given!r} is not a folder with config.json and .safetensors files.",
            remedy="Create one from the shipped model with: gristmill train weights --out DIR. A model on "
            "the Hub is named hf:OWNER/NAME.",
        )
    return folder


def _downloaded(option: str, given: str) -> Path:
    need("huggingface_hub")
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.snapshot_download(given[3:], allow_patterns=list(_DOWNLOADED)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise RecipeError(
            f"{option}: {given[3:]!r} could not be downloaded from the Hub ({type(error).__name__}).",
            remedy="Look whether the name is OWNER/NAME and the Hub can be reached, or give a folder.",
        ) from error


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            f"it cannot be read ({error.strerror}).", path=path, remedy="Give a JSON lines file."
        ) from error


def _last_checkpoint(folder: Path) -> Path | None:
    """The last complete checkpoint. Its state is written last, so a checkpoint without it is incomplete."""
    whole = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
