"""Contamination: items of benchmarks in a corpus, also renumbered, reworded and in another notation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.filters.contamination.reference import Item, load, save_hashed
    from gristmill.filters.contamination.search import Found, Search
    from gristmill.filters.contamination.stage import Decontaminate

__all__ = ["Decontaminate", "Found", "Item", "Search", "load", "save_hashed"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Decontaminate": ".stage",
        "Found": ".search",
        "Item": ".reference",
        "Search": ".search",
        "load": ".reference",
        "save_hashed": ".reference",
    },
)
