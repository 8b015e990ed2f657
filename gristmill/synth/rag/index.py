"""Which passages of a set are nearest to a question: by words (BM25), by an embedding model, or by both."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from gristmill.core.errors import RecipeError
from gristmill.verifiers.grounding.nearest import NearPassage, Rank, best_places, by_words

By = Literal["bm25", "embedding", "both"]
_FUSION = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009)."""
_FUSED = 100
"""The places of each ranking that are fused."""


def index(texts: Sequence[str], by: By, model: str | None, most: int) -> Rank:
    """What ranks ``texts``, with at most ``most`` places each time. ``RecipeError`` where a library is
    missing."""
    if by == "bm25" or model is None:
        return by_words(texts, most)
    if by == "embedding":
        return _meaning(texts, model, most)
    return _fused(by_words(texts, max(most, _FUSED)), _meaning(texts, model, max(most, _FUSED)), most)


def _meaning(texts: Sequence[str], model: str, most: int) -> Rank:
    """The cosine of embeddings by a model of Sentence Transformers."""
    import numpy as np

    encoder = load_encoder(model)
    held = np.asarray(encoder.encode(list(texts), normalize_embeddings=True)) if texts else None

    def rank(question: str) -> list[NearPassage]:
        if held is None:
            return []
        [asked] = np.asarray(encoder.encode([question], normalize_embeddings=True))
        return best_places(held @ asked, most)

    return rank


def _fused(first: Rank, second: Rank, most: int) -> Rank:
    def rank(question: str) -> list[NearPassage]:
        scores: dict[int, float] = {}
        for ranking in (first(question), second(question)):
            for place, (number, _) in enumerate(ranking, 1):
                scores[number] = scores.get(number, 0.0) + 1 / (_FUSION + place)
        order = sorted(scores, key=lambda number: (-scores[number], number))[:most]
        return [NearPassage(number, scores[number]) for number in order]

    return rank


@lru_cache(maxsize=2)
def load_encoder(model: str) -> Any:
    """The embedding model of that name or folder. ``RecipeError`` without Sentence Transformers."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise RecipeError(
            f"retrieve: the embedding model {model!r} needs the package sentence-transformers, which is not "
            "installed.",
            remedy="Run 'pip install sentence-transformers', or use by: bm25.",
        ) from error
    return SentenceTransformer(model)
