"""Models of one architecture as one: a weighted sum of their tensors, streamed from and to safetensors.

Whatever chooses the shares (plain averaging, metrics, a moving average, ratios of layer groups, a search),
the models are merged here: ``merge`` takes a function from a tensor's name to one share for each model.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.train.merging.checkpoints import INDEX, Checkpoint, agreement, read
from gristmill.train.merging.tensors import FLOATING, Stored, averaged, same
from gristmill.train.weights import whole_folder

Shares = Callable[[str], Sequence[float]]
"""From a tensor's name to the share of each model."""
Missing = Literal["refuse", "first"]

REPORT = "merge.json"
_COPIED = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.py")
_NOT_COPIED = ("*.safetensors.index.json", "trainer_state.json", "metrics.json", "log.jsonl", REPORT)
_FEWEST = 2


class MergeReport(Struct, frozen=True, kw_only=True):
    """What was merged, as written to ``merge.json`` in the new folder."""

    method: str
    models: list[str]
    """The folders, as they were given; the first gave layout, types, configuration and tokenizer."""
    shares: dict[str, list[float]]
    """The share of each model, by what it applies to: ``all``, or each group of layers and ``others``."""
    averaged: int
    """Tensors that were averaged."""
    copied: list[str] = []
    """Tensors that are not floating-point numbers and the same in all models."""
    tied: list[str] = []
    """Heads that some model does not store, as it ties them to its embedding: its embedding was taken."""
    missing: list[str] = []
    """Tensors that some model lacks; those of the first model are unchanged, others are left out."""
    notes: list[str] = []
    """What else differs between the models."""
    details: dict[str, Any] = {}
    """What the method found: losses, steps, metrics."""

    def table(self) -> str:
        """The report as text, a line each."""
        lines = [f"{self.method}: {self.averaged:,} tensors averaged", *(f"  {m}" for m in self.models)]
        lines += [f"{k}: {', '.join(f'{s:.6g}' for s in v)}" for k, v in self.shares.items()]
        lines += [f"{k}: {v}" for k, v in self.details.items()]
        for title, names in (("tied", self.tied), ("missing", self.missing), ("copied", self.copied)):
            if names:
                lines.append(
                    f"{title}: {', '.join(names[:3])}{f' and {len(names) - 3} more' * (len(names) > 3)}"
                )
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def equal_shares(shares: Sequence[float]) -> Shares:
    """The same shares for every tensor."""
    return lambda name: shares


def merge(
    folders: Sequence[Path],
    out: Path,
    shares: Shares,
    *,
    method: str,
    shown: dict[str, list[float]],
    missing: Missing = "refuse",
    details: dict[str, Any] | None = None,
) -> MergeReport:
    """Write the sum of the models in ``folders``, each tensor times its model's share, as the folder ``out``.

    Sums are formed of 32-bit numbers and rounded once, to the type that the first model stores. The new
    weight files have the names, the tensors and the order of the first model's, and its index. A head that
    a model ties to its embedding is taken from there. ``missing`` says what happens to a tensor that some
    model lacks: ``refuse`` it, or take the ``first`` model's as it is (and leave out what the first lacks).
    ``method``, ``shown`` (the shares by what they apply to) and ``details`` go into the report.

    ``out`` must not exist or be empty, so that no input is written over; it appears when it is complete.
    Memory: a few pieces of 262,144 numbers. Raises ``InputError`` and ``RecipeError`` for models that
    cannot be merged, ``RunError`` if ``out`` cannot be written.
    """
    if len(folders) < _FEWEST:
        raise RecipeError(
            f"{len(folders)} models were given, and merging takes at least two.",
            remedy="Give the folders one after another.",
        )
    models = [read(folder) for folder in folders]
    notes = agreement(models)
    plan = _Plan(models, missing)
    report = MergeReport(
        method=method,
        models=[str(folder) for folder in folders],
        shares=shown,
        averaged=len(plan.averaged),
        copied=plan.copied,
        tied=plan.tied,
        missing=plan.missing,
        notes=notes,
        details=details or {},
    )

    def save(folder: Path) -> None:
        _files_beside(models[0].folder, folder)
        for name, head in models[0].headers.items():
            with (folder / name).open("wb") as file:
                file.write(head)
                for tensor in _inside(models[0], name):
                    found = plan.averaged.get(tensor)
                    if found:
                        pieces = averaged(found, [float(s) for s in shares(tensor)])
                    else:
                        pieces = iter(_bytes(models[0].tensors[tensor]))
                    for piece in pieces:
                        file.write(memoryview(piece).cast("B"))
        (folder / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")

    whole_folder(out, save)
    return report


class _Plan:
    """For each tensor of the first model, the tensors that it is averaged of; and what is not averaged."""

    def __init__(self, models: Sequence[Checkpoint], missing: Missing) -> None:
        self.averaged: dict[str, list[Stored]] = {}
        self.copied: list[str] = []
        self.tied: list[str] = []
        self.missing: list[str] = []
        for name, first in models[0].tensors.items():
            found = [tensor for model in models if (tensor := model.find(name))]
            if len(found) < len(models):
                self.missing.append(name)
                continue
            if first.dtype not in FLOATING:
                self._copy(name, found)
                continue
            self.averaged[name] = found
            if any(name not in model.tensors for model in models):
                self.tied.append(name)
        more = sorted({name for model in models for name in model.tensors if not models[0].find(name)})
        # A head that only another model stores is the first model's embedding.
        self.tied += sorted(
            {n for model in models for n in model.tensors if n not in models[0].tensors and n not in more}
        )
        self.missing += more
        if self.missing and missing == "refuse":
            raise RecipeError(
                f"{self.missing[0]} is not in all models ({len(self.missing)} such tensors).",
                remedy="Give --missing first to keep the first model's and leave out what it lacks.",
            )

    def _copy(self, name: str, found: Sequence[Stored]) -> None:
        if not all(same(found[0], other) for other in found[1:]):
            raise RecipeError(
                f"{name} is stored as {found[0].dtype} and differs between the models.",
                remedy="Only floating-point numbers can be averaged. Merge unquantised models.",
            )
        self.copied.append(name)


def _inside(model: Checkpoint, name: str) -> list[str]:
    """The tensors of a weight file, in the order of their numbers."""
    return [tensor for tensor, stored in model.tensors.items() if stored.file.name == name]


def _bytes(stored: Stored) -> list[Any]:
    import numpy as np

    return [np.fromfile(stored.file, np.uint8, stored.size, offset=stored.begin)]


def _files_beside(source: Path, folder: Path) -> None:
    """Copy configuration, tokenizer, template and code of a model; not its optimiser or its history."""
    folder.mkdir(exist_ok=True)
    for file in sorted(source.iterdir()):
        wanted = any(fnmatch(file.name, pattern) for pattern in _COPIED)
        if file.is_file() and wanted and not any(fnmatch(file.name, pattern) for pattern in _NOT_COPIED):
            shutil.copyfile(file, folder / file.name)
    if (source / INDEX).is_file():
        shutil.copyfile(source / INDEX, folder / INDEX)
