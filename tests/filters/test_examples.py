"""Prompts that lose their worked examples."""

from __future__ import annotations

import polars as pl
import pytest

from gristmill.core.engine import Message
from gristmill.core.errors import RecipeError
from gristmill.core.records import Pair, Problem
from gristmill.core.schema import from_frame, to_frame
from gristmill.filters.derive import WithoutExamples

SYSTEM = Message("system", "You add.")
EXAMPLE = (Message("user", "1 + 1?"), Message("assistant", "2"))
LAST = Message("user", "2 + 2?")
SIDE = (Message("assistant", "4"),)


def left(*prompts: tuple[Message, ...]) -> list[tuple[Message, ...]]:
    pairs = [Pair(f"p{i}", f"p{i}", "k", prompt, SIDE, SIDE) for i, prompt in enumerate(prompts)]
    frame = WithoutExamples()([to_frame(pairs, Pair).lazy()], 0).collect()
    found = from_frame(frame, Pair)
    assert [p.chosen for p in found] == [p.chosen for p in pairs]
    return [p.prompt for p in found]


def test_the_system_message_and_the_last_turn_stay() -> None:
    assert left((SYSTEM, *EXAMPLE, LAST), (*EXAMPLE, *EXAMPLE, LAST), (SYSTEM, LAST), (LAST,)) == [
        (SYSTEM, LAST),
        (LAST,),
        (SYSTEM, LAST),
        (LAST,),
    ]


def test_a_system_message_alone_stays_once_and_no_turn_stays_none() -> None:
    assert left((SYSTEM,), ()) == [(SYSTEM,), ()]


def test_rows_without_a_prompt_are_refused() -> None:
    rows = to_frame([Problem("a", "1 + 1?", "2")], Problem).lazy()
    assert "messages" not in rows.collect_schema()
    with pytest.raises(RecipeError, match="its rows have no prompt"):
        WithoutExamples()([rows.select(pl.all())], 0)
