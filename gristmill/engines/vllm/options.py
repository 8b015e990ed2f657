"""The options of vLLM, in process and as a server: the model, its adapter and vLLM's own arguments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gristmill.core.errors import RecipeError
from gristmill.engines.options import ReadingOptions, ReasoningAs
from gristmill.engines.weights import MODEL_FILES, file_identity, folder_identity

ADAPTER = "adapter"
"""The name under which the LoRA adapter is known to vLLM."""

# Arguments that change or cut off the model's answers, and not only its speed: they are part of its identity.
_MEANING = (
    "calculate_kv_scales",
    "chat_template_content_format",
    "code_revision",
    "config_format",
    "default_chat_template_kwargs",
    "disable_sliding_window",
    "dtype",
    "generation_config",
    "hf_config_path",
    "hf_overrides",
    "kv_cache_dtype",
    "load_format",
    "logits_processor_pattern",
    "logits_processors",
    "logprobs_mode",
    "lora_dtype",
    "max_model_len",
    "override_attention_dtype",
    "override_generation_config",
    "quantization",
    "reasoning_parser",
    "revision",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "speculative_config",
    "structured_outputs_config",
    "tokenizer",
    "tokenizer_mode",
    "tokenizer_revision",
)
_OURS = {
    "model": "model",
    "enable_lora": "lora",
    "lora_modules": "lora",
    "chat_template": "chat_template",
    "served_model_name": "model",
    "host": "base_url",
    "port": "port",
    "api_key": "base_url",
}
_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


class VllmOptions(ReadingOptions, frozen=True, kw_only=True):
    """A model that vLLM loads.

    Both kinds of engine load it in the same way and share their completions in the log, so this class is
    the base of both.
    """

    model: Annotated[str, Meta(min_length=1)]
    """A directory in the format of Transformers, or the name of a repository on the Hub."""
    concurrency: Annotated[int, Meta(ge=1)] = 256
    """The largest number of requests that vLLM may batch over; its own ``max_num_seqs`` says how many it
    computes at a time."""
    lora: str = ""
    """The directory of a LoRA adapter in the format of PEFT; empty for none."""
    chat_template: str = ""
    """A file with a Jinja chat template; empty for the model's own. A base model often has none."""
    chat_template_kwargs: dict[str, Any] = msgspec.field(default_factory=dict)
    """Variables of the chat template, such as ``enable_thinking: false``. They are part of the log's key."""
    reasoning_as: ReasoningAs = "reasoning"
    """How the reasoning of earlier turns is sent where a stage keeps it: vLLM reads ``reasoning``."""
    args: dict[str, Any] = msgspec.field(default_factory=dict)
    """vLLM's own engine arguments under their own names: ``max_model_len``, ``dtype``,
    ``gpu_memory_utilization``, ``tensor_parallel_size``, ``data_parallel_size`` and all others."""


def check(options: VllmOptions) -> None:
    """``RecipeError`` for a path that does not exist, or an argument that is set by another option."""
    for name in options.args:
        if name != name.lower().replace("-", "_"):
            raise RecipeError(
                f"args: {name!r} is not the name of a vLLM argument.",
                remedy=f"Write it as {name.lower().lstrip('-').replace('-', '_')!r}.",
            )
        if name in _OURS:
            raise RecipeError(
                f"args: {name!r} is set by the option {_OURS[name]!r}.", remedy=f"Use {_OURS[name]!r}."
            )
    folder = Path(options.model)
    if options.model.startswith((".", "/", "~")) and not (folder / "config.json").is_file():
        raise RecipeError(
            f"model: {options.model!r} has no config.json.",
            remedy="Give a directory in the format of Transformers, or the name of a repository on the Hub.",
        )
    if options.lora and not (Path(options.lora) / "adapter_config.json").is_file():
        raise RecipeError(
            f"lora: {options.lora!r} has no adapter_config.json.",
            remedy="Give the directory that PEFT's save_pretrained wrote.",
        )
    if options.chat_template and not Path(options.chat_template).is_file():
        raise RecipeError(
            f"chat_template: the file {options.chat_template!r} does not exist.", remedy="Check the path."
        )


def identity(options: VllmOptions) -> str:
    """The model's part of the log's keys: the weights' name and fingerprint, and everything that changes its
    answers.

    A repository on the Hub is identified by its name (and ``revision``), since it may not be downloaded yet.
    """
    folder = Path(options.model)
    parts = [folder_identity(folder, MODEL_FILES) if folder.is_dir() else options.model]
    if options.lora:
        parts.append(f"lora={folder_identity(Path(options.lora), MODEL_FILES)}")
    if options.chat_template:
        parts.append(f"template={file_identity(Path(options.chat_template))}")
    given = {name: _content(options.args[name]) for name in _MEANING if name in options.args}
    for extra in (given, options.chat_template_kwargs):
        if extra:
            parts.append(msgspec.json.encode(extra, order="sorted").decode())
    return " ".join(parts) + options.reading


def _content(value: Any) -> Any:
    """The identity of a directory (a tokenizer's, for example) that an argument names; other values as they
    are."""
    if isinstance(value, str) and value and Path(value).is_dir():
        return folder_identity(Path(value), MODEL_FILES)
    return value


def arguments(options: VllmOptions) -> dict[str, Any]:
    """vLLM's engine arguments without the model: those given, and those that the adapter needs."""
    given = dict(options.args)
    if options.lora:
        given["enable_lora"] = True
        given.setdefault("max_lora_rank", _rank(Path(options.lora) / "adapter_config.json"))
    return given


def _rank(config: Path) -> int:
    """The smallest rank that vLLM supports and the adapter fits in; vLLM's own default is 16."""
    try:
        rank = msgspec.json.decode(config.read_bytes()).get("r", 16)
    except (msgspec.DecodeError, AttributeError) as error:
        raise RecipeError(
            f"lora: {config} is not an adapter's configuration: {error}.",
            remedy="Give the directory that PEFT's save_pretrained wrote.",
        ) from error
    return next((offered for offered in _LORA_RANKS if offered >= rank), _LORA_RANKS[-1])


def flags(given: dict[str, Any]) -> Iterator[str]:
    """The same arguments on the command line of ``vllm serve``."""
    for name, value in given.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        elif value is not None:
            yield f"--{flag}"
            if isinstance(value, str):
                yield value
            else:
                yield msgspec.json.encode(value).decode()
