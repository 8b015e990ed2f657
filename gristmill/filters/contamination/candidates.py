"""Which items a text may hold: those of whose rare words or n-grams it has enough, for many texts at once."""

from __future__ import annotations

from math import log2
from typing import Any

from gristmill.filters.contamination.matching import Index
from gristmill.filters.contamination.tokens import Piece
from gristmill.filters.words import spread

WORDS, GRAMS = 0.3, 0.25
"""The least share of an item's rare words and numbers, and of its n-grams, by weight."""
MOST = 3
"""A text is compared closely with so many items at most, those with the largest shares."""
_CELLS = 1 << 22
"""Texts times items that are counted at a time."""
_COMMON = 0.1
"""A word that more than this share of the items have finds nothing."""


class Postings:
    """Of each feature the items that have it, with its weight as a share of the item's features."""

    def __init__(self, sets: list[frozenset[int]], weights: dict[int, float]) -> None:
        import numpy as np

        pairs = [(value, at) for at, one in enumerate(sets) for value in one if weights.get(value, 0) > 0]
        value = np.array([value for value, _ in pairs], np.uint32)
        item = np.array([at for _, at in pairs], np.int64)
        weight = np.array([weights[value] for value, _ in pairs])
        order = np.lexsort((item, value))
        total = np.bincount(item, weight, minlength=len(sets))
        self.values, counts = np.unique(value, return_counts=True)
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        self.item = item[order]
        self.share = weight[order] / total[self.item] if len(item) else weight
        self.total = total
        self.items = len(sets)

    def shares(self, text: Any, value: Any, texts: int) -> Any:
        """Of each of ``texts`` texts the share of each item that its distinct features have."""
        import numpy as np

        if not len(self.values):
            return np.zeros((texts, self.items))
        at = np.minimum(np.searchsorted(self.values, value), len(self.values) - 1)
        known = self.values[at] == value
        text, at = text[known], at[known]
        cells = np.unique(text * len(self.values) + at)  # each feature once for each text
        text, at = np.divmod(cells, len(self.values))
        counts = self.starts[at + 1] - self.starts[at]
        place = spread(self.starts[at], counts)
        cell = np.repeat(text, counts) * self.items + self.item[place]
        return np.bincount(cell, self.share[place], minlength=texts * self.items).reshape(texts, self.items)


class Finder:
    """Finds the items of an index that texts may hold."""

    def __init__(self, index: Index) -> None:
        self.index = index
        least = log2(1 / _COMMON) + log2(index.total / max(len(index.items), 1))
        known = index.words | index.numbers
        rare = {word: weight for word, weight in known.items() if weight >= min(least, index.unknown)}
        self.words = Postings([item.words | frozenset(item.numbers) for item in index.items], rare)
        self.grams = Postings([item.grams for item in index.items], index.grams)

    def candidates(self, piece: Piece) -> list[tuple[int, int]]:
        """Pairs of a text of the piece and an item, by their positions, in order."""
        import numpy as np

        items, texts = len(self.index.items), len(piece.texts)
        step = max(_CELLS // max(items, 1), 1)
        found: list[tuple[int, int]] = []
        for start in range(0, texts, step):
            end = min(start + step, texts)
            own = slice(int(piece.cuts[start]), int(piece.cuts[end]))
            runs = slice(int(piece.gram_cuts[start]), int(piece.gram_cuts[end]))
            by_word = self.words.shares(piece.text[own] - start, piece.word[own], end - start)
            by_run = self.grams.shares(piece.gram_text[runs] - start, piece.grams[runs], end - start)
            enough = (by_word >= WORDS) | (by_run >= GRAMS)
            # By what is shared, not by its share alone: a short item of usual words is soon shared.
            rank = by_word * np.sqrt(self.words.total) + by_run * np.sqrt(self.grams.total)
            found += [(start + int(t), int(i)) for t, i in _largest(enough, rank)]
        return found


def _largest(enough: Any, rank: Any) -> Any:
    """The cells that have enough, of each row the ``MOST`` first in rank."""
    import numpy as np

    row, column = np.nonzero(enough)
    order = np.lexsort((column, -rank[row, column], row))
    row, column = row[order], column[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    return np.stack([row, column], axis=1)[place < MOST].tolist()
