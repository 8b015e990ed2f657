"""The shares that models get when they are merged: pure functions, without weights or files.

Every function says of which model a number is the share. ``mean`` of AMA is the share of the *aligned* model,
as in the paper; the published code uses the same letter for the share of the base model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Literal

from gristmill.core.errors import RecipeError

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.(\d+)\.")


def normalised(weights: Sequence[float]) -> list[float]:
    """Weights as shares that sum to 1. Raises ``RecipeError`` for a sum of 0 or one that is not finite."""
    total = sum(weights)
    if not math.isfinite(total) or abs(total) < 1e-12:
        raise RecipeError(
            f"The weights {', '.join(f'{w:g}' for w in weights)} sum to {total:g}.",
            remedy="Give finite weights with a sum other than 0.",
        )
    return [weight / total for weight in weights]


def metric_shares(
    values: Sequence[float], *, better: Literal["lower", "higher"], penalty: float = 1.0
) -> list[float]:
    """Shares by a metric of each model: Metrics-Weighted Averaging (arXiv 2504.18580).

    A share is proportional to ``value ** penalty`` where higher is better (accuracy, steps), to
    ``value ** -penalty`` where lower is (loss); a penalty of 0 gives equal shares. The paper's abstract names
    loss, steps and one penalty factor; this power law is our reading of it. Values must be above 0.
    """
    if not values or not all(math.isfinite(v) and v > 0 for v in values):
        raise RecipeError(
            f"The metrics {', '.join(f'{v:g}' for v in values)} are not all finite and above 0.",
            remedy="Give the loss, the accuracy or the number of steps of each model, in their order.",
        )
    sign = -1 if better == "lower" else 1
    logs = [sign * penalty * math.log(value) for value in values]
    return normalised([math.exp(log - max(logs)) for log in logs])


def moving_average_shares(kept: Sequence[float]) -> list[float]:
    """Shares of ``len(kept) + 1`` models in the order of training under an exponential moving average.

    The average begins as the first model; at model ``t`` it keeps the share ``kept[t - 1]`` of itself and
    takes the rest from the model. Each must be between 0 and 1.
    """
    if not all(0 <= share <= 1 for share in kept):
        raise RecipeError(
            f"The kept shares {', '.join(f'{k:g}' for k in kept)} are not all between 0 and 1.",
            remedy="0.9 keeps nine tenths of the average at each model.",
        )
    shares = [1.0]
    for share in kept:
        shares = [share * former for former in shares] + [1 - share]
    return shares


def kept_share(slope_new: float, slope_old: float, *, stability: float = 0.0) -> float:
    """The share of the old average to keep in the next moving average, from the loss of the new data.

    Large Continual Instruction Assistant (arXiv 2410.10868) determines the coefficient by a Taylor expansion
    of the loss from gradients and parameters. Only its abstract was at hand, so this is derived anew: on
    the line ``new + kept * (old - new)`` the loss to second order is least at
    ``kept = slope_new / (slope_new - slope_old)``, where ``slope_new`` and ``slope_old`` are the gradients
    at either end, times ``new - old``, summed; their difference stands for the second derivative.
    ``stability`` is the price per unit of moving from the old average, in units of loss; it raises what is
    kept.

    Clipped to 0 and 1. Where the loss does not bend upwards along the line, the end with the lower loss to
    first order is taken: the new model (0) where going there lowers the loss by more than ``stability``.
    """
    bend = slope_new - slope_old
    if bend <= 0:
        return 0.0 if (slope_new + slope_old) / 2 + stability <= 0 else 1.0
    return min(1.0, max(0.0, (slope_new + stability) / bend))


def on_the_simplex(values: Sequence[float], mean: float) -> list[float]:
    """The nearest numbers to ``values`` that are between 0 and 1 and have exactly the mean ``mean``.

    An exact Euclidean projection: all values are shifted by one number and clipped, and that number is
    found among the pieces between the places where a value meets an end of the box.
    """
    if not 0 <= mean <= 1:
        raise RecipeError(f"The mean share {mean:g} is not between 0 and 1.", remedy="Try 0.2.")
    target = mean * len(values)

    def total(shift: float) -> float:
        return sum(min(1.0, max(0.0, value - shift)) for value in values)

    places = sorted({place for value in values for place in (value, value - 1)})
    # total() falls from all ones at the first place to 0 at the last, in straight pieces.
    low = max(place for place in places if total(place) >= target)
    inside = [value for value in values if low < value and value - 1 <= low]
    shift = low + (total(low) - target) / len(inside) if inside else low
    return [min(1.0, max(0.0, value - shift)) for value in values]


def layer_of(name: str) -> int | None:
    """The number of a tensor's layer, from 0; ``None`` for embeddings, final norm and head."""
    found = _LAYER.search(name)
    return int(found[1]) if found else None


def group_of(layer: int, layers: int, groups: int) -> int:
    """The group of a layer where ``layers`` are cut into ``groups`` that differ by one layer at most.

    26 layers in three groups are 1 to 8, 9 to 17 and 18 to 26, as in AMA (arXiv 2309.06256).
    """
    return next(g for g in range(groups) if layer < layers * (g + 1) // groups)


def group_shares(aligned: Sequence[float], layers: int) -> Callable[[str], list[float]]:
    """Shares of an aligned model and its base, by the name of a tensor: Adaptive Model Averaging.

    ``aligned`` are the aligned model's shares in each group of layers (arXiv 2309.06256); the norms in a
    layer go with the layer. What is in no layer (embeddings, final norm, head) has the mean of the groups, so
    that a head tied to its embedding stays tied.
    """
    if not 1 <= len(aligned) <= layers:
        raise RecipeError(
            f"{len(aligned)} groups were given for a model of {layers} layers.",
            remedy="Give at least one group, and at most one for each layer.",
        )
    mean = sum(aligned) / len(aligned)

    def shares(name: str) -> list[float]:
        layer = layer_of(name)
        share = mean if layer is None else aligned[group_of(layer, layers, len(aligned))]
        return [share, 1 - share]

    return shares


def released_shares(raw: Sequence[float], mean: float, floor: float = 0.2) -> list[float]:
    """What the raw parameters of AMA's published code mean, for ratios that were found with it.

    ``mean * K * (sigmoid(m) + floor) / sum(sigmoid(m) + floor)``: the mean is exact, but nothing keeps a
    share below 1, and ``floor`` keeps it off 0. There it is the share of the *base* model (arXiv 2309.06256
    uses the letter for the aligned one). Ours are projected instead (``on_the_simplex``).
    """
    open_to_one = [1 / (1 + math.exp(-m)) + floor for m in raw]
    return [mean * len(raw) * value / sum(open_to_one) for value in open_to_one]


def distance_weight(layer: int, layers: int) -> float:
    """How dear it is for a layer (from 0) to differ from the mean share: 25 in the middle, less outside.

    The weight of the published code of AMA (arXiv 2309.06256), whose middle of 26 layers is 13. There each
    matrix of a layer is counted, so that the price depends on the architecture; here each layer is, once.
    """
    return 25 / (abs(layer - layers // 2) + 1)
