"""``join``: which rows meet, what they bring along, and what becomes of the others."""

from __future__ import annotations

from typing import Any

import msgspec
import polars as pl
import pytest
from table_rows import counted, out, problems, rejected, sample, samples

from gristmill.core.errors import RecipeError
from gristmill.filters import Derive, Join, Sides

SAMPLES = samples(*(sample(p, i, completion=f"{p}{i}") for p in "abc" for i in range(2)))


def test_samples_meet_their_problems_in_their_own_order() -> None:
    made = out(Join(), SAMPLES, problems("b", "a", "z", level=2))
    assert made["id"].to_list() == ["a/0", "a/1", "b/0", "b/1"]
    assert made["level"].to_list() == [2] * 4
    assert rejected(Join(), SAMPLES, problems("b", "a")) == dict.fromkeys(
        ["c/0", "c/1"], "join: no row of table 2 has the same problem_id"
    )


def test_a_problem_that_meets_several_samples_is_several_rows_with_ids_of_their_own() -> None:
    made = out(Join(columns=["completion"]), problems("b", "a"), SAMPLES)
    assert made["id"].to_list() == ["b", "b#2", "a", "a#2"]
    assert made["completion"].to_list() == ["b0", "b1", "a0", "a1"]


def test_an_id_that_a_row_has_already_is_not_given_to_another() -> None:
    made = out(Join(by="problem_id"), SAMPLES.with_columns(id=pl.Series(["x", "x#2", *"klmn"])), SAMPLES)
    assert made["id"].to_list() == [
        "x",
        "x#3",
        "x#2",
        "x#2#2",
        "k",
        "k#2",
        "l",
        "l#2",
        "m",
        "m#2",
        "n",
        "n#2",
    ]


def test_left_keeps_all_semi_and_anti_bring_nothing() -> None:
    table = problems("a", "z")
    assert out(Join(how="left", columns={"said": "completion"}), table, SAMPLES)["said"].to_list() == [
        "a0",
        "a1",
        None,
    ]
    semi, anti = out(Join(how="semi"), table, SAMPLES), out(Join(how="anti"), table, SAMPLES)
    assert (semi["id"].to_list(), anti["id"].to_list()) == (["a"], ["z"])
    assert semi.schema == anti.schema == table.collect_schema()
    assert rejected(Join(how="anti"), table, SAMPLES) == {"a": "join: a row of table 2 has the same id"}


def test_by_default_only_columns_that_the_table_lacks_are_brought() -> None:
    made = out(Join(), problems("a"), SAMPLES)
    assert made["problem"].to_list() == ["What is a?"] * 2
    assert set(made.columns) == {"level", *SAMPLES.collect_schema()}


def test_three_tables_meet_one_after_another() -> None:
    other = Derive({"said": "completion"})([SAMPLES.filter(pl.col("index") == 1)], 0)
    made = out(Join(columns=["level", "said"]), SAMPLES, problems("a", "b", level=1), other)
    assert made["said"].to_list() == ["a1", "a1", "b1", "b1"]
    told = rejected(Join(), SAMPLES, problems("a", "b"), other.filter(pl.col("problem_id") == "a"))
    assert told == {
        "b/0": "join: no row of table 3 has the same problem_id",
        "b/1": "join: no row of table 3 has the same problem_id",
        "c/0": "join: no row of table 2 has the same problem_id",
        "c/1": "join: no row of table 2 has the same problem_id",
    }


def test_a_row_that_the_second_table_rejects_is_not_multiplied_by_the_third() -> None:
    told = rejected(
        Join(columns=["said"]), SAMPLES, problems("a", "b"), Derive({"said": "completion"})([SAMPLES], 0)
    )
    assert list(told) == ["c/0", "c/1"]


def test_keys_of_two_names_and_null_that_meets_nothing() -> None:
    left, right = counted((1, None, "x"), (None, None, "y")), counted((None, 1.0, "v"), (1, 2.0, "w"))
    join = Join(by=Sides(left="count", right="number"), columns={"theirs": "word"})
    made = out(join, left, right.rename({"count": "number"}))
    assert made.select("id", "theirs").rows() == [("r0", "w")]


def test_bounds() -> None:
    assert Join(how="semi").rows_max([5, 9]) == 5
    assert Join().rows_max([5, 9]) == 45
    assert Join(how="left").rows_max([5, 0]) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "problm_id"}, "join: 'problm_id' is not a column. Did you mean 'problem_id'"),
        ({"by": {"left": "index", "right": "id"}}, "'index' is Int64 and 'id' of table 2 is String"),
        ({"by": "messages"}, "holds lists or records"),
        ({"columns": ["lvel"]}, "no further table has the column 'lvel'"),
        ({"columns": {"index": "level"}}, "has a column 'index' already"),
        ({"columns": ["id"]}, "'id' cannot be the name"),
        ({"columns": {"two words": "level"}}, "'two words' cannot be the name"),
        ({"columns": ["level"], "how": "anti"}, "how: anti brings none"),
    ],
)
def test_what_is_refused_before_there_are_rows(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        msgspec.convert(options, Join)([SAMPLES.head(0), problems()], 0)
