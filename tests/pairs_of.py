"""Pairs for the tests of curation."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from gristmill.core.records import Pair, Score
from gristmill.core.schema import to_frame
from gristmill.testing.records import pair


def scored(id: str, scores: Mapping[str, float | None], **fields: object) -> Pair:
    """A pair with scores, of a problem of its own."""
    made = tuple(Score(name, value) for name, value in scores.items())
    return pair(id, **{"problem_id": f"q-{id}", "scores": made, **fields})


def table(*pairs: Pair) -> pl.LazyFrame:
    return to_frame(pairs, Pair).lazy()


def of(pair: Pair, name: str) -> float | None:
    return next(score.value for score in pair.scores if score.name == name)
