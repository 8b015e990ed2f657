"""Which items have the features that texts have, and how much of an item a text has, for many at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gristmill.filters.words import ascending, spread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SPARSE = 16
"""Where so many times fewer cells are met than there are, they are sorted, not counted in a table."""
_FLAGS = 20
"""Bits of a feature by which most that no item has are seen at once."""


class SeenFeatures(NamedTuple):
    """The known features of some texts, each once for each text, in the order of texts and features."""

    text: NDArray[np.int64]
    at: NDArray[np.int64]
    """Of each its place among the known features."""
    texts: int
    """How many texts there are; those without a known feature are among them."""


class KnownFeatures:
    """The features that items have, as 32-bit hashes in ascending order."""

    def __init__(self, values: Iterable[int]) -> None:
        import numpy as np

        self.values = np.array(sorted(set(values)), np.uint32)
        self._flags = np.zeros(1 << _FLAGS, bool)
        self._flags[self._flag(self.values)] = True

    def _flag(self, values: Any) -> Any:
        return values & ((1 << _FLAGS) - 1)

    def seen(self, text: Any, value: Any, texts: int) -> SeenFeatures:
        """The known ones of the features ``value``, each of which is in the text at its side."""
        import numpy as np

        if not len(self.values):
            return SeenFeatures(np.empty(0, np.int64), np.empty(0, np.int64), texts)
        maybe = np.flatnonzero(self._flags[self._flag(value)])
        text, value = text[maybe], value[maybe]
        at = np.minimum(np.searchsorted(self.values, value), len(self.values) - 1)
        known = self.values[at] == value
        return self.once(text[known], at[known], texts)

    def once(self, text: Any, at: Any, texts: int) -> SeenFeatures:
        """Known features by their places, in texts."""
        import numpy as np

        keyed = ascending(text * len(self.values) + at)
        own, at = np.divmod(keyed, len(self.values))
        return SeenFeatures(own, at, texts)

    def table(self, seen: SeenFeatures) -> Any:
        """Of each text, for each known feature, whether it has it: an array of texts by features."""
        import numpy as np

        has = np.zeros((seen.texts, len(self.values)), bool)
        has[seen.text, seen.at] = True
        return has


class Postings:
    """Of each known feature the items that have it, and of each item its features, each with its weight as a
    share of the item's ``total``."""

    def __init__(
        self, known: KnownFeatures, sets: Sequence[Collection[int]], weights: dict[int, float]
    ) -> None:
        import numpy as np

        sizes = np.array([len(one) for one in sets], np.int64)
        value = np.array([value for one in sets for value in one], np.uint32)
        weight = np.array([weights[value] for one in sets for value in one], np.float64)
        item = np.repeat(np.arange(len(sets)), sizes)
        order = np.lexsort((value, item))
        at, weight = np.searchsorted(known.values, value[order]), weight[order]
        self.items = len(sets)
        self.total = np.bincount(item, weight, minlength=len(sets))
        share = weight / self.total[item] if len(item) else weight
        self._own, self._own_share = at, share
        self._own_starts = np.concatenate([[0], np.cumsum(sizes)])
        order = np.lexsort((item, at))
        self._item, self._share = item[order], share[order]
        self._starts = np.searchsorted(at[order], np.arange(len(known.values) + 1))

    def at_least(self, seen: SeenFeatures, least: Any) -> tuple[Any, Any, Any]:
        """The texts and items of which a text has at least ``least`` of the item, and that share, in the
        order of texts and items. ``least`` is a number or one for each item."""
        import numpy as np

        counts = self._starts[seen.at + 1] - self._starts[seen.at]
        place = spread(self._starts[seen.at], counts)
        cell, share = np.repeat(seen.text, counts) * self.items + self._item[place], self._share[place]
        if len(cell) * _SPARSE < seen.texts * self.items:
            cell, inverse = np.unique(cell, return_inverse=True)
            share = np.bincount(inverse, share, minlength=len(cell))
            found = np.flatnonzero(share >= np.broadcast_to(least, self.items)[cell % self.items])
            cell, share = cell[found], share[found]
        else:
            dense = np.bincount(cell, share, minlength=seen.texts * self.items)
            cell = np.flatnonzero(dense.reshape(seen.texts, self.items) >= least)
            share = dense[cell]
        return *np.divmod(cell, self.items), share

    def share(self, table: Any, text: Any, item: Any) -> Any:
        """How much of each of some items the text at its side has, as a share of the item, where ``table``
        tells of each text which known features it has."""
        import numpy as np

        counts = self._own_starts[item + 1] - self._own_starts[item]
        place = spread(self._own_starts[item], counts)
        pair = np.repeat(np.arange(len(text)), counts)
        held = table[text[pair], self._own[place]]
        return np.bincount(pair[held], self._own_share[place[held]], minlength=len(text))
