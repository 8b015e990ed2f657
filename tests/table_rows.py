"""Rows for the tests of table stages."""

from __future__ import annotations

import polars as pl
from msgspec import Struct

from gristmill.core.records import Problem, Sampled, Score
from gristmill.core.schema import to_frame
from gristmill.core.stages import REJECTED_DETAIL, REJECTED_REASON, Filter, Relation
from gristmill.core.verdicts import Outcome, Verdict

RIGHT, WRONG = Verdict(Outcome.CORRECT, 1.0, "3", "equal"), Verdict(Outcome.INCORRECT, 0.0, "4", "equal")


def sample(
    problem: str,
    index: int = 0,
    *,
    completion: str = "three",
    verdict: Verdict | None = RIGHT,
    scores: tuple[Score, ...] = (),
    model: str | None = None,
    meta: str = "{}",
) -> Sampled:
    return Sampled(
        id=f"{problem}/{index}",
        problem_id=problem,
        index=index,
        problem=f"What is {problem}?",
        answer="3",
        messages=(),
        completion=completion,
        finish_reason="stop",
        prompt_tokens=5,
        completion_tokens=len(completion),
        verdict=verdict,
        scores=scores,
        model=model,
        meta=meta,
    )


def samples(*rows: Sampled) -> pl.LazyFrame:
    return to_frame(rows, Sampled).lazy()


def problems(*ids: str, level: int | None = None) -> pl.LazyFrame:
    return to_frame([Problem(i, f"What is {i}?", "3", level) for i in ids], Problem).lazy()


def out(stage: Filter | Relation, *frames: pl.LazyFrame, seed: int = 0) -> pl.DataFrame:
    """The rows that a stage puts out, as a run keeps them; those rejected are left out."""
    made = called(stage, *frames, seed=seed)
    if REJECTED_REASON not in made.columns:
        return made
    kept = made.filter(pl.col(REJECTED_REASON).is_null())
    return kept.drop(REJECTED_REASON, REJECTED_DETAIL, strict=False)


def rejected(stage: Filter | Relation, *frames: pl.LazyFrame, seed: int = 0) -> dict[str, str]:
    """The reason of each rejected row, by its id."""
    made = called(stage, *frames, seed=seed)
    rows = made.filter(pl.col(REJECTED_REASON).is_not_null()).select("id", REJECTED_REASON)
    return dict(rows.iter_rows())


def called(stage: Filter | Relation, *frames: pl.LazyFrame, seed: int = 0) -> pl.DataFrame:
    """All that a stage gives. Checks what holds for every one: unique ids, the types of an empty run,
    and the same rows by Polars' streaming engine."""
    given = (frames[0],) if isinstance(stage, Filter) else (frames,)
    empty = [frame.collect().clear().lazy() for frame in frames]
    dry = stage(*((empty[0],) if isinstance(stage, Filter) else (empty,)), seed).collect()
    made = stage(*given, seed).collect()
    assert made.schema == dry.schema
    assert stage(*given, seed).collect(engine="streaming").equals(made)
    assert dry.is_empty()
    assert made["id"].is_unique().all()
    assert made["id"].null_count() == 0
    return made


class Counted(Struct, frozen=True):
    """A record of another kind, with an order that numbers have."""

    id: str
    count: int | None = None
    size: float | None = None
    word: str | None = None


def counted(*rows: tuple[int | None, float | None, str | None]) -> pl.LazyFrame:
    return to_frame([Counted(f"r{i}", *row) for i, row in enumerate(rows)], Counted).lazy()
