"""The trainers' settings for an export, as a file that the trainer reads and as text to be shown.

Only what concerns the data is in them: the model, its chat template and how long to train are the reader's.
File names are bare: the trainer is started in the folder of the exports, or the names are changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.exports import Export

_LOADERS = {".jsonl": "json", ".parquet": "parquet"}
"""What ``datasets`` calls the kinds of file."""


class TrainerConfig(Struct, frozen=True):
    """How a trainer is told of data."""

    versions: str
    """The version whose code was read for the layouts."""
    option: str
    """How the command is given the file, which is called ``{config}`` there."""
    build: Callable[[Path, Mapping[str, Any]], dict[str, Any]]
    """The settings for a file and the export's own."""
    flags: bool = False
    """Whether the file holds a flag a line in place of YAML."""


def _trl(out: Path, needs: Mapping[str, Any]) -> dict[str, Any]:
    return {"datasets": [{"path": _LOADERS[out.suffix], "data_files": out.name}], **needs}


def _axolotl(out: Path, needs: Mapping[str, Any]) -> dict[str, Any]:
    own = needs.get("datasets", {})
    data = {"path": out.name, "ds_type": _LOADERS[out.suffix], **own}
    return {**needs, "datasets": [data]}


def _llama_factory(out: Path, needs: Mapping[str, Any]) -> dict[str, Any]:
    return {"dataset_dir": ".", "dataset": out.stem, **needs}


def _verl(out: Path, needs: Mapping[str, Any]) -> dict[str, Any]:
    data = {"train_files": out.name, **needs.get("data", {})}
    return {"hydra": {"searchpath": ["pkg://verl.trainer.config"]}, **needs, "data": data}


def _open_rlhf(out: Path, needs: Mapping[str, Any]) -> dict[str, Any]:
    data = "data.prompt_dataset" if "data.label_key" in needs else "data.dataset"
    return {data: out.name, **needs}


FAMILIES = {
    "TRL": TrainerConfig("1.16.0", "--config {config}", _trl),
    "axolotl": TrainerConfig("0.19.0", "{config}", _axolotl),
    "LLaMA-Factory": TrainerConfig("0.9.5", "{config}", _llama_factory),
    "verl": TrainerConfig("0.9.1", "--config-path $PWD --config-name {config}", _verl),
    "OpenRLHF": TrainerConfig("0.11.2", "$(cat {config})", _open_rlhf, flags=True),
}
"""By the trainer's name."""


def config_text(export: Export, out: Path) -> str:
    """The trainer's settings for rows at ``out``, as its file holds them; empty where there is no trainer.

    ``RecipeError`` for a kind of file that the trainer does not read.
    """
    if not export.trainer:
        return ""
    if out.suffix not in _LOADERS:
        raise RecipeError(
            f"with_config: {export.trainer} does not read {out.suffix} through its settings.",
            remedy=f"Use {' or '.join(_LOADERS)}.",
        )
    family = FAMILIES[export.trainer]
    settings = family.build(out, export.settings(out))
    if family.flags:
        return "".join(_flag(key, value) for key, value in settings.items())
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def config_of(export: Export, out: Path) -> dict[str, bytes]:
    """The file of the trainer's settings, by its name. ``RecipeError`` for a format of no trainer."""
    text = config_text(export, out)
    if not text:
        raise RecipeError(
            "with_config: this format is not one trainer's, so there are no settings to write.",
            remedy="Leave out with_config; 'gristmill formats' shows the formats that have some.",
        )
    ending = "flags" if FAMILIES[export.trainer].flags else "yaml"
    return {f"{out.stem}.config.{ending}": text.encode()}


def _flag(key: str, value: Any) -> str:
    return f"--{key}\n" if value is True else f"--{key} {value}\n"
