"""Near-duplicate pairs: MinHash with banding finds candidates, exact similarity decides.

MinHash: Broder 1997, "On the resemblance and containment of documents"; banding: Leskovec, Rajaraman and
Ullman, "Mining of Massive Datasets", section 3.4. ``rensa`` computes the hashes. Its own index knows neither
weights nor an exact check, and its bands miss a fifth of the pairs at the threshold, so those are ours.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from gristmill.filters.duplicates.features import FeatureSets
from gristmill.filters.words import ascending, spread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HASHES = 96
"""Hashes a text; their bands are as wide as the threshold allows."""
RECALL = 0.99
"""A pair at the threshold is a candidate with at least this probability (one further above, with more)."""
LEADERS = 16
"""A text is compared with so many of its bucket, the first in order: a full bucket costs linear time."""
_CHUNK = 1_000
"""Texts whose hashes, and twice as many pairs that are compared, at a time."""
_GOLDEN = 0x9E3779B97F4A7C15
_SEED = 1


class Bands(NamedTuple):
    """``number`` bands of ``width`` hashes: equal in all hashes of one band makes a pair a candidate."""

    number: int
    width: int

    def recall(self, similarity: float) -> float:
        """The probability that a pair of that similarity is a candidate."""
        return 1 - (1 - similarity**self.width) ** self.number


def bands(threshold: float) -> Bands:
    """The widest bands of at most ``HASHES`` hashes that find a pair at the threshold by ``RECALL``."""
    fitting = (Bands(HASHES // width, width) for width in range(HASHES, 0, -1))
    return next((b for b in fitting if b.recall(threshold) >= RECALL), Bands(HASHES, 1))


class SimilarPairs(NamedTuple):
    """Pairs of texts by their positions, ``first`` before ``second`` in order, with their similarity."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    similarity: NDArray[np.float64]


class PairSearch:
    """The search for similar pairs among fewer and fewer of some texts, as ``similar_pairs`` has it.

    What a text is made of is hashed again only where a weight of it has changed.
    """

    def __init__(
        self,
        features: FeatureSets,
        threshold: float,
        *,
        even: bool = False,
        keys: NDArray[np.uint64] | None = None,
    ) -> None:
        import numpy as np

        self._features, self._threshold, self._even, self._keys = features, threshold, even, keys
        self._banding = bands(threshold)
        self._weights = np.zeros(len(features.hashes), np.int64)
        self._made = np.empty((self._banding.number, len(features)), np.uint64)

    def among(self, texts: NDArray[np.int64]) -> SimilarPairs:
        """The similar pairs of these texts, by their positions among them; rarity is counted among them."""
        import numpy as np

        features = self._features.taken(texts)
        weights = features.weights(self._even)
        changed = (weights != self._weights)[features.ids]
        hashed = np.flatnonzero(np.maximum.reduceat(changed, features.starts[:-1])) if len(texts) else texts
        self._weights = weights
        for start in range(0, len(hashed), _CHUNK):
            own = hashed[start : start + _CHUNK]
            self._made[:, texts[own]] = _band_keys(features.taken(own), weights, self._banding)
        made = self._made[:, texts]
        if (keys := self._keys) is not None:
            keys = keys[texts]
            made ^= keys * np.uint64(_GOLDEN)
        first, second = _candidates(made)
        if keys is not None:
            same = keys[first] == keys[second]
            first, second = first[same], second[same]
        alike = similarities(features, weights, first, second)
        found = alike >= self._threshold
        return SimilarPairs(first[found], second[found], alike[found])


def similar_pairs(
    features: FeatureSets, threshold: float, *, even: bool = False, keys: NDArray[np.uint64] | None = None
) -> SimilarPairs:
    """The pairs of texts whose weighted Jaccard similarity, common weight by all weight, is at least
    ``threshold``; a pair at the threshold is missed with at most 1 % chance.

    Of more than ``LEADERS`` texts that a band takes for alike, each is compared with the first ones. With
    ``keys``, one for each text, only texts with equal keys are compared; ``even`` is as in ``weights``.
    """
    import numpy as np

    return PairSearch(features, threshold, even=even, keys=keys).among(np.arange(len(features)))


def similarities(features: FeatureSets, weights: Any, first: Any, second: Any) -> Any:
    """The weighted Jaccard similarity of each of some pairs of texts."""
    import numpy as np

    total = np.add.reduceat(weights[features.ids], features.starts[:-1]) if len(features) else np.empty(0)
    common = np.zeros(len(first), np.int64)
    sizes, many = features.sizes(), 2 * _CHUNK
    for start in range(0, len(first), many):
        one, other = first[start : start + many], second[start : start + many]
        left = _keyed(features, one, sizes)
        right = _keyed(features, other, sizes)
        both = np.sort(np.concatenate([left, right]), kind="stable")  # which merges two that are in order
        shared = both[1:][both[1:] == both[:-1]]
        pair, feature = np.divmod(shared, len(features.hashes))
        common[start : start + many] = np.bincount(pair, weights[feature], minlength=len(one))
    union = total[first] + total[second] - common
    return common / np.maximum(union, 1)


def _keyed(features: FeatureSets, texts: Any, sizes: Any) -> Any:
    """The features of ``texts``, one after another, as ascending numbers that tell text and feature."""
    import numpy as np

    own = sizes[texts]
    ids = features.ids[spread(features.starts[texts], own)].astype(np.int64)
    return np.repeat(np.arange(len(texts)), own) * len(features.hashes) + ids


def _band_keys(features: FeatureSets, weights: Any, banding: Bands) -> Any:
    """Of each text, one number for each band, made of the band's hashes: an array of bands by texts."""
    import numpy as np
    from rensa import RMinHash

    odd = (np.arange(1, banding.width + 1, dtype=np.uint64) * np.uint64(2 * (_GOLDEN >> 1))) | np.uint64(1)
    copies = weights[features.ids]
    # A hash for every unit of a feature's weight: plain MinHash over the units is MinHash by weight.
    unit = spread(np.zeros(len(copies), np.int64), copies).astype(np.uint64) * np.uint64(_GOLDEN)
    units = np.repeat(features.hashes[features.ids], copies) + unit
    offsets = np.concatenate([[0], np.cumsum(copies)])[features.starts].astype(np.uint64)
    count = banding.number * banding.width
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(units, offsets, count, _SEED)
    rows = b"".join([array("I", row).tobytes() for row in matrix.to_rows()])
    least = np.frombuffer(rows, np.uint32).reshape(len(features), banding.number, banding.width)
    return (least * odd).sum(axis=2, dtype=np.uint64).T


def _candidates(band_keys: Any) -> tuple[Any, Any]:
    """The pairs of texts that share a band's key, each once, in order."""
    import numpy as np

    texts = band_keys.shape[1]
    found = [np.empty(0, np.int64)]
    for band in band_keys:
        for low, high in _in_buckets(band):
            found.append(low * texts + high)
    return np.divmod(ascending(np.concatenate(found)), max(texts, 1))


def _in_buckets(band: Any) -> Iterator[tuple[Any, Any]]:
    """Pairs of a text with each of the ``LEADERS`` first of its bucket."""
    import numpy as np

    order = np.argsort(band, kind="stable")
    ordered = band[order]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(order) else order
    place = np.arange(len(order)) - np.repeat(begins, np.diff(np.append(begins, len(order))))
    begin = np.arange(len(order)) - place
    later = np.arange(len(order))
    for leader in range(LEADERS):
        later = later[place[later] > leader]
        if not len(later):
            return
        yield order[begin[later] + leader], order[later]
