"""Contamination: items of benchmarks in a corpus, also renumbered, reworded and in another notation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.filters.contamination.reference import ReferenceItem, load, save_hashed
    from gristmill.filters.contamination.search import HeldItem, ItemSearch
    from gristmill.filters.contamination.stage import Decontaminate

__all__ = ["Decontaminate", "HeldItem", "ItemSearch", "ReferenceItem", "load", "save_hashed"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Decontaminate": ".stage",
        "HeldItem": ".search",
        "ReferenceItem": ".reference",
        "ItemSearch": ".search",
        "load": ".reference",
        "save_hashed": ".reference",
    },
)
