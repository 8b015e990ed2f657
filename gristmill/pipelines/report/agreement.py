"""How far raters agree beyond chance: Cohen's kappa of two, Krippendorff's alpha of any number.

Own code: scikit-learn's kappa would be a large dependency for ten lines, and the package ``krippendorff``
takes a dense table of raters by units, where ours are tallied patterns of a million pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

Level = Literal["nominal", "ordinal", "interval"]
Pattern = tuple[float | None, ...]
"""The ratings of one unit, by rater in order; ``None`` where a rater gave none."""


def cohen(units: Iterable[tuple[float | None, float | None]] | Mapping[Pattern, int]) -> float | None:
    """Cohen's kappa of two raters: (observed - expected) / (1 - expected) agreement (Cohen 1960).

    ``units`` are their ratings, or how often each pair of ratings occurs. Units that one of them did not rate
    do not count. In [-1, 1]; ``None`` without a unit, and where chance alone would let them agree on all.
    """
    both = {(p[0], p[1]): n for p, n in _tallied(units).items() if p[0] is not None and p[1] is not None}
    total = sum(both.values())
    if not total:
        return None
    first, second = Counter[float | None](), Counter[float | None]()
    for (a, b), n in both.items():
        first[a] += n
        second[b] += n
    chance = sum(first[v] * second[v] for v in first) / total**2
    same = sum(n for (a, b), n in both.items() if a == b) / total
    return None if chance == 1 else (same - chance) / (1 - chance)


def krippendorff(units: Iterable[Pattern] | Mapping[Pattern, int], level: Level = "nominal") -> float | None:
    """Krippendorff's alpha: 1 - observed / expected disagreement, for any number of raters, also where some
    ratings are missing (Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011).

    ``level`` says how far two values differ: ``nominal`` 1 if they are not equal, ``ordinal`` by how many
    ratings lie between them, ``interval`` the square of their difference. A unit with fewer than two ratings
    does not count. ``None`` where no unit has two, or all ratings are equal.
    """
    coincidences: Counter[tuple[float, float]] = Counter()
    for pattern, n in _tallied(units).items():
        values = Counter(v for v in pattern if v is not None)
        rated = values.total()
        if rated < 2:
            continue
        for a, m in values.items():
            for b, k in values.items():
                coincidences[a, b] += n * m * (k - (a == b)) / (rated - 1)  # type: ignore[assignment]
    totals: Counter[float] = Counter()
    for (a, _), n in coincidences.items():
        totals[a] += n
    total = totals.total()
    apart = _distances(totals, level)
    expected = sum(totals[a] * totals[b] * d for (a, b), d in apart.items())
    if not expected:
        return None
    observed = sum(coincidences[a, b] * d for (a, b), d in apart.items())
    return 1 - (total - 1) * observed / expected


def _distances(totals: Mapping[float, float], level: Level) -> dict[tuple[float, float], float]:
    """How far any two values are apart."""
    order = sorted(totals)
    apart = {}
    for i, a in enumerate(order):
        for j, b in enumerate(order):
            if level == "nominal":
                d = float(a != b)
            elif level == "interval":
                d = (a - b) ** 2
            else:
                between: Sequence[float] = order[min(i, j) : max(i, j) + 1]
                d = (sum(totals[g] for g in between) - (totals[a] + totals[b]) / 2) ** 2 if i != j else 0.0
            apart[a, b] = d
    return apart


def _tallied(units: Iterable[Pattern] | Mapping[Pattern, int]) -> Mapping[Pattern, int]:
    return units if isinstance(units, Mapping) else Counter(units)
