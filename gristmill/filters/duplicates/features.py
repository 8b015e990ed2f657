"""Texts as sets of weighted features: what similarity is counted over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gristmill.filters.words import (
    LETTERS,
    WordColumns,
    ascending,
    grams,
    hashes,
    mixed,
    series,
    spread,
    words,
)

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

_PATTERN = rf"\d+(?:[.,]\d+)*|{LETTERS}|[-+*/^=<>|\\]|\p{{Sm}}|\p{{No}}"
"""Numbers, words, and the signs of formulas; other punctuation does not count."""
_ARTICLES = frozenset(["a", "an", "the"])


class FeatureSets(NamedTuple):
    """The features of ``n`` texts: those of text ``i`` are ``ids[starts[i]:starts[i + 1]]``, ascending.

    ``hashes`` has the hash of each feature, by its id.
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    hashes: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def sizes(self) -> Any:
        """How many features each text has."""
        import numpy as np

        return np.diff(self.starts)

    def taken(self, texts: NDArray[np.int64]) -> FeatureSets:
        """The features of some of the texts, in the order given."""
        import numpy as np

        sizes = self.sizes()[texts]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        return FeatureSets(self.ids[spread(self.starts[texts], sizes)], starts, self.hashes)

    def weights(self, even: bool = False) -> Any:
        """The weight of each feature in bits, at least 1: the length in bits of n / df, where ``df`` of the
        ``n`` texts have it. 1 for what most have, 1 + log2(n) for what stands once; always 1 with ``even``.
        """
        import numpy as np

        df = np.bincount(self.ids, minlength=len(self.hashes))
        if even:
            return np.ones(len(df), np.int64)
        return np.frexp(np.maximum(len(self) // np.maximum(df, 1), 1).astype(np.float64))[1].astype(np.int64)

    def fingerprints(self) -> Any:
        """Of each text a pair of 64-bit numbers, equal for equal sets."""
        import numpy as np

        first = mixed(self.hashes)[self.ids]
        second = mixed(self.hashes ^ np.uint64(0x9E3779B97F4A7C15))[self.ids]
        if not len(self):
            return np.empty((0, 2), np.uint64)
        return np.stack([np.add.reduceat(v, self.starts[:-1]) for v in (first, second)], axis=1)


def feature_sets(texts: Sequence[str] | pl.Series, shingle: int = 1) -> FeatureSets:
    """The sets of runs of ``shingle`` words of each text.

    Case, articles and punctuation do not count, signs of formulas do. A text without a longer run is one
    feature, and so is one without any word.
    """
    import numpy as np
    import polars as pl

    column = texts if isinstance(texts, pl.Series) else series(texts)
    found = [_sets(piece, own, shingle) for own, piece in words(column, _PATTERN)]
    known = [table for table, _, _ in found]
    distinct = ascending(np.concatenate([np.empty(0, np.uint64), *known]))
    ids = [np.searchsorted(distinct, table).astype(np.int32)[codes] for table, codes, _ in found]
    sizes = [np.zeros(1, np.int64), *(sizes for _, _, sizes in found)]
    return FeatureSets(
        np.concatenate([np.empty(0, np.int32), *ids]),
        np.cumsum(np.concatenate(sizes)).astype(np.int64),
        distinct,
    )


def _sets(piece: WordColumns, texts: pl.Series, shingle: int) -> tuple[Any, Any, Any]:
    """The features of a piece of the texts: the hashes that occur, ascending; of each text the places of its
    features among those, ascending; and how many each text has."""
    import numpy as np

    known = hashes(piece.vocabulary)
    counts = np.array([word not in _ARTICLES for word in piece.vocabulary], dtype=bool)
    some = counts[piece.word]
    text, word = piece.text[some], piece.word[some]
    lengths = np.bincount(text, minlength=len(texts))
    if shingle > 1:
        text, made = _shingles(text, known[word], lengths, shingle)
        known = made
        word = None
    none = np.flatnonzero(lengths == 0)
    if len(none):
        said = texts.gather(none).str.to_lowercase().str.strip_chars().to_list()
        made = np.concatenate([known[word] if word is not None else made, hashes(said)])
        text, known, word = np.concatenate([text, none]), np.concatenate([known, hashes(said)]), None
    table = ascending(known)
    codes = np.searchsorted(table, known)[word] if word is not None else np.searchsorted(table, made)
    text, codes = np.divmod(ascending(text * len(table) + codes), max(len(table), 1))
    return table, codes.astype(np.uint32), np.bincount(text, minlength=len(texts))


def _shingles(text: Any, word: Any, lengths: Any, size: int) -> tuple[Any, Any]:
    """Runs of ``size`` words with their texts; of a text that is shorter, all its words together."""
    import numpy as np

    made, first = grams(word, text, size)
    short = lengths[text] < size
    place = np.arange(len(text)) - np.searchsorted(text, text)
    sums = np.zeros(len(lengths), np.uint64)
    np.add.at(sums, text[short], mixed(word[short] + mixed(place[short].astype(np.uint64))))
    few = np.flatnonzero((lengths > 0) & (lengths < size))
    return np.concatenate([text[first], few]), np.concatenate([made, sums[few]])
