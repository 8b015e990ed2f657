"""Named scores of records: how one is put on a record, and how one is read."""

from __future__ import annotations

from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.errors import RecipeError
from gristmill.core.records import Score

R = TypeVar("R", bound=Struct)


def with_score(record: R, score: Score) -> R:
    """``record`` with ``score``, in the place of one of the same name where there is one.

    ``RecipeError`` for a record of a type that has no scores.
    """
    scores = _scores(record)
    if score_of(record, score.name) is None:
        return replace(record, scores=(*scores, score))
    return replace(record, scores=tuple(score if s.name == score.name else s for s in scores))


def score_of(record: Struct, name: str) -> Score | None:
    """The score of that name, ``None`` where there is none. Raises as ``with_score`` does."""
    return next((score for score in _scores(record) if score.name == name), None)


def _scores(record: Any) -> tuple[Score, ...]:
    if "scores" not in record.__struct_fields__:
        raise RecipeError(
            f"records of type {type(record).__name__} have no scores.",
            remedy="Score the samples or pairs that they are made of.",
        )
    scores: tuple[Score, ...] = record.scores
    return scores
