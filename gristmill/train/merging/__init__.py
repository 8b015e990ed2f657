"""Several models of one architecture as one, and what that costs and gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.train.merging.averaging import (
        MergeReport,
        Missing,
        Shares,
        equal_shares,
        merge,
    )
    from gristmill.train.merging.blend import (
        Blend,
    )
    from gristmill.train.merging.choosing import (
        CoefficientSearch,
        FoundShares,
        Ratios,
        descend,
        search,
    )
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
    from gristmill.train.merging.front import (
        FrontPoint,
        Measured,
        RewardTaxFront,
        plot_front,
        read_measured,
        reward_tax_front,
    )
    from gristmill.train.merging.measuring import (
        layer_count,
        measure_grid,
        tune_ratios,
    )

__all__ = [
    "Blend",
    "CoefficientSearch",
    "FoundShares",
    "FrontPoint",
    "Measured",
    "MergeReport",
    "Missing",
    "Ratios",
    "RewardTaxFront",
    "Shares",
    "descend",
    "distance_weight",
    "equal_shares",
    "group_of",
    "group_shares",
    "kept_share",
    "layer_count",
    "layer_of",
    "measure_grid",
    "merge",
    "metric_shares",
    "moving_average_shares",
    "normalised",
    "on_the_simplex",
    "plot_front",
    "read_measured",
    "released_shares",
    "reward_tax_front",
    "search",
    "tune_ratios",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "MergeReport": ".averaging",
        "Missing": ".averaging",
        "Shares": ".averaging",
        "equal_shares": ".averaging",
        "merge": ".averaging",
        "Blend": ".blend",
        "FoundShares": ".choosing",
        "Ratios": ".choosing",
        "CoefficientSearch": ".choosing",
        "descend": ".choosing",
        "search": ".choosing",
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
        "FrontPoint": ".front",
        "Measured": ".front",
        "RewardTaxFront": ".front",
        "plot_front": ".front",
        "read_measured": ".front",
        "reward_tax_front": ".front",
        "layer_count": ".measuring",
        "measure_grid": ".measuring",
        "tune_ratios": ".measuring",
    },
)
