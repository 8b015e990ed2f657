"""What the checks of ``quality`` have in common."""

from __future__ import annotations

import re
from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

from msgspec import Struct

_SHOWN = 80


class RowFacts(NamedTuple):
    """What a row says besides its text; ``None`` for what its table does not have."""

    prompt: str | None = None
    answer: str | None = None
    finish_reason: str | None = None


class TextCheck(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One check of ``quality``: of a text whether it is at fault, and what shows that."""

    suspect: ClassVar[Any] = None
    """A regular expression (of Rust's ``regex``) that every text at fault matches; others are not looked at.
    ``None``: all texts are. A property where options decide it."""

    @abstractmethod
    def find(self, text: str, told: RowFacts, /) -> str | None:
        """What is wrong with ``text``, with an example from it; ``None`` where nothing is."""
        raise NotImplementedError


def excerpt(text: str, at: int = 0, end: int | None = None) -> str:
    """At most 80 characters of ``text`` from ``at``, on one line and quoted."""
    said = re.sub(r"\s+", " ", text[at : at + 3 * _SHOWN if end is None else end]).strip()
    return repr(said if len(said) <= _SHOWN else said[: _SHOWN - 3] + "...")
