"""A set of 64-bit hashes in 11 to 22 bytes each (at least 4 MB); Python's own takes about 80.

Own code, since a Bloom filter may take a new id for a repeated one, and a sorted array or a database is
slower to insert into.
"""

from __future__ import annotations

from array import array

_START = 1 << 19
"""Four megabytes from the first: up to 390,000 rows a run does not grow by what it remembers of them."""
_FULLEST = 0.75
"""The set doubles above this load: a new hash then meets 8 others on average (Knuth 6.4, linear probing)."""


class Seen:
    """Hashes seen so far. They must be spread evenly, as those of a cryptographic hash function are."""

    def __init__(self) -> None:
        self._table = _zeros(_START)
        self._count = 0
        self._zero = False  # the hash 0, which in the table would be an empty place

    def __len__(self) -> int:
        return self._count + self._zero

    def add(self, key: int) -> bool:
        """Whether ``key``, in [0, 2^64), is new; it is in the set from now on."""
        if not key:
            new, self._zero = not self._zero, True
            return new
        table, mask = self._table, len(self._table) - 1
        at = key & mask
        while found := table[at]:
            if found == key:
                return False
            at = (at + 1) & mask
        table[at] = key
        self._count += 1
        if self._count > _FULLEST * len(table):
            self._grow()
        return True

    def _grow(self) -> None:
        table = _zeros(2 * len(self._table))
        mask = len(table) - 1
        for key in self._table:
            if key:
                at = key & mask
                while table[at]:
                    at = (at + 1) & mask
                table[at] = key
        self._table = table


def _zeros(places: int) -> array[int]:
    return array("Q", bytes(8)) * places
