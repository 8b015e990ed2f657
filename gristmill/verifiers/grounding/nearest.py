"""Which of several texts are nearest to a question by their words: BM25 over the stems that carry meaning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gristmill.verifiers.grounding.claims import content


class NearPassage(NamedTuple):
    """A passage by its number, and how near it is to a question; more is nearer."""

    number: int
    score: float


Rank = Callable[[str], list[NearPassage]]
"""From a question to the passages, the nearest first; those that have nothing to do with it are not in the
list, where that can be told."""


def by_words(texts: Sequence[str], most: int) -> Rank:
    """What ranks ``texts`` by BM25, with at most ``most`` places each time; texts without any of a question's
    words are not in the list."""
    import bm25s
    import numpy as np

    found = bm25s.BM25()
    if any(terms := [content(text) for text in texts]):
        found.index(terms, show_progress=False)
    known = frozenset(stem for own in terms for stem in own)

    def rank(question: str) -> list[NearPassage]:
        asked = [stem for stem in content(question) if stem in known]
        if not asked:
            return []
        return best_places(np.asarray(found.get_scores(asked)), most, least=0.0)

    return rank


def best_places(scores: Any, most: int, least: float | None = None) -> list[NearPassage]:
    """The passages with the highest scores above ``least``; equal ones in the order of the passages."""
    import numpy as np

    numbers = np.arange(len(scores)) if least is None else np.flatnonzero(scores > least)
    order = np.lexsort((numbers, -scores[numbers]))[:most]
    return [NearPassage(int(number), float(scores[number])) for number in numbers[order]]
