"""What an expression may name, what it is worth, and which are refused."""

from __future__ import annotations

import msgspec
import polars as pl
import pytest
from table_rows import RIGHT, WRONG, counted, sample, samples

from gristmill.core.errors import RecipeError
from gristmill.core.records import Score
from gristmill.filters.expressions import (
    Expression,
    SavedExpr,
    evaluate,
    looks_at_other_rows,
    mask,
    plain,
    shown,
)

META = '{"level": 3, "subject": "algebra", "hard": true, "source": {"name": "web", "year": "2024"}}'
ROWS = samples(
    sample("a", 0, scores=(Score("length", 5.0), Score("judge", 0.5, WRONG)), meta=META),
    sample("a", 1, verdict=WRONG, completion="it's four", meta='{"level": "three", "hard": "no"}'),
    sample("b", 0, verdict=None, completion="verdict", scores=(Score("length", 9.0),), meta='{"level": 1.5}'),
)


def holds(condition: Expression, rows: pl.LazyFrame = ROWS) -> list[bool | None]:
    values = mask(rows, condition, "holds").collect()["holds"].to_list()
    assert mask(rows.head(0), condition, "holds").collect().schema["holds"] == pl.Boolean
    return values


def test_not_of_a_truth_after_comparisons_of_texts() -> None:
    rows = ROWS.with_columns(truth=pl.Series([True, False, None]))
    assert holds("completion LIKE '%four' AND problem_id == 'a' AND NOT truth", rows) == [False, True, False]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # Columns and SQL.
        ("index = 1", [False, True, False]),
        ("index == 1 AND NOT index > 3", [False, True, False]),
        ("index IN (1, 2)", [False, True, False]),
        ("LENGTH(completion) BETWEEN 5 AND 7", [True, False, True]),
        ("completion LIKE '%four'", [False, True, False]),
        ("completion == 'it''s four'", [False, True, False]),
        ("index > AVG(index)", [False, True, False]),
        ("`index` = 1", [False, True, False]),
        ("index = 1 -- it's the second", [False, True, False]),
        ("TRUE", [True, True, True]),
        # A verdict alone is its outcome, and only where it is a name.
        ("verdict == 'correct'", [True, False, None]),
        ("verdict IS NULL", [False, False, True]),
        ("verdict IN ('correct', 'timeout')", [True, False, None]),
        ("completion == 'verdict'", [False, False, True]),
        ("verdict.score > 0.5", [True, False, None]),
        ("\"verdict\".extracted == '3'", [True, False, None]),
        # Scores and their verdicts by name.
        ("scores.length > 6", [False, None, True]),
        ("verdicts.judge == 'incorrect'", [True, None, None]),
        ("verdicts.judge.rule == 'equal'", [True, None, None]),
        ('scores."length" < 6', [True, None, False]),
        ("scores.nobody IS NULL", [True, True, True]),
        # Keys of meta, as what the expression makes of them.
        ("subject == 'algebra'", [True, None, None]),
        ("level > 2", [True, None, False]),
        ("meta.level == 'three'", [False, True, False]),
        ("level IN (1.5, 2.5)", [False, None, True]),
        ("hard", [True, None, None]),
        ("NOT hard", [False, None, None]),
        ("(subject == 'algebra' AND index < 1) OR NOT hard", [True, None, None]),
        ("meta.source.name LIKE 'w%'", [True, None, None]),
        ("CAST(meta.source.year AS BIGINT) >= 2024", [True, None, None]),
        ("level > index", [True, None, True]),
        ("level > 2 OR subject IS NULL", [True, True, True]),
    ],
)
def test_what_holds(text: str, wanted: list[bool | None]) -> None:
    assert holds(text) == wanted


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        (pl.col("index") == 1, [False, True, False]),
        (pl.col("verdict").struct.field("outcome") == "correct", [True, False, None]),
        (pl.col("scores.length") > 6, [False, None, True]),
        (pl.col("verdicts.judge") == "incorrect", [True, None, None]),
        (pl.col("meta.level") > 2, [True, None, False]),
        (pl.col("completion").str.len_chars().is_in([5, 7]), [True, False, True]),
    ],
)
def test_polars_expressions_hold_alike_and_survive_a_recipe(
    expression: pl.Expr, wanted: list[bool | None]
) -> None:
    assert holds(expression) == wanted
    saved = plain(expression)
    again = msgspec.convert(msgspec.to_builtins(saved), SavedExpr)
    assert saved == again
    assert holds(again) == wanted
    assert shown(again) == shown(expression)


@pytest.mark.parametrize("column", ["order", "user", "limit", "group", "values", "offset"])
def test_columns_with_names_of_clauses_need_no_quotes(column: str) -> None:
    rows = pl.LazyFrame({"id": ["x", "y"], column: [1, 2]})
    assert holds(f"{column} > 1", rows) == [False, True]


def test_a_word_of_sql_is_a_column_in_quotes_and_a_function_is_not_a_column() -> None:
    rows = pl.LazyFrame({"id": ["x", "y"], "end": [1, 2], "left": ["ab", "cd"]})
    assert holds('case when "end" > 1 then true else false end', rows) == [False, True]
    assert holds("left(left, 1) == 'a'", rows) == [True, False]


def test_a_batch_has_the_types_of_the_whole() -> None:
    for at in range(3):
        assert mask(ROWS.slice(at, 1), "level > 2", "x").collect()["x"].to_list() == [holds("level > 2")[at]]


@pytest.mark.parametrize("text", ["index > AVG(index)", "COUNT(*) > 1", "RANK() OVER (ORDER BY index) = 1"])
def test_where_rows_come_in_batches_none_may_depend_on_another(text: str) -> None:
    with pytest.raises(RecipeError, match=r"source\.where: .* looks at other rows"):
        mask(ROWS, text, "holds", "source.where", row_by_row=True)


@pytest.mark.parametrize("text", ["completion == 'Len'", "scores.length > 1", "level IN (1, 2)", "hard"])
def test_rows_that_decide_for_themselves_may_come_in_batches(text: str) -> None:
    assert mask(ROWS, text, "holds", row_by_row=True).collect()["holds"].to_list() == holds(text)


def test_values_have_the_types_of_records() -> None:
    made = evaluate(
        ROWS,
        {
            "length": "LENGTH(completion)",
            "half": "index / 2.0",
            "right": "verdict == 'correct'",
            "outcome": "verdict",
            "whole": '"verdict"',
            "level": "level",
            "next": "level + 1",
            "judged": "scores.judge",
            "from_": "'here'",
        },
        "derive",
    )
    assert made.collect_schema() == made.collect().schema
    assert evaluate(ROWS.head(0), {"next": "level + 1"}, "derive").collect().schema["next"] == pl.Float64
    rows = made.collect()
    assert rows["length"].to_list() == [5, 9, 7]
    assert rows["level"].to_list() == ["3", "three", "1.5"]
    assert rows["next"].to_list() == [4.0, None, 2.5]
    assert rows["from_"].to_list() == ["here"] * 3
    assert rows["outcome"].to_list() == ["correct", "incorrect", None]
    assert rows["whole"].dtype == ROWS.collect_schema()["verdict"]
    assert rows.schema["length"] == pl.Int64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("verdct == 'correct'", "names 'verdct', which is not a column. Did you mean 'verdict'.*meta.verdct"),
        ("verdict.outcom == 'correct'", "there is no field 'outcom'"),
        ("verdict", "is text, which is not true or false"),
        ("index + 1", "is of type Int64, which is not true or false"),
        ("index = 'one'", "cannot compare string with numeric"),
        ("NOT completion", "NOT needs a truth value, which 'completion' is not"),
        ("index >", "cannot be evaluated"),
        ("", "cannot be evaluated"),
        ("index > 1 completion", "gives its value a name"),
        ("nofunction(index) > 1", "unsupported function"),
        ("a = b AND c = d AND e = f AND g = 1", "more than 6 keys"),
        ("(SELECT 1) = 1", "cannot be evaluated"),
        ("completion = '\ud800'", "cannot be evaluated"),
    ],
)
def test_what_is_refused_before_there_are_rows(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        mask(ROWS.head(0), text, "holds")


def test_without_meta_every_unknown_name_is_refused_with_the_columns() -> None:
    with pytest.raises(
        RecipeError, match=r"names 'colour', which is not a column\. The columns are: id, count"
    ):
        mask(counted((1, 2.0, "x")), "colour = 'red'", "holds")


@pytest.mark.parametrize(
    ("text", "message"), [("NULL", "of no known type"), ("DATE '2024-01-01'", "which no record can hold")]
)
def test_a_value_that_no_record_can_hold_is_refused(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        evaluate(ROWS.head(0), {"x": text}, "derive")


@pytest.mark.parametrize(
    "saved",
    [
        '{"AnonymousFunction": {"input": [{"Column": "index"}], "function": [1, 2]}}',
        '{"Function": {"input": [], "function": {"FfiPlugin": {"lib": "/tmp/x.so", "symbol": "f"}}}}',
        '{"Alias": [{"Function": {"function": {"PythonUdf": []}}}, "x"]}',
    ],
)
def test_an_expression_in_a_recipe_never_brings_code(saved: str) -> None:
    with pytest.raises(RecipeError, match="calls Python or a library"):
        mask(ROWS.head(0), SavedExpr(saved), "holds")


@pytest.mark.parametrize("saved", ["{}", "no JSON", '{"Column": 3}'])
def test_a_saved_expression_that_is_none(saved: str) -> None:
    with pytest.raises(RecipeError, match=r"[Ww]rite the expression as SQL text"):
        mask(ROWS.head(0), SavedExpr(saved), "holds")


def test_python_in_a_polars_expression_is_refused_where_it_is_given() -> None:
    with pytest.raises(RecipeError, match="calls Python"):
        plain(pl.col("index").map_batches(lambda values: values > 1, return_dtype=pl.Boolean))
    with pytest.raises(RecipeError, match="3 is not an expression"):
        plain(3)


def test_an_expression_of_several_columns_is_refused() -> None:
    with pytest.raises(RecipeError, match="stands for several columns"):
        mask(counted((1, 2.0, "x")), pl.all() == 1, "holds")


def test_a_column_of_verdicts_by_any_name_is_read_as_its_outcome() -> None:
    rows = samples(sample("a", verdict=RIGHT)).rename({"verdict": "theirs"})
    assert holds("theirs == 'correct'", rows) == [True]


def test_an_expression_that_may_look_at_other_rows_says_so() -> None:
    alone = ["LENGTH(completion) > 2", "verdict == 'correct' AND scores.length < 4", "meta.level IS NULL"]
    others = ["index > AVG(index)", "COUNT(*) > 2", "SUM(index) OVER (PARTITION BY problem_id) > 1"]
    assert not any(map(looks_at_other_rows, alone))
    assert all(map(looks_at_other_rows, [*others, plain(pl.col("index").shift(1) == 1), "(((", "order > 1"]))
