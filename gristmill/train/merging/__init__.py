"""Several models of one architecture as one, and what that costs and gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.train.merging.averaging import MergeReport, equal_shares, merge
    from gristmill.train.merging.coefficients import (
        distance_weight,
        group_of,
        group_shares,
        kept_share,
        layer_of,
        metric_shares,
        moving_average_shares,
        normalised,
        on_the_simplex,
        released_shares,
    )

__all__ = [
    "MergeReport",
    "distance_weight",
    "equal_shares",
    "group_of",
    "group_shares",
    "kept_share",
    "layer_of",
    "merge",
    "metric_shares",
    "moving_average_shares",
    "normalised",
    "on_the_simplex",
    "released_shares",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "MergeReport": ".averaging",
        "equal_shares": ".averaging",
        "merge": ".averaging",
        "distance_weight": ".coefficients",
        "group_of": ".coefficients",
        "group_shares": ".coefficients",
        "kept_share": ".coefficients",
        "layer_of": ".coefficients",
        "metric_shares": ".coefficients",
        "moving_average_shares": ".coefficients",
        "normalised": ".coefficients",
        "on_the_simplex": ".coefficients",
        "released_shares": ".coefficients",
    },
)
