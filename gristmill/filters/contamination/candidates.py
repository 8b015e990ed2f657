"""Which items a text may hold: those of whose rare words or n-grams it has enough, for many texts at once."""

from __future__ import annotations

from math import log2
from typing import Any, NamedTuple

from gristmill.filters.contamination.matching import GRAMS, Index
from gristmill.filters.contamination.tokens import TokenPiece
from gristmill.filters.words import spread

WORDS = 0.3
"""The least share of an item's rare words and numbers, by weight, that a window of a text must have. Of the
n-grams the whole text must have as many as make its text the item's."""
BITS = 12.0
"""The least weight of what they share, in bits."""
HALF = 80
"""Half the words of a window."""
MOST = 3
"""A text is compared closely with so many items at most, those with the largest shares."""
_CELLS = 1 << 19
"""Texts times items that are counted at a time: so many numbers stay near the processor."""
_SPARSE = 16
"""Where so many times fewer cells are met than there are, they are sorted, not counted in a table."""
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

    def shared(self, text: Any, value: Any, texts: int, least: Any) -> tuple[Any, Any, Any]:
        """The texts and items of which a text's distinct features are at least ``least`` of the item's, and
        that share, in the order of texts and items. ``least`` is a number or one for each item."""
        import numpy as np

        if not len(self.values):
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
        at = np.minimum(np.searchsorted(self.values, value), len(self.values) - 1)
        known = self.values[at] == value
        # Each feature once for each text.
        text, at = np.divmod(np.unique(text[known] * len(self.values) + at[known]), len(self.values))
        counts = self.starts[at + 1] - self.starts[at]
        place = spread(self.starts[at], counts)
        cell, share = np.repeat(text, counts) * self.items + self.item[place], self.share[place]
        if len(cell) * _SPARSE < texts * self.items:
            cell, inverse = np.unique(cell, return_inverse=True)
            share = np.bincount(inverse, share, minlength=len(cell))
            found = np.flatnonzero(share >= np.broadcast_to(least, self.items)[cell % self.items])
            cell, share = cell[found], share[found]
        else:
            dense = np.bincount(cell, share, minlength=texts * self.items).reshape(texts, self.items)
            cell = np.flatnonzero(dense >= least)
            share = dense.reshape(-1)[cell]
        return *np.divmod(cell, self.items), share


class PossibleItem(NamedTuple):
    """An item that a text may hold, by their positions, and where in the text, if words alone say so."""

    text: int
    item: int
    place: int | None


class Finder:
    """Finds the items of an index that texts may hold."""

    def __init__(self, index: Index) -> None:
        import numpy as np

        self.index = index
        least = log2(1 / _COMMON) + log2(index.total / max(len(index.items), 1))
        known = index.words | index.numbers
        rare = {word: weight for word, weight in known.items() if weight >= min(least, index.unknown)}
        self.words = Postings([item.words | frozenset(item.numbers) for item in index.items], rare)
        # A share, and so many bits that a rewording is possible at all.
        self._least = np.maximum(WORDS, BITS / np.maximum(self.words.total, 1e-9))
        self.grams = Postings([item.grams for item in index.items], index.grams)

    def candidates(self, piece: TokenPiece) -> list[PossibleItem]:
        """The items that each text of the piece may hold, in the order of the texts."""
        items, texts = len(self.index.items), len(piece.texts)
        step = max(_CELLS // max(items, 1), 1)
        found: list[PossibleItem] = []
        for start in range(0, texts, step):
            found += self._among(piece, start, min(start + step, texts))
        return found

    def _among(self, piece: TokenPiece, start: int, end: int) -> list[PossibleItem]:
        import numpy as np

        runs = slice(int(piece.gram_cuts[start]), int(piece.gram_cuts[end]))
        run_text = piece.gram_text[runs] - start
        text, by_runs, of_runs = self.grams.shared(run_text, piece.grams[runs], end - start, GRAMS)
        own = slice(int(piece.cuts[start]), int(piece.cuts[end]))
        at, window, first = windows(piece.cuts[start : end + 1])
        word = np.tile(piece.word[own], 2)[at]
        window, by_words, of_words = self.words.shared(window, word, int(first[-1]), self._least)
        texts = np.concatenate([text, np.searchsorted(first, window, side="right") - 1])
        items = np.concatenate([by_runs, by_words])
        places = np.concatenate([np.full(len(text), -1), (window - first[texts[len(text) :]]) * HALF])
        # By what is shared, not by its share alone: a short item of usual words is soon shared.
        totals = np.concatenate([self.grams.total[by_runs], self.words.total[by_words]])
        rank = np.concatenate([of_runs, of_words]) * np.sqrt(totals)
        return [
            PossibleItem(start + int(texts[at]), int(items[at]), int(places[at]) if places[at] >= 0 else None)
            for at in _largest(texts, items, places >= 0, rank)
        ]


def windows(cuts: Any) -> tuple[Any, Any, Any]:
    """The windows of texts whose words are between ``cuts``: the places of their words among all words twice
    over, the window of each, and the first window of each text with the number of all at the end.

    A window is two halves long and begins with every half of a text; a shorter text is one.
    """
    import numpy as np

    sizes = np.diff(cuts)
    halves = np.maximum(-(-sizes // HALF), 1)
    first = np.concatenate([[0], np.cumsum(np.maximum(halves - 1, 1))])
    text = np.repeat(np.arange(len(sizes)), sizes)
    half = (np.arange(len(text)) - np.repeat(cuts[:-1] - cuts[0], sizes)) // HALF
    last = np.maximum(halves - 2, 0)[text]
    begun = np.flatnonzero(half <= last)
    ended = np.flatnonzero(half >= 1)
    window = np.concatenate([first[text[begun]] + half[begun], first[text[ended]] + half[ended] - 1])
    return np.concatenate([begun, ended + len(text)]), window, first


def _largest(texts: Any, items: Any, by_words: Any, rank: Any) -> Any:
    """Of each text the ``MOST`` items that are first in rank, each once: as found by n-grams if it was."""
    import numpy as np

    order = np.lexsort((-rank, by_words, items, texts))
    cell = texts[order] * (1 << 32) + items[order]
    order = order[np.flatnonzero(np.concatenate([[True], cell[1:] != cell[:-1]]))] if len(order) else order
    order = order[np.lexsort((-rank[order], texts[order]))]
    own = texts[order]
    return order[np.arange(len(own)) - np.searchsorted(own, own) < MOST].tolist()
