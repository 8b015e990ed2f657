"""Duplicates: exact, near and by meaning; the stage that drops them, and groups of them for a split."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.filters.duplicates.features import FeatureSets, feature_sets
    from gristmill.filters.duplicates.groups import near_duplicates
    from gristmill.filters.duplicates.minhash import Bands, SimilarPairs, bands, similar_pairs, similarities
    from gristmill.filters.duplicates.stage import Dedupe

__all__ = [
    "Bands",
    "Dedupe",
    "FeatureSets",
    "SimilarPairs",
    "bands",
    "feature_sets",
    "near_duplicates",
    "similar_pairs",
    "similarities",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Bands": ".minhash",
        "Dedupe": ".stage",
        "FeatureSets": ".features",
        "SimilarPairs": ".minhash",
        "bands": ".minhash",
        "feature_sets": ".features",
        "near_duplicates": ".groups",
        "similar_pairs": ".minhash",
        "similarities": ".minhash",
    },
)
