"""``split``: all rows of a problem in one part, whatever else is in the table."""

from __future__ import annotations

from itertools import permutations
from math import sqrt
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_rows import counted, out, problems, sample, samples

from gristmill.core.errors import RecipeError
from gristmill.core.records import Problem
from gristmill.core.schema import to_frame
from gristmill.filters import Keep, SplitParts, Take

KEYS = st.lists(st.sampled_from([f"p{i}" for i in range(12)]), max_size=20)


def parts(frame: pl.LazyFrame, seed: int = 0, **options: Any) -> dict[str, str]:
    """The part of each problem; each must be in one part only."""
    made = out(SplitParts(**options), frame, seed=seed)
    found = dict(made.select("problem_id", "part").rows())
    assert all(found[problem] == part for problem, part in made.select("problem_id", "part").rows())
    return found


@settings(max_examples=40, deadline=None)
@given(keys=KEYS, more=KEYS, seed=st.integers(0, 5))
def test_a_problem_has_one_part_and_keeps_it_when_rows_come_and_go(
    keys: list[str], more: list[str], seed: int
) -> None:
    few = parts(samples(*(sample(key, i) for i, key in enumerate(keys))), seed)
    many = parts(samples(*(sample(key, i) for i, key in enumerate(more + keys))), seed)
    assert few == {key: many[key] for key in few}


def test_problems_and_their_samples_are_divided_alike() -> None:
    ids = [f"p{i}" for i in range(50)]
    made = out(SplitParts(), problems(*ids))
    assert dict(made.select("id", "part").rows()) == parts(samples(*(sample(i) for i in ids)))


def test_shares_are_met_up_to_chance_and_only_their_relation_counts() -> None:
    rows = problems(*(f"p{i}" for i in range(4000)))
    made = out(SplitParts(), rows)
    assert made.equals(out(SplitParts({"train": 8, "validation": 1, "test": 1}), rows))
    found = dict(made["part"].value_counts().rows())
    for part, share in {"train": 0.8, "validation": 0.1, "test": 0.1}.items():
        assert abs(found[part] - 4000 * share) < 5 * sqrt(4000 * share * (1 - share))
    assert not made.equals(out(SplitParts(), rows, seed=1))


def test_a_part_without_a_share_has_no_rows() -> None:
    rows = problems(*(f"p{i}" for i in range(200)))
    assert set(out(SplitParts({"a": 0, "b": 1, "c": 0}), rows)["part"]) == {"b"}


def test_rows_chosen_at_random_before_are_in_every_part() -> None:
    # Both go by a hash of the same ids; were it the same hash, those chosen would all be of the first part.
    rows = problems(*(f"p{i}" for i in range(2000)))
    chosen = out(Take(200, random=True), rows)
    assert set(out(SplitParts(), chosen.lazy())["part"]) == {"train", "validation", "test"}


def test_any_key_with_ids_where_it_is_null() -> None:
    rows = counted(*[(7, None, None)] * 5, *[(None, None, None)] * 60)
    made = out(SplitParts({"a": 1, "b": 1}, by="count", column="side"), rows)
    assert made["side"][:5].n_unique() == 1
    assert made["side"][5:].n_unique() == 2
    assert SplitParts().rows_max([9]) == 9


def test_near_duplicates_are_in_one_part_in_whatever_order_they_come() -> None:
    words = ["river", "stone", "candle", "window", "garden", "copper", "violin", "harbour"]
    asked = [
        f"Who found the {a} {b} in the {c} of {i}?" for i, (a, b, c) in enumerate(permutations(words, 3))
    ]
    again = [question.replace("Who found", "Tell me who found") for question in asked]
    rows = to_frame(
        [
            Problem(f"{kind}{i}", text)
            for kind, texts in (("a", asked[:60]), ("z", again[:60]))
            for i, text in enumerate(texts)
        ],
        Problem,
    ).lazy()
    split = SplitParts({"train": 1, "test": 1}, near_duplicates=0.75)
    parts = dict(out(split, rows).select("id", "part").rows())
    assert all(parts[f"a{i}"] == parts[f"z{i}"] for i in range(60))
    assert set(parts.values()) == {"train", "test"}
    assert dict(out(split, rows.reverse()).select("id", "part").rows()) == parts
    apart = dict(out(SplitParts({"train": 1, "test": 1}), rows).select("id", "part").rows())
    assert any(apart[f"a{i}"] != apart[f"z{i}"] for i in range(60))


def test_near_duplicates_need_texts_to_compare() -> None:
    with pytest.raises(
        RecipeError, match=r"split: text: 'problem' is not a column\. The columns are: id, count"
    ):
        SplitParts(near_duplicates=0.8)([counted()], 0)
    rows = counted((1, None, None), (2, None, "one two"), (3, None, "one two"))
    made = out(SplitParts({"a": 1, "b": 1}, by="count", near_duplicates=1, text="word"), rows)
    assert made["part"][1] == made["part"][2]


def test_a_part_can_be_kept() -> None:
    made = out(SplitParts(), problems(*(f"p{i}" for i in range(100))))
    test = out(Keep("part == 'test'"), made.lazy())
    assert 0 < len(test) == made["part"].to_list().count("test")


def test_options_that_make_no_parts() -> None:
    with pytest.raises(RecipeError, match="leave no part"):
        SplitParts({"train": 0})
    with pytest.raises(RecipeError, match="'id' cannot be the name"):
        SplitParts(column="id")
    with pytest.raises(RecipeError, match="split: 'problems' is not a column"):
        SplitParts(by="problems")([problems()], 0)
