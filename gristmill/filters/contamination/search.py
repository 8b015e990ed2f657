"""The search for items of reference sets in many texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gristmill.filters.contamination.candidates import HALF, Finder, PossibleItem
from gristmill.filters.contamination.matching import (
    Evidence,
    Index,
    Way,
    same_answer,
    text_of,
    way,
)
from gristmill.filters.contamination.reference import ReferenceItem
from gristmill.filters.contamination.tokens import TokenPiece, pieces
from gristmill.filters.duplicates.semantic import encoder

if TYPE_CHECKING:
    import polars as pl

T = TypeVar("T")
_SHOWN = 200
"""Characters of either text that are shown as evidence."""
_EMBEDDED = 4096
"""Texts whose embeddings are compared at a time."""


class HeldItem(NamedTuple):
    """An item that a text holds, how, and by what evidence."""

    item: ReferenceItem
    way: Way
    evidence: Evidence

    def told(self, text: str) -> str:
        """The item and the evidence, with both texts side by side."""
        found = self.evidence
        shares = f"words {found.words:.2f}, numbers {found.numbers:.2f}, n-grams {found.grams:.2f}"
        own, theirs = _side_by_side(text, self.item.text, found)
        beside = f"; there: {theirs!r}" if theirs else ""
        return f"{self.item.name} ({shares}); here: {own!r}{beside}"


class ItemSearch:
    """Looks for the items of reference sets in texts."""

    def __init__(self, items: Sequence[ReferenceItem]) -> None:
        self.index = Index(items)
        self._finder = Finder(self.index)

    def find(self, texts: pl.Series, answers: Sequence[str | None]) -> list[HeldItem | None]:
        """Of each text the item that it holds, the surest where there are several."""
        found: list[HeldItem | None] = []
        for piece, candidates in _ahead(self._searched(texts, answers)):
            start = len(found)
            found += [None] * len(piece.texts)
            for text, several in groupby(candidates, key=lambda candidate: candidate.text):
                found[start + text] = self._held(piece, text, answers[start + text], several)
        return found

    def _searched(
        self, texts: pl.Series, answers: Sequence[str | None]
    ) -> Iterator[tuple[TokenPiece, list[PossibleItem]]]:
        """The texts in pieces, each with the items that its texts may hold."""
        import numpy as np

        answered = np.array([answer is not None for answer in answers], bool)
        start = 0
        for piece in _ahead(pieces(texts)):
            end = start + len(piece.texts)
            yield piece, self._finder.candidates(piece, answered[start:end])
            start = end

    def _held(
        self, piece: TokenPiece, at: int, answer: str | None, candidates: Iterable[PossibleItem]
    ) -> HeldItem | None:
        """The surest of the candidates that a text holds."""
        text = text_of(piece, at, answer)
        best: HeldItem | None = None
        for _, position, place in candidates:
            item = self.index.items[position]
            part = text if place is None else text.part(place - item.length, place + 2 * HALF + item.length)
            evidence = self.index.evidence(part, item)
            kind = way(evidence, item, text)
            if kind is not None and _surer(found := HeldItem(item, kind, evidence), best):
                best = found
        return best

    def by_meaning(
        self, texts: Sequence[str], answers: Sequence[str | None], threshold: float, model: str
    ) -> list[HeldItem | None]:
        """Of each text the item that means most nearly the same, if the cosine similarity of their embeddings
        is at least ``threshold`` and the answer is the item's."""
        import numpy as np

        embed = encoder(model, "decontaminate")
        items = [item for item in self.index.items if item.text]
        found: list[HeldItem | None] = [None] * len(texts)
        theirs = _unit(embed.encode([item.text for item in items])) if items else np.empty((0, 1))
        for start in range(0, len(texts) if items else 0, _EMBEDDED):
            own = _unit(embed.encode(list(texts[start : start + _EMBEDDED])))
            alike = own @ theirs.T
            for at, item in enumerate(alike.argmax(axis=1).tolist()):
                near = float(alike[at, item])
                if near >= threshold and same_answer(items[item], answers[start + at]):
                    evidence = Evidence(0.0, near, near, near, 0.0, 0.0, 0.0, 0.0)
                    found[start + at] = HeldItem(items[item], "reworded", evidence)
        return found


def _ahead(source: Iterator[T]) -> Iterator[T]:
    """The items of ``source``, of which the next is made in a thread meanwhile."""
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(next, source, None)
        while (ready := waiting.result()) is not None:
            waiting = executor.submit(next, source, None)
            yield ready


def _unit(vectors: Any) -> Any:
    import numpy as np

    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _surer(one: HeldItem, other: HeldItem | None) -> bool:
    return other is None or _rank(one) > _rank(other)


def _rank(found: HeldItem) -> tuple[bool, float]:
    evidence = found.evidence
    return found.way != "reworded", evidence.bits * (evidence.grams + evidence.all + evidence.figures)


def _side_by_side(text: str, item: str, found: Evidence) -> tuple[str, str]:
    """The part of a text that holds an item, and the item, each cut to what can be shown."""
    if not item:
        return _cut(text), ""
    from rapidfuzz import fuzz

    place = fuzz.partial_ratio_alignment(item, text) if len(text) > len(item) else None
    own = text if place is None else text[place.dest_start : place.dest_end]
    return _cut(own), _cut(item)


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
