"""Two Weibull distributions fitted to the probabilities of paths: RPC's pruning (arXiv 2502.00511).

The paths of a problem are taken for a mixture of bad ones and good ones; a path is pruned where it is more
probably bad and below the mean. Start and limits are those of the authors' code as the project's notes have
it: weight 0.5 within [0.2, 0.8], shapes 1 and 1.5, scales 1 and 2, all at least 0.01. It is fitted by
expectation and maximisation, which needs no optimiser: for a given shape the scale has a closed form, and the
shape is the root of a function that only rises.

Their code has no check of convergence, takes the logarithm of 0, and fits identical values. Here a fit that
is not one is ``None``, and then nothing is pruned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

_LEAST = 0.01
_MOST_SHAPE = 1e3
"""A component with a shape as large as this has shrunk to a point: it is not a distribution of paths."""
_SHARES = (0.2, 0.8)
_ROUNDS = 300
_STILL = 1e-6
"""Nats per path by which the likelihood must rise to continue."""
_SAME = 1e-9
"""A shape that changes by less than this, relatively, is found."""
_NEAR = 0.01
_NOTHING = 1e-12
"""A path of which this little belongs to a component does not shape it."""
_FEWEST = 4
"""The fewest different probabilities that a mixture of five parameters is fitted to: the project's own."""


class WeibullPart(Struct, frozen=True):
    """A Weibull distribution: density (k/s) (x/s)^(k-1) exp(-(x/s)^k), for x above 0."""

    shape: float
    scale: float

    @property
    def mean(self) -> float:
        """s * Gamma(1 + 1/k)."""
        return self.scale * math.gamma(1 + 1 / self.shape)

    def log_density(self, x: float) -> float:
        """The natural logarithm of the density at ``x``, which is above 0."""
        log_ratio = math.log(x / self.scale)
        exponent = self.shape * log_ratio
        power = math.exp(exponent) if exponent < 700 else math.inf
        return math.log(self.shape / self.scale) + (self.shape - 1) * log_ratio - power


class Mixture(Struct, frozen=True):
    """``share`` of the component ``high``, whose mean is the larger, and the rest of ``low``."""

    share: float
    high: WeibullPart
    low: WeibullPart

    def posterior(self, x: float) -> float:
        """The probability, 0 to 1, that ``x`` is of the component ``high``."""
        ours = math.log(self.share) + self.high.log_density(x)
        theirs = math.log(1 - self.share) + self.low.log_density(x)
        top = max(ours, theirs)
        if top == -math.inf:
            return 0.5
        return math.exp(ours - top) / (math.exp(ours - top) + math.exp(theirs - top))


def mixture_of(share: float, first: WeibullPart, second: WeibullPart) -> Mixture:
    """The mixture with ``share`` of ``first``, named by which mean is the larger."""
    if first.mean >= second.mean:
        return Mixture(share, first, second)
    return Mixture(1 - share, second, first)


def fit(paths: Sequence[float]) -> Mixture | None:
    """The mixture of the ``paths``' probabilities, numbers in (0, 1].

    ``None`` for fewer than four different ones, and for a fit that did not settle, shrank to a point, or has
    two components of the same mean. ``ValueError`` for a number outside (0, 1].
    """
    if odd := [p for p in paths if not 0 < p <= 1]:
        raise ValueError(f"the probability {odd[0]} of a path is not in (0, 1].")
    if len({round(p, 9) for p in paths}) < _FEWEST:
        return None
    share, one, two = 0.5, WeibullPart(1.0, 1.0), WeibullPart(1.5, 2.0)
    before = -math.inf
    for _ in range(_ROUNDS):
        found = _responsibilities(paths, share, one, two)
        if found is None:
            return None
        ours, likelihood = found
        if likelihood - before < _STILL * len(paths):
            break
        before = likelihood
        share = min(max(math.fsum(ours) / len(paths), _SHARES[0]), _SHARES[1])
        one, two = _best(paths, ours, one.shape), _best(paths, [1 - r for r in ours], two.shape)
        if max(one.shape, two.shape) >= _MOST_SHAPE * (1 - _NEAR):
            return None
    else:
        return None
    return None if math.isclose(one.mean, two.mean, rel_tol=1e-3) else mixture_of(share, one, two)


def pruned(paths: Sequence[float], mixture: Mixture | None) -> list[int]:
    """The indices of the paths to prune: their posterior of the high component is below that of the low one,
    and they are below the mean of all. Nothing where there is no mixture.

    The most probable path is never pruned, as it is not below the mean.
    """
    if mixture is None or not paths:
        return []
    mean = math.fsum(paths) / len(paths)
    return [i for i, p in enumerate(paths) if p < mean and mixture.posterior(p) < 0.5]


def _responsibilities(
    paths: Sequence[float], share: float, one: WeibullPart, two: WeibullPart
) -> tuple[list[float], float] | None:
    """The share of the first component in each path, and the log-likelihood of all."""
    ours, total = [], []
    for p in paths:
        first = math.log(share) + one.log_density(p)
        second = math.log(1 - share) + two.log_density(p)
        top = max(first, second)
        if not math.isfinite(top):
            return None
        both = math.exp(first - top) + math.exp(second - top)
        ours.append(math.exp(first - top) / both)
        total.append(top + math.log(both))
    return ours, math.fsum(total)


def _best(paths: Sequence[float], weights: Sequence[float], begin: float) -> WeibullPart:
    """The Weibull distribution of the greatest likelihood for weighted paths; ``begin`` is a shape near its
    own. Newton's method, kept between bounds that close in."""
    held = [(w, p) for w, p in zip(weights, paths, strict=True) if w > _NOTHING]
    if not held:
        return WeibullPart(_MOST_SHAPE, 1.0)
    whole, top = math.fsum(w for w, _ in held), max(p for _, p in held)
    logs = [(w, math.log(p / top)) for w, p in held]
    mean = math.fsum(w * x for w, x in logs) / whole

    low, high, shape = _LEAST, _MOST_SHAPE, min(max(begin, 2 * _LEAST), _MOST_SHAPE / 2)
    for _ in range(60):
        powers = [(w * math.exp(shape * x), x) for w, x in logs]
        total = math.fsum(p for p, _ in powers)
        first = math.fsum(p * x for p, x in powers) / total
        second = math.fsum(p * x * x for p, x in powers) / total
        slope = first - 1 / shape - mean  # which rises with the shape
        low, high = (shape, high) if slope < 0 else (low, shape)
        step = shape - slope / (second - first * first + 1 / shape**2)
        step = step if low < step < high else math.sqrt(low * high)
        if math.isclose(step, shape, rel_tol=_SAME):
            break
        shape = step
    power = math.fsum(w * math.exp(shape * x) for w, x in logs) / whole
    return WeibullPart(shape, max(top * power ** (1 / shape), _LEAST))
