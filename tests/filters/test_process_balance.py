from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.schema import to_frame
from gristmill.core.stages import REJECTED_REASON
from gristmill.core.steps import ProcessRow
from gristmill.filters.process_balance import ProcessBalance

BAD = "process balance: bad at {}, without a good row"
GOOD = "process balance: good, above its share"


def row(
    name: int, values: tuple[float, ...], solved: bool | None = True, kind: str = "hard", problem: int = -1
) -> ProcessRow:
    n = len(values)
    return ProcessRow(
        f"r{name}",
        f"p{name if problem < 0 else problem}",
        "q",
        (),
        ("s",) * n,
        values,
        (0,) * n,
        (0,) * n,
        (0.0,) * n,
        (1.0,) * n,
        kind,
        solved,
    )


def good(length: int) -> tuple[float, ...]:
    return (1.0,) * length


def bad(at: int, after: int = 0) -> tuple[float, ...]:
    return (1.0,) * at + (0.0,) * (1 + after)


def balance(rows: list[ProcessRow], seed: int = 3, **options: Any) -> pl.DataFrame:
    frame = to_frame(rows, ProcessRow).lazy()
    out = ProcessBalance(**options)(frame, seed)
    assert out.drop(REJECTED_REASON).collect().equals(frame.collect())  # nothing lost, nothing moved
    return out.collect()


def kept(out: pl.DataFrame) -> list[str]:
    return out.filter(pl.col(REJECTED_REASON).is_null())["id"].to_list()


def reasons(out: pl.DataFrame) -> dict[str, int]:
    return dict(Counter(out[REJECTED_REASON].drop_nulls()))


def test_each_bad_row_has_a_good_one_that_reaches_its_position() -> None:
    values = [bad(0), bad(0), bad(2, after=3), bad(5), good(3), good(1), good(1), good(1)]
    out = balance([row(i, v) for i, v in enumerate(values)])
    # The good row of three steps goes to the error at step 2, two of the others to those at step 0.
    assert kept(out)[:3] == ["r0", "r1", "r2"] and "r4" in kept(out) and len(kept(out)) == 6
    assert reasons(out) == {BAD.format("step 5"): 1, GOOD: 1}


def test_buckets_join_positions() -> None:
    values = [bad(3), good(3)]
    rows = [row(i, v) for i, v in enumerate(values)]
    assert reasons(balance(rows)) == {BAD.format("step 3"): 1, GOOD: 1}
    assert kept(balance(rows, width=2)) == ["r0", "r1"]
    assert reasons(balance(rows, width=3)) == {BAD.format("steps 3 to 5"): 1, GOOD: 1}


def test_the_threshold_says_what_is_good() -> None:
    rows = [row(0, (0.9, 0.4)), row(1, (0.9, 0.6))]
    assert kept(balance(rows)) == []
    assert kept(balance(rows, threshold=0.5)) == ["r0", "r1"]


def test_kinds_are_balanced_apart_and_a_row_without_steps_goes() -> None:
    rows = [row(0, bad(0)), row(1, good(2), kind="soft"), row(2, ())]
    assert reasons(balance(rows)) == {
        BAD.format("step 0"): 1,
        GOOD: 1,
        "process balance: no steps": 1,
    }


def test_by_outcome() -> None:
    solved = [True, True, True, False, None]
    out = balance([row(i, good(2), s) for i, s in enumerate(solved)], by="outcome")
    assert reasons(out) == {
        "process balance: right, above its share": 2,
        "process balance: outcome not known": 1,
    }
    assert "r3" in kept(out) and len(kept(out)) == 2
    out = balance([row(0, good(1), False)], by="outcome")
    assert reasons(out) == {"process balance: wrong, above its share": 1}


def test_the_cap_comes_first() -> None:
    rows = [row(i, bad(0), problem=0) for i in range(3)] + [row(i, good(1)) for i in range(3, 6)]
    out = balance(rows, cap_per_problem=1)
    assert reasons(out) == {"process balance: above 1 per problem": 2, GOOD: 2}


def choice(rows: list[ProcessRow], seed: int) -> set[str]:
    return set(kept(balance(rows, seed)))


def test_the_choice_follows_the_seed_and_the_ids_alone() -> None:
    rows = [row(i, bad(i % 4)) for i in range(40)] + [row(i, good(1 + i % 6)) for i in range(40, 160)]
    first = choice(rows, 1)
    assert len(first) == 80
    assert choice(rows, 1) == choice(rows[::-1], 1) == first
    assert choice(rows, 2) != first


def test_an_empty_table_stays_empty() -> None:
    assert kept(balance([])) == kept(balance([], by="outcome")) == []


def most_pairs(bads: list[int], lengths: list[int]) -> int:
    """The most pairs of an error and a longer good row, by augmenting paths."""
    partner: dict[int, int] = {}

    def place(error: int, tried: set[int]) -> bool:
        for g, length in enumerate(lengths):
            if length > bads[error] and g not in tried:
                tried.add(g)
                if g not in partner or place(partner[g], tried):
                    partner[g] = error
                    return True
        return False

    return sum(place(e, set()) for e in range(len(bads)))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=12), st.lists(st.integers(1, 6), max_size=12))
def test_as_many_pairs_are_kept_as_there_can_be(bads: list[int], lengths: list[int]) -> None:
    rows = [row(i, bad(at)) for i, at in enumerate(bads)]
    rows += [row(len(rows) + i, good(n)) for i, n in enumerate(lengths)]
    stay = kept(balance(rows))
    wrong = [name for name in stay if int(name[1:]) < len(bads)]
    assert len(stay) == 2 * len(wrong) == 2 * most_pairs(bads, lengths)


@pytest.mark.parametrize("options", [{"by": "size"}, {"width": 0}, {"cap_per_problem": 0}, {"cap": 1}])
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, ProcessBalance)
