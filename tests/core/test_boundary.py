"""What filters and relations make of empty tables, and what stages may return at the record boundary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import polars as pl
import pytest
from msgspec import Struct

from gristmill.core.contracts import (
    Ids,
    check_filter,
    check_table,
    checked,
    dry_run,
)
from gristmill.core.errors import ContractError, RecipeError, RunStopped
from gristmill.core.records import Problem, Sampled
from gristmill.core.schema import schema
from gristmill.core.stages import REJECTED_REASON, Context, Filter, Rejection, Relation, RowStage
from gristmill.testing import problem, sampled


class Good(RowStage):
    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem

    async def __call__(self, record: Problem, context: Context) -> Sequence[Problem]:
        return [record]


class Same(Filter):
    how: str = "right"

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        reason = pl.lit(None, pl.String).alias(REJECTED_REASON)
        match self.how:
            case "right":
                return frame.with_columns(reason)
            case "unmarked":
                return frame
            case "number":
                return frame.with_columns(pl.lit(0).alias(REJECTED_REASON))
            case "adds":
                return frame.with_columns(reason, pl.lit(1).alias("more"))
            case "drops":
                return frame.drop("problem").with_columns(reason)
            case "retypes":
                return frame.with_columns(reason, pl.col("level").cast(pl.String))
            case "frame":
                return frame.collect()  # type: ignore[return-value]
            case _:
                raise IndexError("no first row")


@pytest.mark.parametrize(
    ("how", "member", "remedy"),
    [
        ("unmarked", "no column 'rejected_reason'", "Add it"),
        ("number", "column 'rejected_reason' is Int32, not text", "Give the reason"),
        ("adds", "adds the column 'more'", "Drop it, or declare"),
        ("drops", "column 'problem' is missing", "Return all columns"),
        ("retypes", "column 'level' is String and not Int64", "Return all columns"),
        ("frame", "returns a DataFrame, not a LazyFrame", "Return frame.with_columns"),
        ("raises", "fails on an empty table: IndexError: no first row", "Let it return"),
    ],
)
def test_a_bad_filter_is_found_on_an_empty_table(how: str, member: str, remedy: str) -> None:
    with pytest.raises(RecipeError, match=f"stage 'mine' .*:Same.*{member}.*{remedy}"):
        check_filter("mine", Same(how=how), Problem)
    check_filter("mine", Same(), Problem)


class Both(Relation):
    inputs: ClassVar[tuple[int, int | None]] = (2, 2)

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        return pl.concat(frames)


def test_a_dry_run_of_a_relation_says_what_comes_out() -> None:
    assert dry_run("mine", Both(), Problem, Problem) == schema(Problem)
    with pytest.raises(RecipeError, match=r"stage 'mine' .*:Both.*fails on an empty table"):
        dry_run("mine", Both(), Problem, Sampled)


RECORD = problem("p7")


@pytest.mark.parametrize(
    ("results", "member", "remedy"),
    [
        (None, "returned None for the record 'p7'", r"Return a list of records; \[\]"),
        ("text", "returned the text 'text'", "Return a list"),
        (RECORD, "returned a Problem", "Return a list"),
        ((r for r in [RECORD]), "returned a generator", "Return a list"),
        ([sampled()], "returned a Sampled .* where 'writes' says Problem", "or change 'writes'"),
        ([RECORD, None], "returned None .* where 'writes' says Problem", "or change 'writes'"),
        ([problem("")], "a Problem .* that has the id ''", "make 'id' from the record's id"),
        (
            [Problem(7, "x")],
            "that cannot be written: .* got `int` - at `.\\.id`",
            "Give every field",
        ),  # type: ignore[arg-type]
        (
            [problem(level="high")],
            r"written: .* got `str` - at `.\.level`",
            "Give every field",
        ),
        ([problem(meta={1})], r"that cannot be written: .* got `array` - at `.\.meta`", "Give every field"),
        ([problem(problem="\ud800")], "written: .* surrogates not allowed", "Give every field"),
        ([Rejection("p7", "")], "Rejection with the reason ''", "short fixed phrase"),
    ],
)
def test_the_record_boundary_refuses_what_is_not_a_list_of_records(
    results: Any, member: str, remedy: str
) -> None:
    with pytest.raises(ContractError, match=f"stage 'mine' .*:Good.: '__call__' .*{member}.*{remedy}"):
        checked("mine", Good(), RECORD, results, Problem)


def test_the_record_boundary_parts_records_and_rejections() -> None:
    rejection = Rejection("p7/1", "too short")
    assert checked("mine", Good(), RECORD, [RECORD, rejection], Problem) == ([RECORD], [rejection])
    assert checked("mine", Good(), RECORD, (), Problem) == ((), ())
    assert checked("mine", Good(), RECORD, [sampled()], (Problem, Sampled)) == ([sampled()], ())


def test_a_record_given_twice_is_kept_once() -> None:
    ids = Ids()
    kept, rejected = ids.fresh([problem("a"), problem("b"), problem("a")])
    assert [r.id for r in kept] == ["a", "b"]
    assert [(r.id, r.reason) for r in rejected] == [("a", "repeated id")]
    kept, rejected = ids.fresh([problem("b"), problem("c")])
    assert [r.id for r in kept] == ["c"]
    assert [(r.id, r.reason) for r in rejected] == [("b", "repeated id")]
    assert "Make ids from the input's id" in rejected[0].detail


def frame(*ids: str | None) -> pl.DataFrame:
    return pl.DataFrame({"id": list(ids)}, schema={"id": pl.String})


@pytest.mark.parametrize(
    ("after", "what"),
    [
        (frame("a"), "returned 1 rows of 2"),
        (frame("a", "b", "c"), "returned 3 rows of 2"),
        (frame("b", "a"), r"returned 'b' where its input has 'a' \(row 1\)"),
        (pl.DataFrame({"x": [1]}), "no text column 'id'"),
    ],
)
def test_a_filter_that_adds_loses_or_reorders_rows_stops_the_run(after: pl.DataFrame, what: str) -> None:
    with pytest.raises(RunStopped, match=f"stage 'mine' .*:Same.: .*{what}.*Return"):
        check_table("mine", Same(), frame("a", "b")["id"], after)
    check_table("mine", Same(), frame("a", "b")["id"], frame("a", "b"))


@pytest.mark.parametrize(
    ("after", "what"),
    [
        (frame("a", None), "row 2 of its table has no id"),
        (frame("a", ""), "row 2 of its table has no id"),
        (frame("a", "b", "b"), "has the id 'b' more than once"),
        (pl.DataFrame({"id": [1]}), "no text column 'id'"),
    ],
)
def test_a_relation_gives_unique_ids_or_stops_the_run(after: pl.DataFrame, what: str) -> None:
    with pytest.raises(RunStopped, match=f"stage 'mine' .*:Both.: .*{what}"):
        check_table("mine", Both(), None, after)
    check_table("mine", Both(), None, frame("b", "a"))
