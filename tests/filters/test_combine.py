"""``union``, ``mix`` and ``same_prompts``: whose rows, how many, and in which order."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_rows import out, problems, rejected, sample, samples

from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.records import Pair, Score
from gristmill.core.schema import from_frame, to_frame
from gristmill.filters import Arm, CompareArms, Concat, Mix, SamePrompts
from gristmill.filters.difficulty import ExcessWeights, ReplayWeights
from gristmill.testing import pair


def table(name: str, rows: int) -> pl.LazyFrame:
    return problems(*(f"{name}{i}" for i in range(rows)))


def of(frame: pl.DataFrame) -> list[str]:
    """The table that each row is from."""
    return [row[0] for row in frame["id"]]


def test_union_has_all_rows_one_table_after_another() -> None:
    made = out(Concat(), table("a", 2), table("b", 1), table("a", 3))
    assert made["id"].to_list() == ["a0", "a1", "b0", "a0#2", "a1#2", "a2"]
    assert Concat().rows_max([2, 1, 3]) == 6


def test_union_takes_the_columns_of_the_first() -> None:
    rows = samples(sample("a")).rename({"id": "old"}).rename({"problem_id": "id"})
    more = rows.with_columns(level=pl.lit(3, pl.Int64))
    assert out(Concat(), problems("z"), more).rows() == [
        ("z", "What is z?", "3", None, "{}"),
        ("a", "What is a?", "3", 3, "{}"),
    ]
    with pytest.raises(RecipeError, match=r"table 1 has the column 'level' \(Int64\); table 2 has none"):
        Concat()([problems(), rows.head(0)], 0)
    with pytest.raises(RecipeError, match="table 2 has it as String"):
        Concat()([problems(), more.with_columns(level=pl.lit("3"))], 0)


LENGTHS = st.lists(st.integers(1, 40), min_size=2, max_size=4)


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, data=st.data(), until=st.sampled_from(["shortest", "upsample"]))
def test_shares_are_within_one_row_of_the_weights(lengths: list[int], data: Any, until: Any) -> None:
    weights = data.draw(
        st.lists(st.sampled_from([0.1, 0.5, 1.0, 2.0, 3.0]), min_size=len(lengths), max_size=len(lengths))
    )
    names = "abcd"[: len(lengths)]
    frames = [table(name, n) for name, n in zip(names, lengths, strict=True)]
    mixed = of(out(Mix(weights, until), *frames))
    found = Counter(mixed)
    ends = [n / w for n, w in zip(lengths, weights, strict=True)]
    scale = min(ends) if until == "shortest" else max(ends)
    for name, length, weight in zip(names, lengths, weights, strict=True):
        assert abs(found[name] - scale * weight) <= 0.5 + 1e-9
        assert found[name] <= length if until == "shortest" else found[name] >= length
    # Every stretch from the start has the proportions, not only the whole.
    for name, weight in zip(names, weights, strict=True):
        for rows, have in enumerate(accumulate(row == name for row in mixed), 1):
            assert abs(have - rows * weight / sum(weights)) <= len(lengths)


def test_the_rest_is_rejected_and_repeats_have_ids_of_their_own() -> None:
    frames = table("a", 4), table("b", 10)
    told = rejected(Mix([2, 1]), *frames)
    assert set(told.values()) == {"mix: above its share"}
    assert Counter(name[0] for name in told) == {"b": 8}
    made = out(Mix([2, 1], until="upsample"), *frames)
    assert Counter(of(made)) == {"a": 20, "b": 10}
    assert {"a0", "a0#2", "a0#5"} <= set(made["id"])


def test_all_has_every_row_once_and_the_rest_at_the_end() -> None:
    mixed = out(Mix([2, 1], until="all"), table("a", 4), table("b", 10))
    assert Counter(of(mixed)) == {"a": 4, "b": 10}
    assert Counter(of(mixed)[:6]) == {"a": 4, "b": 2}


def test_the_order_follows_the_seed_and_not_that_of_the_rows() -> None:
    frames = table("a", 20), table("b", 20)
    first = out(Mix(), *frames, seed=1)
    assert out(Mix(), *(f.reverse() for f in frames), seed=1).equals(first)
    assert not out(Mix(), *frames, seed=2).equals(first)


def test_weights_by_name() -> None:
    mix = Mix({"easy": 1, "hard": 3})
    assert mix.for_inputs(["hard", "easy"]) == Mix([3, 1])
    assert Mix([1, 2]).for_inputs(["hard", "easy"]) == Mix([1, 2])
    with pytest.raises(RecipeError, match="weights are for easy, hard, and the tables are easy, web"):
        mix.for_inputs(["easy", "web"])
    with pytest.raises(RecipeError, match="by name"):
        mix([table("a", 1), table("b", 1)], 0)


def test_a_table_without_rows_is_said_to_be_empty() -> None:
    with pytest.raises(GristmillError, match=r"table 2 has no rows \(the tables have 3, 0\)"):
        Mix()([table("a", 3), table("b", 0)], 0)
    assert len(out(Mix(until="all"), table("a", 3), table("b", 0))) == 3


def test_bounds_and_weights_that_do_not_fit() -> None:
    assert Mix([1, 1]).rows_max([5, 9]) == 14
    assert Mix([2, 1], "upsample").rows_max([4, 10]) == 30
    with pytest.raises(RecipeError, match="3 weights for 2 tables"):
        Mix([1, 1, 1])([table("a", 1), table("b", 1)], 0)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"weights": [1, 0]}, Mix)


def test_losses_that_were_measured_give_the_weights() -> None:
    def scored(name: str, *losses: tuple[float, float]) -> pl.LazyFrame:
        rows = [(f"{name}{i}", *pair) for i, pair in enumerate(losses * 20)]
        return pl.LazyFrame(rows, schema=["id", "before", "now"], orient="row")

    steady, forgotten = scored("s", (1.0, 1.0)), scored("f", (1.0, 2.0), (1.0, 1.5))
    excess = ExcessWeights(loss="now", target="before", floor=0)
    made = of(out(Mix(by_losses=excess), steady, forgotten))
    # exp(.75) = 2.117 rows of what is being forgotten for one of the other
    assert (made.count("f"), made.count("s")) == (40, 19)
    replay = of(out(Mix(by_losses=ReplayWeights(losses=("before", "now"))), steady, forgotten))
    # exp((1.75 + .375 / 1.375) - 1) = 2.78
    assert (replay.count("f"), replay.count("s")) == (40, 14)


def test_losses_that_cannot_be_measured_are_errors() -> None:
    tables = [
        pl.LazyFrame({"id": ["a"], "loss": [None], "other": [1.0]}, schema_overrides={"loss": pl.Float64})
    ] * 2
    with pytest.raises(GristmillError, match="no row of table 1 has a number in 'loss'"):
        Mix(by_losses=ExcessWeights(loss="loss", target="other"))(tables, 0)
    with pytest.raises(GristmillError, match="losses of table 0"):
        Mix(by_losses=ReplayWeights(losses=("other", "0 - other")))(tables, 0)
    with pytest.raises(RecipeError, match="'los'"):
        Mix(by_losses=ExcessWeights(loss="los", target="other"))([t.head(0) for t in tables], 0)
    with pytest.raises(RecipeError, match="gives others"):
        Mix([1, 1], by_losses=ReplayWeights(losses=("loss", "other")))


def pairs(*problem_ids: str, **scores: float) -> pl.LazyFrame:
    held = tuple(Score(name, value) for name, value in scores.items())
    rows = [pair(f"{p}#{i}", problem_id=p, scores=held) for i, p in enumerate(problem_ids)]
    return to_frame(rows, Pair).lazy()


def test_arms_have_as_many_rows_of_every_problem_and_only_shared_ones() -> None:
    tables = pairs("a", "a", "b", "c"), pairs("b", "a", "b", "d")
    stage = SamePrompts().for_inputs(["old", "new"])
    made = out(stage, *tables)
    assert made.select("arm", "problem_id").rows() == [
        ("old", "a"), ("old", "b"), ("new", "b"), ("new", "a"),
    ]  # fmt: skip
    assert made["id"].to_list() == ["a#0", "b#2", "b#0", "a#1#2"]
    assert rejected(stage, *tables) == {
        "a#1": "same_prompts: another table has fewer rows of this problem",
        "c#3": "same_prompts: not every table has this problem",
        "b#2#2": "same_prompts: another table has fewer rows of this problem",
        "d#3": "same_prompts: not every table has this problem",
    }
    assert out(stage, pairs(), pairs()).height == 0 and stage.rows_max([4, 4]) == 8


def test_a_table_of_arms_has_means_of_the_scores_that_have_values() -> None:
    arms = [pairs("a", "a", length=2.0), pairs("a", "b", length=4.0, margin=1.0)]
    made = out(SamePrompts(names=("x", "y")), *arms)
    table = out(CompareArms(), made.lazy())
    assert from_frame(table, Arm) == [
        Arm("x", 1, 1, (Score("length", 2.0),)),
        Arm("y", 1, 1, (Score("length", 4.0), Score("margin", 1.0))),
    ]
    assert out(CompareArms(), out(SamePrompts(names=("x", "y")), pairs(), pairs()).lazy()).height == 0


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"1 names \(x\) for 2 tables"):
        SamePrompts(names=("x",))([pairs(), pairs()], 0)
    with pytest.raises(RecipeError, match="no column 'nowhere'"):
        SamePrompts(key="nowhere", names=("x", "y"))([pairs(), pairs()], 0)
    with pytest.raises(RecipeError, match="no column 'arm'"):
        CompareArms()([pairs()], 0)
