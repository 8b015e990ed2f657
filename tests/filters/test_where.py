"""``where`` keeps what plain Python would, and says of the rest why."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_rows import RIGHT, WRONG, Counted, called, counted, out, rejected, sample, samples

from gristmill.core.contracts.tables import dry_run
from gristmill.core.errors import RecipeError
from gristmill.core.records import Sampled
from gristmill.core.schema import from_frame
from gristmill.core.stages import REJECTED_REASON
from gristmill.filters import Keep

ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-3, 3),
        st.none() | st.sampled_from([-1.5, 0.0, 0.25, 2.0]),
        st.none() | st.sampled_from(["", "a", "ab", "it's", "ü"]),
    ),
    max_size=30,
)


def absent(*values: object) -> bool:
    return any(value is None for value in values)


CONDITIONS: dict[str, Callable[[Counted], bool | None]] = {
    "count > 1": lambda r: None if r.count is None else r.count > 1,
    "count IS NULL": lambda r: r.count is None,
    "count == size": lambda r: None if absent(r.count, r.size) else r.count == r.size,
    "word LIKE 'a%'": lambda r: None if r.word is None else r.word.startswith("a"),
    "LENGTH(word) == 1": lambda r: None if r.word is None else len(r.word) == 1,
    "word IN ('a', 'it''s')": lambda r: None if r.word is None else r.word in ("a", "it's"),
    "NOT count > 1": lambda r: None if r.count is None else not r.count > 1,
    "count > 0 AND size > 0": lambda r: (
        False
        if (r.count is not None and r.count <= 0) or (r.size is not None and r.size <= 0)
        else (None if absent(r.count, r.size) else True)
    ),
    "count > 0 OR size > 0": lambda r: (
        True
        if (r.count is not None and r.count > 0) or (r.size is not None and r.size > 0)
        else (None if absent(r.count, r.size) else False)
    ),
}


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, text=st.sampled_from(sorted(CONDITIONS)))
def test_rows_part_as_in_plain_python(
    rows: list[tuple[int | None, float | None, str | None]], text: str
) -> None:
    frame = counted(*rows)
    truth = [CONDITIONS[text](row) for row in from_frame(frame.collect(), Counted)]
    made = called(Keep(text), frame)
    reasons = {True: None, False: f"where: {text}", None: f"where: {text} is null"}
    assert made[REJECTED_REASON].to_list() == [reasons[value] for value in truth]
    assert made.drop(REJECTED_REASON).equals(frame.collect())  # every row is there, in order


def test_the_verdict_decides() -> None:
    rows = samples(sample("a"), sample("b", verdict=WRONG), sample("c", verdict=None))
    assert out(Keep("verdict == 'correct'"), rows)["id"].to_list() == ["a/0"]
    assert rejected(Keep("verdict == 'correct'"), rows) == {
        "b/0": "where: verdict == 'correct'",
        "c/0": "where: verdict == 'correct' is null",
    }


def test_a_wrong_condition_is_the_fault_of_the_recipe_and_keeps_its_remedy() -> None:
    with pytest.raises(RecipeError) as caught:
        dry_run("right", Keep("verdct == 'correct'"), Sampled)
    assert caught.value.message.startswith("stage 'right': where: \"verdct == 'correct'\" names 'verdct'")
    assert caught.value.remedy.startswith("Did you mean 'verdict'?")


def test_a_wrong_condition_is_said_to_be_of_where() -> None:
    with pytest.raises(RecipeError, match="where: 'indx > 1' names 'indx'"):
        Keep("indx > 1")(samples(sample("a", verdict=RIGHT)), 0)
