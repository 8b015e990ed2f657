"""Folders of models to merge: where their tensors are, and whether they belong to one model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from gristmill.core.errors import InputError, RecipeError
from gristmill.train.merging.tensors import FLOATING, Stored, header

INDEX = "model.safetensors.index.json"
_WEIGHTS = (("config.json", "model.safetensors"), ("adapter_config.json", "adapter_model.safetensors"))
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
_HEADS = ("lm_head.weight", "embed_out.weight", "output.weight")
_HISTORY = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache"}
"""Settings that say how a model was saved; they may differ, and nothing depends on them."""
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
_TOKENIZER = ("tokenizer.model", "vocab.json", "vocab.txt", "merges.txt")
_BESIDE = (
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
)
_SAVE = "Give the folder that save_pretrained or 'gristmill train sft' wrote (OUT/model)."


class Checkpoint(NamedTuple):
    """A model in a folder. ``headers`` are the first bytes of its weight files, in the order of their names,
    ``tensors`` all of their tensors."""

    folder: Path
    config: dict[str, Any]
    headers: dict[str, bytes]
    tensors: dict[str, Stored]

    @property
    def tied(self) -> bool:
        """Whether the output matrix is the embedding, so that a file need not hold both."""
        return bool(self.config.get("tie_word_embeddings", False))

    def find(self, name: str) -> Stored | None:
        """A tensor; for the head of a tied model that does not store it, the embedding."""
        if name not in self.tensors and self.tied and name.endswith(_HEADS):
            name = next((n for n in self.tensors if n.endswith(_EMBEDDINGS)), name)
        return self.tensors.get(name)


def read(folder: Path) -> Checkpoint:
    """The model in ``folder``: safetensors in one file or several with an index; also a PEFT adapter.

    Reads the headers only. Raises ``InputError`` for a folder or file that cannot be used.
    """
    kinds = [kind for kind in _WEIGHTS if (folder / kind[0]).is_file()]
    if not kinds:
        raise InputError(
            "it has neither config.json nor adapter_config.json.", path=str(folder), remedy=_SAVE
        )
    config_name, single = kinds[0]
    config = _document(folder / config_name)
    if "quantization_config" in config:
        raise InputError(
            "its weights are quantised, and those of two models have no common scale.",
            path=str(folder / config_name),
            remedy="Merge the unquantised models and quantise the result.",
        )
    names = [single]
    if (folder / INDEX).is_file():
        found = _document(folder / INDEX).get("weight_map")
        if not isinstance(found, dict) or not all(isinstance(n, str) for n in found.values()):
            raise InputError("it has no weight_map of names.", path=str(folder / INDEX), remedy=_SAVE)
        names = sorted(set(found.values()))
    headers: dict[str, bytes] = {}
    tensors: dict[str, Stored] = {}
    for name in names:
        if Path(name).name != name:
            raise InputError(f"{name!r} is not the name of a file in this folder.", path=str(folder / INDEX))
        headers[name], inside = header(folder / name)
        if twice := sorted(tensors.keys() & inside.keys()):
            raise InputError(f"{twice[0]} is also in another file.", path=str(folder / name), remedy=_SAVE)
        tensors |= inside
    return Checkpoint(folder, config, headers, tensors)


def _document(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"it cannot be read: {error}.", path=str(path), remedy=_SAVE) from error


def agreement(models: Sequence[Checkpoint]) -> list[str]:
    """What differs between models that can be merged, a line each.

    Raises ``RecipeError`` where a setting of the architecture, the vocabulary or the shape of a tensor
    differs from the first model's: their average would mean nothing.
    """
    notes = []
    first = models[0]
    for other in models[1:]:
        notes += _configs(first, other)
        notes += _tokenizers(first.folder, other.folder)
        for name, ours in first.tensors.items():
            theirs = other.find(name)
            if theirs is None:
                continue
            if theirs.shape != ours.shape:
                raise RecipeError(
                    f"{name} has the shape {list(ours.shape)} in {first.folder} and {list(theirs.shape)} in "
                    f"{other.folder}.",
                    remedy="Merge models of one architecture and vocabulary.",
                )
            if (ours.dtype in FLOATING) != (theirs.dtype in FLOATING):
                raise RecipeError(
                    f"{name} is {ours.dtype} in {first.folder} and {theirs.dtype} in {other.folder}.",
                    remedy="Save both models in one precision.",
                )
        kinds = [{t.dtype for t in model.tensors.values()} for model in (first, other)]
        if kinds[0] != kinds[1]:
            notes.append(f"{other.folder} is stored as {', '.join(sorted(kinds[1]))}; written as the first")
    return notes


def _configs(first: Checkpoint, other: Checkpoint) -> list[str]:
    notes = []
    for key in sorted((first.config.keys() & other.config.keys()) - _HISTORY):
        ours, theirs = first.config[key], other.config[key]
        if ours == theirs:
            continue
        if key not in _TOKENS:
            raise RecipeError(
                f"{key} is {ours!r} in {first.folder} and {theirs!r} in {other.folder}.",
                remedy="Merge models that were trained from one another or from one base.",
            )
        notes.append(f"{key} is {ours!r}; in {other.folder} it is {theirs!r}")
    if one_sided := sorted((first.config.keys() ^ other.config.keys()) - _HISTORY):
        notes.append(
            f"settings that only one of {first.folder} and {other.folder} has: {', '.join(one_sided)}"
        )
    return notes


def _tokenizers(first: Path, other: Path) -> list[str]:
    """Refuse another vocabulary; say what else differs."""
    notes = []
    for name in ("tokenizer.json", *_TOKENIZER):
        ours, theirs = first / name, other / name
        if ours.exists() != theirs.exists():
            notes.append(f"{name} is only in {first if ours.exists() else other}")
        elif ours.exists() and _vocabulary(ours) != _vocabulary(theirs):
            raise RecipeError(
                f"{name} of {first} and of {other} have different tokens.",
                remedy="A row of the embedding would mean two tokens. Merge models of one tokenizer.",
            )
    for name in _BESIDE:
        ours, theirs = first / name, other / name
        if ours.exists() and theirs.exists() and ours.read_bytes() != theirs.read_bytes():
            notes.append(f"{name} differs in {other}; the first is taken")
    return notes


def _vocabulary(path: Path) -> Any:
    """What gives tokens their numbers: not truncation and padding, which training sets."""
    if path.name != "tokenizer.json":
        return path.read_bytes()
    whole = _document(path)
    return whole.get("model"), whole.get("added_tokens")
