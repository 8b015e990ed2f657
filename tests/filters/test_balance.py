from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.records import Subset, Trajectory, Turn
from gristmill.core.schema import to_frame
from gristmill.core.stages import REJECTED_REASON
from gristmill.filters.balance import Balance


def table(*, problems: int = 10**9, **counts: int) -> pl.LazyFrame:
    """So many trajectories of each subset, interleaved, on ``problems`` problems."""
    subsets: list[Subset] = []
    for i in range(max(counts.values(), default=0)):
        subsets += [s for s in ("D1", "D2", "D3") if i < counts.get(s, 0)]
    rows = [
        Trajectory(
            f"p{i % problems}#{i}", f"p{i % problems}", "q", "1", s, "verify", (Turn("user", "q", False),)
        )
        for i, s in enumerate(subsets)
    ]
    return to_frame(rows, Trajectory).lazy()


def kept(frame: pl.LazyFrame) -> dict[str, int]:
    subsets = frame.filter(pl.col(REJECTED_REASON).is_null()).collect()["subset"]
    return dict(sorted(Counter(subsets).items()))


def reasons(frame: pl.LazyFrame) -> dict[str, int]:
    return dict(Counter(frame.collect()[REJECTED_REASON].drop_nulls()))


@pytest.mark.parametrize(
    ("options", "given", "wanted"),
    [
        ({}, {"D1": 30, "D2": 5, "D3": 50}, {"D1": 30, "right": 30}),
        ({}, {"D1": 30, "D2": 5, "D3": 10}, {"D1": 15, "right": 15}),
        ({"first_attempt": "equal"}, {"D1": 7, "D2": 9}, {"D1": 7, "right": 7}),
        ({"mix": "balanced"}, {"D1": 30, "D2": 5, "D3": 50}, {"D1": 30, "D3": 30}),
        ({"mix": "more_incorrect"}, {"D1": 250, "D3": 200}, {"D1": 250, "D3": 120}),
        ({"mix": "more_incorrect"}, {"D1": 250, "D3": 30}, {"D1": 63, "D3": 30}),  # 62.5, rounded up
        ({"mix": "more_correct"}, {"D1": 125, "D3": 179}, {"D1": 124, "D3": 179}),  # 124.3
        ({"mix": "more_correct"}, {"D1": 25, "D3": 100}, {"D1": 25, "D3": 36}),
        (
            {"mix": "balanced", "correct_to_correct": True},
            {"D1": 300, "D2": 60, "D3": 300},
            {"D1": 125, "D2": 60, "D3": 125},
        ),
        ({"ratios": {"D1": 0.1, "D2": 0.3}}, {"D1": 10, "D2": 30, "D3": 5}, {"D1": 10, "D2": 30}),
        ({"ratios": {"D3": 2, "D1": 0}}, {"D1": 10, "D3": 5}, {"D3": 5}),
        ({"mix": "balanced", "missing": "ignore"}, {"D3": 5}, {"D3": 5}),
        ({"missing": "ignore"}, {"D1": 4}, {"D1": 4}),
        (
            {"ratios": {"D1": 1, "D2": 1, "D3": 2}, "missing": "ignore"},
            {"D1": 9, "D3": 10},
            {"D1": 5, "D3": 10},
        ),
        ({}, {}, {}),
        ({"mix": "balanced"}, {}, {}),
    ],
)
def test_exact_counts(options: dict[str, Any], given: dict[str, int], wanted: dict[str, int]) -> None:
    frame = table(**given)
    out = Balance(**options)(frame, 7)
    found = kept(out)
    if "right" in wanted:
        found["right"] = found.pop("D2", 0) + found.pop("D3", 0)
    assert found == wanted
    assert out.drop(REJECTED_REASON).collect().equals(frame.collect())  # nothing lost, nothing moved
    assert sum(reasons(out).values()) == sum(given.values()) - sum(wanted.values())


def test_every_dropped_row_says_why() -> None:
    frame = table(D1=4, D2=3, D3=9, problems=8)
    assert reasons(Balance(mix="balanced")(frame, 0)) == {
        "balance: D2 has no share": 3,
        "balance: D3 above its share": 5,
    }
    assert reasons(Balance()(frame, 0)) == {"balance: first attempt right above its share": 8}
    capped = Balance(ratios={"D1": 1, "D2": 1, "D3": 1}, cap_per_problem=1)(frame, 0)
    assert reasons(capped)["balance: above 1 per problem"] == 8
    stay = capped.filter(pl.col(REJECTED_REASON).is_null()).collect()
    assert stay["problem_id"].is_unique().all()


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({"mix": "balanced"}, {"D2": 3, "D3": 9}, r"no trajectory of D1 \(D1: 0, D3: 9\).*missing: ignore"),
        ({}, {"D2": 3, "D3": 9}, "no trajectory of first attempt wrong"),
        ({"ratios": {"D1": 1, "D2": 1}}, {"D3": 9}, "no trajectory of D1 or D2"),
    ],
)
def test_a_missing_part_is_an_error(options: dict[str, Any], given: dict[str, int], message: str) -> None:
    with pytest.raises(GristmillError, match=message):
        Balance(**options)(table(**given), 0)


def choice(frame: pl.LazyFrame, seed: int) -> set[str]:
    out = Balance(mix="balanced")(frame, seed)
    return set(out.filter(pl.col(REJECTED_REASON).is_null()).collect()["id"])


def test_the_choice_follows_the_seed_and_the_id_alone() -> None:
    frame = table(D1=100, D3=1000)
    first = choice(frame, 1)
    assert choice(frame, 1) == first
    assert choice(frame.reverse(), 1) == first
    assert choice(frame, 2) != first


def test_more_rows_do_not_reshuffle_the_choice() -> None:
    frame = table(D1=100, D3=1000).collect()
    fewer = frame.filter((pl.col("subset") == "D1") | (pl.int_range(pl.len()) % 10 != 0)).lazy()
    stayed = choice(fewer, 1) & choice(frame.lazy(), 1)
    assert len(stayed) >= 180  # of 200: a tenth of the other subset is new


def test_over_parquet(tmp_path: Path) -> None:
    frame = table(D1=10, D3=90)
    frame.collect().write_parquet(tmp_path / "in.parquet", row_group_size=16)
    out = Balance(mix="balanced")(pl.scan_parquet(tmp_path / "in.parquet"), 3)
    out.sink_parquet(tmp_path / "out.parquet")
    written = pl.read_parquet(tmp_path / "out.parquet")
    assert written.equals(Balance(mix="balanced")(frame, 3).collect())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mix": "balanced", "first_attempt": "equal"}, "mix and first_attempt are both given"),
        ({"mix": "balanced", "ratios": {"D1": 1}}, "mix and ratios are both given"),
        ({"ratios": {"D1": 0}}, "keep nothing"),
        ({"ratios": {}}, "keep nothing"),
        ({"correct_to_correct": True}, "goes with mix only"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        msgspec.convert(options, Balance)


@pytest.mark.parametrize(
    "options",
    [
        {"mix": "best"},
        {"ratios": {"D4": 1}},
        {"ratios": {"D1": -1}},
        {"ratios": {"D1": float("inf")}},
        {"ratios": {"D1": float("nan")}},
        {"cap_per_problem": 0},
        {"cap": 1},
    ],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, Balance)
