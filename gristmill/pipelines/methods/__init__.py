"""The methods of the literature that come with Gristmill: recipes with a header, run by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.pipelines.methods.choosing import choose
    from gristmill.pipelines.methods.expecting import unmet
    from gristmill.pipelines.methods.gallery import METHODS, Entry, entries, entry, table

__all__ = ["METHODS", "Entry", "choose", "entries", "entry", "table", "unmet"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "METHODS": ".gallery",
        "Entry": ".gallery",
        "choose": ".choosing",
        "entries": ".gallery",
        "entry": ".gallery",
        "table": ".gallery",
        "unmet": ".expecting",
    },
)
