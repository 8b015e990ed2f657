"""Ratios and fronts by the loss on rows: ``choosing`` and ``front`` over a ``Blend``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gristmill.core.errors import RecipeError
from gristmill.train.base.rows import TokenRow
from gristmill.train.merging.averaging import equal_shares
from gristmill.train.merging.blend import Blend
from gristmill.train.merging.checkpoints import read
from gristmill.train.merging.choosing import Ratios, descend
from gristmill.train.merging.coefficients import group_of, group_shares, layer_of
from gristmill.train.merging.front import Measured


def layer_count(folder: Path) -> int:
    """How many layers a model has, by the names of its tensors. ``RecipeError`` if none has a number."""
    numbers = [layer for name in read(folder).tensors if (layer := layer_of(name)) is not None]
    if not numbers:
        raise RecipeError(
            f"No tensor of {folder} has the number of a layer in its name.",
            remedy="Use 'gristmill merge average', which needs no layers.",
        )
    return max(numbers) + 1


def tune_ratios(
    blend: Blend, rows: Sequence[TokenRow], *, mean: float, groups: int, steps: int = 10
) -> Ratios:
    """The aligned model's share in each group of layers, with the lowest loss on ``rows``.

    ``blend`` holds the aligned model and its base, in this order. As in AMA (arXiv 2309.06256), ``rows`` are
    the best of several answers of the aligned model by a reward, and the loss on them stands for the reward.
    What is in no layer has the mean share throughout, so it does not take part.
    """
    layers = blend.layers

    def group(name: str) -> int | None:
        layer = layer_of(name)
        return None if layer is None else group_of(layer, layers, groups)

    def slopes(aligned: list[float]) -> tuple[float, list[float]]:
        loss, found = blend.slopes(group_shares(aligned, layers), rows, group)
        return loss, [found[g] for g in range(groups)]

    def loss(aligned: list[float]) -> float:
        return blend.loss(group_shares(aligned, layers), rows)

    group_shares([mean] * groups, layers)  # refuses more groups than layers before anything is computed
    return descend(slopes, loss, mean=mean, groups=groups, steps=steps)


def measure_grid(
    blend: Blend,
    rewarded: Sequence[TokenRow],
    held_out: Sequence[TokenRow],
    at: Sequence[float],
    *,
    groups: int = 1,
    steps: int = 10,
) -> list[Measured]:
    """Merged models at each mean share of the aligned model, measured by minus their mean losses.

    ``reward`` is measured on ``rewarded``, ``ability`` on ``held_out``. With ``groups`` above 1 the adaptive
    ratios are tuned on the first half of ``rewarded`` at each share between 0 and 1, and all models are
    measured on the second half.
    """
    half = len(rewarded) // 2 if groups > 1 else 0
    if groups > 1 and not half:
        raise RecipeError("Adaptive ratios need two rewarded rows at least.", remedy="Give more rows.")
    tuned_on, measured_on = rewarded[:half], rewarded[half:]
    found = []
    for mean in at:
        if not 0 <= mean <= 1:
            raise RecipeError(f"The share {mean:g} is not between 0 and 1.", remedy="Try 0,0.5,1.")
        ways = [(f"plain {mean:g}", equal_shares([mean, 1 - mean]))]
        if groups > 1 and 0 < mean < 1:
            ratios = tune_ratios(blend, tuned_on, mean=mean, groups=groups, steps=steps)
            ways.append((f"adaptive {mean:g}", group_shares(ratios.aligned, blend.layers)))
        found += [
            Measured(name, -blend.loss(shares, measured_on), -blend.loss(shares, held_out))
            for name, shares in ways
        ]
    return found
