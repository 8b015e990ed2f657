"""Methods that merge checkpoints: their files hold ``merge`` in place of stages.

``gristmill run NAME`` merges the models that are named there. Without models it runs on tiny ones whose
numbers are drawn by a seed, and measures by the distance to weights whose true shares are known: the same
functions choose the shares, the same code writes the tensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.core.files import write_whole
from gristmill.pipelines.recipe.method import Method
from gristmill.pipelines.recipe.plain import convert, document, set_value
from gristmill.train.merging import (
    CoefficientSearch,
    Measured,
    descend,
    equal_shares,
    group_shares,
    kept_share,
    merge,
    metric_shares,
    moving_average_shares,
    normalised,
    reward_tax_front,
    search,
)
from gristmill.train.merging.checkpoints import read
from gristmill.train.merging.tensors import numbers

_FRONT = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class Merge(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a method merges and how: a command of ``gristmill merge`` with its options."""

    command: Literal["average", "metric", "moving", "adaptive", "search"]
    """The command."""
    models: Annotated[tuple[str, ...], Meta(min_length=2)]
    """Folders of models; of ``adaptive`` the aligned one and its base."""
    options: dict[str, Any] = msgspec.field(name="set", default_factory=dict)
    """The command's options, by name."""


class TinyModels(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Models to try a merge on, the header's ``scripted.set``."""

    truth: tuple[float, ...]
    """The shares of the weights that are aimed at: of each group of layers (``adaptive``), of each model
    (``search``), or what is kept of the old average (``moving``). A metric needs none."""
    layers: Annotated[int, Meta(ge=1)] = 6
    """How many layers the models have."""
    seed: int = 0
    """For their numbers."""


def merge_of(path: Path, overrides: Sequence[str] = ()) -> Merge | None:
    """What the file at ``path`` merges; ``None`` for one with stages. Raises ``RecipeError``."""
    data = document(path)
    if data.get("merge") is None:
        return None
    for override in overrides:
        set_value(data, override)
    return convert(data["merge"], Merge, "merge")


def merge_tiny(plan: Merge, method: Method, folder: Path) -> None:
    """Merge tiny models in ``folder`` as ``plan`` says, and write tables beside: ``shares``, ``tried``,
    ``tensors`` and, of ``adaptive``, ``front``, as JSON lines."""
    tiny = convert(method.scripted.set, TinyModels, "method.scripted.set")
    trial = _Trial(plan, tiny, folder)
    shares, tried = trial.chosen()
    merge(trial.folders, folder / "merged", shares, method=plan.command, shown={})
    trial.write("shares", trial.shown(shares))
    trial.write("tried", [{"tried": i, "loss": loss} for i, loss in enumerate(tried)])
    trial.write("tensors", trial.compared(shares))
    if plan.command == "adaptive":
        points = [Measured(str(share), *trial.gains(share)) for share in _FRONT]
        trial.write("front", msgspec.to_builtins(reward_tax_front(points).points))


class _Trial:
    """Tiny models in a folder, and what is measured on them."""

    def __init__(self, plan: Merge, tiny: TinyModels, folder: Path) -> None:
        self.plan, self.tiny, self.folder = plan, tiny, folder
        self.folders = [folder / name for name in plan.models]
        for number, place in enumerate(self.folders):
            _write_model(place, tiny.layers, tiny.seed + number)
        self.weights = [_tensors(place) for place in self.folders]
        self.groups = len(tiny.truth) if plan.command == "adaptive" else 1

    def chosen(self) -> tuple[Callable[[str], Sequence[float]], list[float]]:
        """The shares by tensor, and the losses on the way to them."""
        options, truth, count = self.plan.options, list(self.tiny.truth), len(self.folders)
        if self.plan.command == "average":
            return equal_shares(normalised(options.get("weight") or [1.0] * count)), []
        if self.plan.command == "metric":
            return equal_shares(metric_shares(options["value"], **_without(options, "value"))), []
        if self.plan.command == "moving":
            kept = (
                [options["keep"]] * (count - 1)
                if "keep" in options
                else [kept_share(*self._slopes(truth[0]))]
            )
            return equal_shares(moving_average_shares(kept)), []
        if self.plan.command == "search":
            aim = self._blend(equal_shares(truth))
            found = search(
                lambda shares: self._distance(self._blend(equal_shares(shares)), aim),
                count,
                CoefficientSearch(**options),
            )
            return equal_shares(found.shares), found.history
        aim = self._blend(group_shares(truth, self.tiny.layers))

        def loss(ratios: list[float]) -> float:
            return self._distance(self._blend(group_shares(ratios, self.tiny.layers)), aim)

        found_ratios = descend(
            lambda ratios: (loss(ratios), _slopes(loss, ratios)), loss, groups=self.groups, **options
        )
        return group_shares(found_ratios.aligned, self.tiny.layers), found_ratios.losses

    def gains(self, share: float) -> tuple[float, float]:
        """Reward and ability of plain averaging: nearness to the aligned model, and to its base."""
        blend = self._blend(equal_shares([share, 1 - share]))
        return -self._distance(blend, self.weights[0]), -self._distance(blend, self.weights[1])

    def shown(self, shares: Callable[[str], Sequence[float]]) -> list[dict[str, Any]]:
        """A row for each model and group of layers: its share, and the true one where that is known."""
        truth, values = self.tiny.truth, self.plan.options.get("value") or []
        rows = []
        for group in range(self.groups):
            name = f"model.layers.{self.tiny.layers * group // self.groups}.mlp.up_proj.weight"
            for i, (model, share) in enumerate(zip(self.plan.models, shares(name), strict=True)):
                known = {"adaptive": group if i == 0 else None, "search": i, "moving": 0 if i == 0 else None}
                at = known.get(self.plan.command)
                rows.append(
                    {
                        "model": model,
                        "group": group + 1,
                        "share": share,
                        "truth": truth[at] if at is not None and at < len(truth) else None,
                        "value": float(values[i]) if values else None,
                    }
                )
        return rows

    def compared(self, shares: Callable[[str], Sequence[float]]) -> list[dict[str, Any]]:
        """A row for each tensor of the written model: how far it is from the sum of the shares."""
        merged, wanted = _tensors(self.folder / "merged"), self._blend(shares)
        return [
            {
                "tensor": name,
                "shares": list(shares(name)),
                "difference": float(abs(merged[name] - wanted[name]).max()),
            }
            for name in merged
        ]

    def write(self, name: str, rows: list[Any]) -> None:
        """``NAME.jsonl`` in the folder."""
        write_whole(self.folder / f"{name}.jsonl", b"".join(msgspec.json.encode(row) + b"\n" for row in rows))

    def _blend(self, shares: Callable[[str], Sequence[float]]) -> dict[str, Any]:
        return {
            name: sum(share * model[name] for share, model in zip(shares(name), self.weights, strict=True))
            for name in self.weights[0]
        }

    def _distance(self, one: dict[str, Any], other: dict[str, Any]) -> float:
        """The mean squared difference of all numbers."""
        total = sum(float(((one[name] - other[name]) ** 2).sum()) for name in one)
        return total / float(sum(one[name].size for name in one))

    def _slopes(self, kept: float) -> tuple[float, float]:
        """The gradients at the new model and at the old average, times new - old, of the squared distance to
        what keeps ``kept`` of the old."""
        apart = self._distance(self.weights[0], self.weights[1])
        return 2 * kept * apart, -2 * (1 - kept) * apart


def _slopes(loss: Callable[[list[float]], float], at: list[float], step: float = 1e-4) -> list[float]:
    """The derivatives of ``loss``, by differences."""
    moved = [[a + step * (i == j) for j, a in enumerate(at)] for i in range(len(at))]
    return [(loss(one) - loss(at)) / step for one in moved]


def _without(options: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != name}


def _write_model(folder: Path, layers: int, seed: int) -> None:
    """A folder with the weights of a tiny model, drawn by ``seed``, in the format of safetensors."""
    import numpy as np

    draw = np.random.default_rng(seed)
    names = [f"model.layers.{n}.mlp.up_proj.weight" for n in range(layers)]
    names = ["model.embed_tokens.weight", *names, "model.norm.weight"]
    head, data = {}, b""
    for name in names:
        values = draw.normal(size=(4, 4)).astype(np.float32).tobytes()
        head[name] = {"dtype": "F32", "shape": [4, 4], "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(head).encode()
    folder.mkdir(parents=True)
    write_whole(folder / "model.safetensors", len(text).to_bytes(8, "little") + text + data)
    write_whole(folder / "config.json", b'{"model_type": "llama"}')


def _tensors(folder: Path) -> dict[str, Any]:
    return {name: numbers(stored) for name, stored in read(folder).tensors.items()}


def required(plan: Merge) -> list[Path]:
    """The folders of the plan's models. Raises ``RecipeError`` for one that there is not."""
    found = [Path(model) for model in plan.models]
    for folder in found:
        if not folder.is_dir():
            raise RecipeError(
                f"{folder} is not a folder with a model.",
                remedy="Name yours: --set merge.models='[DIR, DIR]'. Tiny ones: --engine scripted.",
            )
    return found
