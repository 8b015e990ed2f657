"""Groups of texts that say nearly the same."""

from __future__ import annotations

from collections.abc import Sequence

from gristmill.filters.duplicates.features import feature_sets
from gristmill.filters.duplicates.minhash import similar_pairs


def near_duplicates(texts: Sequence[str], threshold: float = 0.75, *, shingle: int = 1) -> list[int]:
    """For each text the index of the first in its group: groups of texts linked by near-duplicate pairs.

    Texts are compared as sets of shingles of ``shingle`` words (case, articles and punctuation do not count);
    texts with no longer run of words are one shingle. Similarity is Jaccard's, with each shingle weighing as
    many bits as its rarity in ``texts`` tells (1 where most have it): two questions of one template about two
    people share only light words, two about one person the heavy one. So what is similar depends on the
    whole of ``texts``; among few texts an idle word is as rare as a name.

    Pairs of at least ``threshold``, in (0, 1], are linked. Equal sets always are; of the others a pair is
    missed with at most 1 % chance, as it would be on every run: no hash is drawn by a run's seed. A
    group may hold two texts that are less alike, linked through a third. ``ValueError`` for a threshold
    outside (0, 1] or a shingle below 1.
    """
    import numpy as np

    if not 0 < threshold <= 1 or shingle < 1:
        raise ValueError(f"threshold {threshold} must be in (0, 1] and shingle {shingle} at least 1")
    if not texts:
        return []
    found = feature_sets(texts, shingle)
    _, firsts, same = np.unique(found.fingerprints(), axis=0, return_index=True, return_inverse=True)
    distinct = np.sort(firsts)
    places = np.searchsorted(distinct, firsts)[same.reshape(-1)]
    root = list(range(len(distinct)))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    if threshold < 1:  # only equal sets have a similarity of 1
        pairs = similar_pairs(found.taken(distinct), threshold)
        for one, other in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
            low, high = sorted((find(one), find(other)))
            root[high] = low
    return [int(distinct[find(place)]) for place in places.tolist()]
