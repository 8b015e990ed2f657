"""Which items a text may hold: those of whose rare words or n-grams it has enough, for many texts at once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import log2
from typing import Any, NamedTuple

from gristmill.filters.contamination.matching import GRAMS, Index
from gristmill.filters.contamination.postings import KnownFeatures, Postings
from gristmill.filters.contamination.tokens import TokenPiece

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
"""Windows times items that are counted at a time: so many numbers stay near the processor."""
_COMMON = 0.1
"""A word that more than this share of the items have finds nothing."""
_ROUNDING = 1e-9
"""Sums of the same weights in another order differ by less."""


class PossibleItem(NamedTuple):
    """An item that a text may hold, by their positions, and where in the text, if words alone say so."""

    text: int
    item: int
    place: int | None


class Finder:
    """Finds the items of an index that texts may hold.

    Most items are ruled out by the rare words of a window, most others by all that a text has of an item;
    only what is left is compared closely.
    """

    def __init__(self, index: Index) -> None:
        import numpy as np

        self.index = index
        weights = index.words | index.numbers
        least = min(log2(1 / _COMMON) + log2(index.total / max(len(index.items), 1)), index.unknown)
        numbers = [frozenset(item.numbers) for item in index.items]
        own = [item.words | some for item, some in zip(index.items, numbers, strict=True)]
        rare = [[word for word in words if weights[word] >= least] for words in own]
        self._known = KnownFeatures(weights)
        self._rare = Postings(self._known, rare, weights)
        self._all = Postings(self._known, own, weights)
        self._numbers = Postings(self._known, numbers, index.numbers)
        # A share, and so many bits that a rewording is possible at all.
        self._least = np.maximum(WORDS, BITS / np.maximum(self._rare.total, 1e-9))
        self._known_grams = KnownFeatures(index.grams)
        self._grams = Postings(self._known_grams, [item.grams for item in index.items], index.grams)

    def candidates(self, piece: TokenPiece, answered: Any) -> list[PossibleItem]:
        """The items that each text of the piece may hold, in the order of the texts.

        ``answered`` is an array that tells of each text whether it has an answer.
        """
        return [
            found for start, end in self._steps(piece) for found in self._among(piece, answered, start, end)
        ]

    def _steps(self, piece: TokenPiece) -> Iterator[tuple[int, int]]:
        """The texts of a piece, as many at a time as have some hundred windows."""
        import numpy as np

        most = max(_CELLS // max(len(self.index.items), 1), 1)
        before = np.cumsum(_number(np.diff(piece.cuts))) // most
        cuts = [0, *(np.flatnonzero(np.diff(before)) + 1).tolist(), len(piece.texts)]
        return pairwise(cuts)

    def _among(self, piece: TokenPiece, answered: Any, start: int, end: int) -> Iterator[PossibleItem]:
        import numpy as np

        runs = slice(int(piece.gram_cuts[start]), int(piece.gram_cuts[end]))
        grams = self._known_grams.seen(piece.gram_text[runs] - start, piece.grams[runs], end - start)
        text, by_runs, of_runs = self._grams.at_least(grams, GRAMS - _ROUNDING)
        at, window, first = windows(piece.cuts[start : end + 1])
        own = piece.word[int(piece.cuts[start]) : int(piece.cuts[end])]
        seen = self._known.seen(window, np.tile(own, 2)[at], int(first[-1]))
        window, by_words, of_words = self._rare.at_least(seen, self._least)
        text_of = np.repeat(np.arange(end - start), np.diff(first))
        texts = np.concatenate([text, text_of[window]])
        items = np.concatenate([by_runs, by_words])
        places = np.concatenate([np.full(len(text), -1), (window - first[text_of[window]]) * HALF])
        # By what is shared, not by its share alone: a short item of usual words is soon shared.
        totals = np.concatenate([self._grams.total[by_runs], self._rare.total[by_words]])
        rank = np.concatenate([of_runs, of_words]) * np.sqrt(totals)
        chosen = _largest(texts, items, places >= 0, rank)
        texts, items, places = texts[chosen], items[chosen], places[chosen]
        # Where only words are shared, a rewording can be there: no stretch holds more of it than the text.
        if first[-1] > end - start:
            seen = self._known.once(text_of[seen.text], seen.at, end - start)
        table = self._known.table(seen)
        possible = self.index.possible(
            items,
            np.diff(piece.cuts)[start + texts],
            answered[start + texts],
            self._numbers.share(table, texts, items) + _ROUNDING,
            self._all.share(table, texts, items) + _ROUNDING,
        )
        for one in np.flatnonzero((places < 0) | possible).tolist():
            place = int(places[one])
            yield PossibleItem(start + int(texts[one]), int(items[one]), place if place >= 0 else None)


def _number(sizes: Any) -> Any:
    """How many windows texts of so many words have."""
    import numpy as np

    return np.maximum(-(-sizes // HALF) - 1, 1)


def windows(cuts: Any) -> tuple[Any, Any, Any]:
    """The windows of texts whose words are between ``cuts``: the places of their words among all words twice
    over, the window of each, and the first window of each text with the number of all at the end.

    A window is two halves long and begins with every half of a text; a shorter text is one.
    """
    import numpy as np

    sizes = np.diff(cuts)
    halves = np.maximum(-(-sizes // HALF), 1)
    first = np.concatenate([[0], np.cumsum(_number(sizes))])
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
    return order[np.arange(len(own)) - np.searchsorted(own, own) < MOST]
