"""A seeded order of rows that the order of the input has no say in."""

from __future__ import annotations

from collections.abc import Sequence

from gristmill.core.stages import derive_seed


def seeded_order(seed: int, ids: Sequence[str]) -> list[int]:
    """The positions of ``ids`` by a seeded hash of each: more rows change a choice at its edge only."""
    # The id settles equal hashes.
    keys = [(derive_seed(seed, record_id), record_id) for record_id in ids]
    return sorted(range(len(keys)), key=keys.__getitem__)
