"""``sort``, ``head`` and ``take``: which rows come first, and which stay."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_rows import counted, out, problems, rejected, sample, samples

from gristmill.core.errors import RecipeError
from gristmill.filters import Sort, Take

VALUES = st.lists(st.tuples(st.none() | st.integers(0, 3), st.none(), st.none() | st.sampled_from("ab")))


@settings(max_examples=40, deadline=None)
@given(rows=VALUES, descending=st.booleans())
def test_sorted_as_plain_python_sorts_with_nulls_last(
    rows: list[tuple[int | None, None, str | None]], descending: bool
) -> None:
    def place(i: int) -> tuple[bool, int]:
        count = rows[i][0]
        return (count is None, 0 if count is None else -count if descending else count)

    made = out(Sort("count", descending), counted(*rows))
    assert made["id"].to_list() == [f"r{i}" for i in sorted(range(len(rows)), key=place)]


def test_several_keys_each_with_its_direction() -> None:
    rows = counted((1, None, "a"), (2, None, "ab"), (1, None, "abc"), (2, None, "b"))
    made = out(Sort(["count", "LENGTH(word)"], [True, False]), rows)
    assert made["id"].to_list() == ["r3", "r1", "r0", "r2"]
    assert made.columns == ["id", "count", "size", "word"]
    assert Sort("count").rows_max([4]) == 4


def test_keys_that_cannot_be_sorted_by() -> None:
    with pytest.raises(RecipeError, match="'scores' holds lists or records"):
        Sort("scores")([samples()], 0)
    with pytest.raises(RecipeError, match="2 keys for descending"):
        Sort(["id", "index"], [True])
    with pytest.raises(RecipeError, match="0 keys"):
        Sort([])


def test_the_first_rows_of_all_or_of_each_problem_stay() -> None:
    rows = samples(*(sample(p, i) for i in range(3) for p in "ab"))
    assert out(Take(2), rows)["id"].to_list() == ["a/0", "b/0"]
    assert out(Take(2, per="problem"), rows)["id"].to_list() == ["a/0", "b/0", "a/1", "b/1"]
    assert rejected(Take(2, per="problem"), rows) == dict.fromkeys(
        ["a/2", "b/2"], "take: after the first 2 of its problem_id"
    )
    assert len(out(Take(99), rows)) == 6
    assert len(out(Take(0), rows)) == 0


def test_a_random_choice_follows_the_seed_and_the_ids_alone() -> None:
    rows = problems(*(f"p{i}" for i in range(100)))
    first = set(out(Take(20, random=True), rows)["id"])
    assert len(first) == 20
    assert set(out(Take(20, random=True), rows.reverse())["id"]) == first
    assert set(out(Take(20, random=True), rows, seed=1)["id"]) != first
    more = problems(*(f"p{i}" for i in range(110)))
    assert len(first & set(out(Take(20, random=True), more)["id"])) >= 12  # 18 are expected to stay
    each = out(
        Take(1, per="problem_id", random=True), samples(*(sample(p, i) for p in "abc" for i in range(4)))
    )
    assert Counter(each["problem_id"]) == {"a": 1, "b": 1, "c": 1}


def test_numbers_and_columns_that_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"rows": -1}, Take)
    with pytest.raises(RecipeError, match=r"take: 'problme_id' is not a column\. Did you mean 'problem_id'"):
        Take(1, per="problme_id")(samples(), 0)
