"""``group`` and ``explode``, which undo one another."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_rows import RIGHT, counted, out, problems, rejected, sample, samples

from gristmill.core.errors import RecipeError
from gristmill.core.records import Score
from gristmill.filters import Explode, GroupBy


def test_the_samples_of_a_problem_are_one_row_with_what_is_the_problems_beside_them() -> None:
    rows = samples(sample("b", 0), sample("a", 0), sample("b", 1, verdict=None))
    made = out(GroupBy(), rows)
    assert made.select("id", "problem_id", "problem", "answer").rows() == [
        ("b", "b", "What is b?", "3"),
        ("a", "a", "What is a?", "3"),
    ]
    assert [[row["id"] for row in group] for group in made["rows"]] == [["b/0", "b/1"], ["a/0"]]
    assert made["rows"][0][1]["verdict"] is None
    assert made.columns == ["id", "problem_id", "problem", "answer", "meta", "rows"]


@settings(max_examples=30, deadline=None)
@given(keys=st.lists(st.sampled_from("abc"), max_size=12), by=st.sampled_from(["problem", "index", "id"]))
def test_explode_undoes_group(keys: list[str], by: str) -> None:
    rows = samples(
        *(sample(key, i, scores=(Score("n", float(i), RIGHT),) * (i % 3)) for i, key in enumerate(keys))
    )
    column = "problem_id" if by == "problem" else by
    order = {key: at for at, key in enumerate(rows.collect()[column].unique(maintain_order=True))}
    again = out(Explode(), out(GroupBy(by), rows).lazy())
    wanted = rows.collect().sort(pl.col(column).replace_strict(order, default=0), maintain_order=True)
    assert again.equals(wanted)


def test_a_column_of_a_group_is_added_to_its_rows() -> None:
    groups = out(GroupBy(), samples(sample("a", 0), sample("a", 1))).with_columns(size=pl.lit(2))
    assert out(Explode(), groups.lazy())["size"].to_list() == [2, 2]


def test_other_keys_have_no_columns_beside_them_unless_named() -> None:
    rows = counted((1, 2.0, "x"), (None, 3.0, "y"), (1, 4.0, "z"))
    assert out(GroupBy("count"), rows).columns == ["id", "count", "rows"]
    assert out(GroupBy("count", columns=["word"]), rows).select("id", "count", "word").rows() == [
        ("1", 1, "x")
    ]
    assert rejected(GroupBy("count"), rows) == {"r1": "group: count is null"}


def test_items_that_are_no_rows_stay_in_their_column() -> None:
    rows = samples(sample("a", scores=(Score("n", 1.0), Score("m", 2.0))), sample("b"))
    made = out(Explode("scores"), rows)
    assert made["id"].to_list() == ["a/0", "a/0#2"]
    assert made["scores"].struct.field("name").to_list() == ["n", "m"]
    assert rejected(Explode("scores"), rows) == {"b/0": "explode: scores is empty"}


def test_null_lists_are_empty_too() -> None:
    rows = pl.LazyFrame({"id": ["x", "y"], "words": [["a", "b"], None]})
    assert out(Explode("words"), rows).rows() == [("x", "a"), ("x#2", "b")]
    assert rejected(Explode("words"), rows) == {"y": "explode: words is empty"}


def test_bounds_and_what_is_refused_before_there_are_rows() -> None:
    assert (GroupBy().rows_max([7]), Explode().rows_max([7])) == (7, None)
    with pytest.raises(RecipeError, match=r"'rows' is not a column of lists. Those are: messages, scores"):
        Explode()([samples()], 0)
    with pytest.raises(RecipeError, match="'scores' holds lists or records"):
        GroupBy("scores")([samples()], 0)
    with pytest.raises(RecipeError, match="columns: 'level' is not a column"):
        GroupBy(columns=["level"])([samples()], 0)
    with pytest.raises(RecipeError, match="Those are: none"):
        Explode("id")([problems()], 0)
