"""Conversion of a model's weights between a GGUF file and a folder that Transformers and vLLM load.

Training works on a folder, the embedded engine on a GGUF file. ``unpack`` makes a folder from a GGUF file and
``pack`` a GGUF file from a trained folder, so that a model can be trained and measured on one machine.

``pack`` is written by hand because llama.cpp's converter is a script of its repository and not a package; it
replaces the tensors of the file that the model was trained from, with the ``gguf`` package.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from gristmill.core.errors import RecipeError, RunError
from gristmill.core.files import atomic
from gristmill.engines.llamacpp.engine import find_model
from gristmill.train.extras import need

Precision = Literal["f32", "f16", "bf16", "q8_0"]

_LLAMA = "llama"
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_NO_ROOM = "Free some space, or choose another place."
_OTHER_FILE = "Give the GGUF file that the model was trained from with --like."
_BLOCK = 32
_FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}


def unpack(model: str, out: Path, *, dtype: Literal["float32", "bfloat16"] = "float32") -> Path:
    """Write the model of a GGUF file as safetensors, tokenizer, chat template and generation settings.

    ``model`` is as for the embedded engine: a path, ``hf:OWNER/REPOSITORY/FILE.gguf``, or empty for the
    shipped model. Quantised weights are written as the numbers that they represent. ``out`` is written
    completely or not at all; it must not exist, or be empty. Raises ``MissingExtraError``, ``RecipeError``
    for a file that cannot be used, ``RunError`` if ``out`` cannot be written.
    """
    need("torch", "transformers", "gguf")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = find_model(model)
    source = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}

    def save(folder: Path) -> None:
        try:
            loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(**source)
        except (ValueError, KeyError, NotImplementedError) as error:
            raise RecipeError(
                f"Transformers cannot read {path.name}: {error}",
                remedy="Use a GGUF file of an architecture that it supports, or the model's own folder.",
            ) from error
        # Transformers treats what it has read from a GGUF file as still quantised, and would not save it.
        config = loaded.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        plain.load_state_dict(loaded.state_dict())
        plain.to(getattr(torch, dtype)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return whole_folder(out, save)


def whole_folder(out: Path, save: Callable[[Path], None]) -> Path:
    """Let ``save`` write a folder, and rename it to ``out`` when it is complete.

    ``RunError`` if ``out`` is not empty or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} already exists.", remedy="Remove it, or choose another folder.")
    try:
        with atomic(out) as unfinished:
            unfinished.mkdir(parents=True)
            save(unfinished)
    except OSError as error:
        raise RunError(
            f"{out} cannot be written: {error.strerror or error}.",
            remedy="Make room or choose another place.",
        ) from error
    return out


def pack(model: Path, out: Path, *, like: str = "", precision: Precision = "f16") -> Path:
    """Write the weights of a folder as a GGUF file that llama.cpp runs.

    ``like`` is the GGUF file that the model was trained from (as in ``unpack``): its settings, tokenizer and
    chat template are copied, and only its tensors are replaced. So the folder must hold a Llama model of the
    same shape and vocabulary. Matrices are written in ``precision`` (``q8_0``: 8 bits and a scale for each 32
    numbers), vectors as 32-bit numbers. ``out`` is
    written completely or not at all. Raises ``MissingExtraError``, ``RecipeError`` for a folder that does not
    match ``like``, ``RunError`` if ``out`` cannot be written.
    """
    need("torch", "safetensors", "gguf")
    import gguf

    reader = gguf.GGUFReader(find_model(like))
    architecture = _field(reader, "general.architecture")
    if architecture != _LLAMA:
        raise RecipeError(
            f"like: its architecture is {architecture!r}, but only {_LLAMA!r} can be written.",
            remedy="Convert the folder with llama.cpp's convert_hf_to_gguf.py.",
        )
    weights = _weights(model)
    heads = _field(reader, "llama.attention.head_count"), _field(reader, "llama.attention.head_count_kv")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic(out) as unfinished:
            writer = gguf.GGUFWriter(unfinished, architecture)
            _copy_fields(reader, writer, gguf.LlamaFileType[_FILE_TYPES[precision]])
            for tensor in reader.tensors:
                shape = tuple(int(n) for n in reversed(tensor.shape))
                array = _taken(weights, tensor.name, shape, heads)
                if precision == "q8_0" and array.ndim > 1 and array.shape[-1] % _BLOCK:
                    raise RecipeError(
                        f"--precision q8_0 stores rows in blocks of {_BLOCK} numbers, and those of "
                        f"{tensor.name} have {array.shape[-1]}.",
                        remedy="Write it with --precision f16.",
                    )
                kind = gguf.GGMLQuantizationType[precision.upper() if array.ndim > 1 else "F32"]
                writer.add_tensor(tensor.name, gguf.quants.quantize(array, kind), raw_dtype=kind)
            _refuse_rest(weights, {_known_name(tensor.name) for tensor in reader.tensors})
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
    except OSError as error:
        raise RunError(
            f"{out} cannot be written: {error.strerror or error}.",
            remedy="Make room or choose another place.",
        ) from error
    return out


def _field(reader: Any, name: str) -> Any:
    field = reader.get_field(name)
    return None if field is None else field.contents()


def _copy_fields(reader: Any, writer: Any, file_type: int) -> None:
    """Copy every key of the source except those that describe its tensors."""
    import gguf

    for field in reader.fields.values():
        # The writer sets these itself: the format's version, the counts, the architecture.
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        if field.name == "general.quantization_version":
            continue
        value = int(file_type) if field.name == "general.file_type" else field.contents()
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, value, field.types[0], sub_type=inner)


def _weights(model: Path) -> dict[str, Any]:
    """The tensors of a folder's safetensors files, by name, as 32-bit arrays."""
    import torch
    from safetensors.torch import load_file

    files = sorted(model.glob("*.safetensors"))
    if not files:
        raise RecipeError(
            f"model: {str(model)!r} contains no .safetensors file.",
            remedy="Give the folder that 'gristmill train sft' wrote, OUT/model.",
        )
    return {
        name: tensor.to(torch.float32).numpy() for file in files for name, tensor in load_file(file).items()
    }


def _taken(weights: dict[str, Any], name: str, shape: tuple[int, ...], heads: tuple[int, int]) -> Any:
    """The tensor that llama.cpp calls ``name``, in llama.cpp's order."""
    known = _known_name(name)
    if known == _HEAD and known not in weights:
        known = _EMBEDDING  # one tensor in the folder, two in the file
    array = weights.get(known)
    if array is None or array.shape != shape:
        found = "is missing" if array is None else f"has the shape {array.shape}"
        raise RecipeError(
            f"model: {known or name} {found}; the GGUF file has {name} of {shape}.", remedy=_OTHER_FILE
        )
    for part, count in zip(("attn_q", "attn_k"), heads, strict=True):
        if f".{part}." in name:
            return permuted(array, count)
    return array


def _known_name(name: str) -> str:
    """Transformers' name of a Llama tensor of a GGUF file; empty for one it does not have."""
    part, _, kind = name.rpartition(".")
    if part in _TOP:
        return f"{_TOP[part]}.{kind}"
    block, _, rest = part.partition(".")
    number, _, layer = rest.partition(".")
    if block == "blk" and layer in _LAYER:
        return f"model.layers.{number}.{_LAYER[layer]}.{kind}"
    return ""


def permuted(array: Any, heads: int) -> Any:
    """Rows of a query or key projection in llama.cpp's order.

    Transformers rotates the first half of a head's numbers with its second half, llama.cpp each even one
    with the odd one after it: row ``h, half, i`` becomes row ``h, i, half``.
    """
    halves = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:])
    return halves.swapaxes(1, 2).reshape(array.shape)


def _refuse_rest(weights: dict[str, Any], written: set[str]) -> None:
    """Refuse tensors that would be lost. A tied model's head may be stored in addition to its embedding."""
    rest = sorted(weights.keys() - written)
    if rest == [_HEAD] and (weights[_HEAD] == weights[_EMBEDDING]).all():
        return
    if rest:
        raise RecipeError(
            f"model: the GGUF file has no tensor for {', '.join(rest[:3])} ({len(rest)} in all).",
            remedy=_OTHER_FILE,
        )
