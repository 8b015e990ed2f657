"""``derive``: columns by expressions."""

from __future__ import annotations

import msgspec
import polars as pl
import pytest
from table_rows import counted, out, problems, sample, samples

from gristmill.core.errors import RecipeError
from gristmill.core.records import Problem, Sampled
from gristmill.core.schema import gives, record_of
from gristmill.filters import Derive


def test_new_columns_come_last_and_others_are_replaced_in_place() -> None:
    rows = counted((1, 2.0, "ab"), (None, 0.5, None))
    made = out(Derive({"length": "LENGTH(word)", "count": "count + 1", "twice": "count * 2"}), rows)
    assert made.columns == ["id", "count", "size", "word", "length", "twice"]
    # All are of the columns as they were: 'twice' is not of the new 'count'.
    assert made.rows() == [("r0", 2, 2.0, "ab", 2, 2), ("r1", None, 0.5, None, None, None)]
    assert made.schema["length"] == pl.Int64


def test_a_record_stays_what_it_was_and_can_become_another() -> None:
    rows = samples(sample("a"), sample("b"))
    assert gives(record_of(out(Derive({"words": "LENGTH(completion)"}), rows).schema, [Sampled]), Sampled)
    renamed = Derive({"answer": "completion"})([problems("x").with_columns(completion=pl.lit("7"))], 0)
    assert gives(record_of(renamed.collect_schema(), [Problem]), Problem)
    assert renamed.collect()["answer"].to_list() == ["7"]


def test_one_value_for_all_rows() -> None:
    assert out(Derive({"origin": "'web'"}), problems("x", "y"))["origin"].to_list() == ["web", "web"]
    assert out(Derive({"mean": "AVG(count)"}), counted((1, None, None), (4, None, None)))[
        "mean"
    ].to_list() == [
        2.5,
        2.5,
    ]


def test_polars_expressions_are_the_same_stage_after_a_recipe() -> None:
    derive = Derive({"twice": pl.col("count") * 2})
    again = msgspec.convert(msgspec.to_builtins(derive), Derive)
    assert again == derive
    assert out(again, counted((4, None, None)))["twice"].to_list() == [8]
    assert Derive({}).rows_max([3]) == 3


@pytest.mark.parametrize("name", ["id", "rejected_reason", "two words", "class", ""])
def test_names_that_no_column_can_have(name: str) -> None:
    with pytest.raises(RecipeError, match="cannot be the name of a derived column"):
        msgspec.convert({"columns": {name: "1"}}, Derive)


def test_a_wrong_expression_is_said_to_be_of_derive() -> None:
    with pytest.raises(RecipeError, match=r"derive: 'cuont' names 'cuont'.*Did you mean 'count'"):
        Derive({"x": "cuont"})([counted()], 0)
