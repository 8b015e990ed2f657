"""The stages ``quality`` and ``redact``: what holds for all rows, on all kinds of rows."""

from __future__ import annotations

import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_rows import called, out, rejected, sample, samples

from gristmill.core.errors import RecipeError
from gristmill.core.records import Conversation, Message, Passage, Turn
from gristmill.core.schema import to_frame
from gristmill.core.stages import REJECTED_DETAIL
from gristmill.filters import Keep, Quality, Redact
from gristmill.filters.quality import (
    Boilerplate,
    LeakedAnswer,
    LengthLimits,
    Listed,
    PersonalData,
    RefusalCheck,
    Repetition,
    Truncation,
    Unbalanced,
)

EVERY = Quality(
    text="text",
    length=LengthLimits(min_chars=2),
    repetition=Repetition(),
    truncation=Truncation(),
    unbalanced=Unbalanced(),
    refusal=RefusalCheck(),
    boilerplate=Boilerplate(),
    personal=PersonalData(),
    listed=Listed(),
)
PIECES = ["and so on ", "it ends with the", "$", r"\frac{1}{2}", "I can't help with that.", "\n", "é", "."]
PIECES += ["all rights reserved ", "you idiot ", " a@b.de ", "```\n"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12)


def passages(*texts: str) -> pl.LazyFrame:
    return to_frame([Passage(f"p{i}", text) for i, text in enumerate(texts)], Passage).lazy()


@settings(max_examples=25, deadline=None)
@given(st.lists(TEXTS.map("".join), max_size=8), st.randoms(use_true_random=False))
def test_each_row_is_judged_by_itself_once_and_none_is_lost(texts: list[str], draw: random.Random) -> None:
    rows = passages(*texts)
    gone, kept = rejected(EVERY, rows), out(EVERY, rows)
    assert {*gone, *kept["id"]} == {f"p{i}" for i in range(len(texts))}
    assert len(gone) + kept.height == len(texts)
    assert rejected(EVERY, kept.lazy()) == {}
    order = list(range(len(texts)))
    draw.shuffle(order)
    assert rejected(EVERY, rows.collect()[order].lazy() if order else rows) == gone


@settings(max_examples=25, deadline=None)
@given(st.lists(TEXTS.map("".join), min_size=1, max_size=4))
def test_redacted_texts_hold_nothing_personal_and_the_rest_is_as_it_was(texts: list[str]) -> None:
    made = called(Redact(columns=["text"]), passages(*texts))
    assert called(Redact(columns=["text"]), made.lazy()).equals(made)
    assert rejected(Quality(text="text", personal=PersonalData()), made.lazy()) == {}
    assert [text.replace("[EMAIL]", "a@b.de") for text in made["text"]] == texts


def test_the_first_check_is_the_reason_and_the_detail_names_the_others() -> None:
    rows = passages("Fine.", "You idiot, write to a@b.de and the")
    assert rejected(EVERY, rows) == {"p1": "quality: truncation"}
    assert called(EVERY, rows)[REJECTED_DETAIL][1].endswith("(also: personal, listed)")


def test_rows_without_text_are_kept_except_by_length() -> None:
    rows = passages("x", "y").with_columns(text=pl.lit(None, pl.String))
    assert rejected(Quality(text="text", truncation=Truncation()), rows) == {}
    assert set(rejected(Quality(text="text", length=LengthLimits(min_chars=1)), rows)) == {"p0", "p1"}


def test_samples_are_checked_by_their_conversation_completion_or_prompt() -> None:
    row = sample("a", completion="Ask a@b.de.")
    assert rejected(Quality(personal=PersonalData()), samples(row)) == {"a/0": "quality: personal"}
    assert rejected(Quality(text="problem", personal=PersonalData()), samples(row)) == {}
    assert rejected(Quality(leaked=LeakedAnswer()), samples(row)) == {}
    leaky = samples(row).with_columns(problem=pl.lit("What is it? The answer is 3."))
    assert rejected(Quality(leaked=LeakedAnswer()), leaky) == {"a/0": "quality: leaked"}


def test_the_finish_reason_of_samples_counts() -> None:
    rows = samples(sample("a"), sample("b")).with_columns(
        finish_reason=pl.when(pl.col("id") == "a/0").then(pl.lit("length")).otherwise(pl.lit("stop"))
    )
    assert rejected(Quality(text="completion", truncation=Truncation()), rows) == {
        "a/0": "quality: truncation"
    }


def test_conversations_are_redacted_in_their_turns_and_nowhere_else() -> None:
    turns = (Turn("user", "I am a@b.de", False), Turn("assistant", "Hi a@b.de!", True))
    made = called(Redact(), to_frame([Conversation("a@b.de", turns)], Conversation).lazy())
    assert [turn["content"] for turn in made["turns"][0]] == ["I am [EMAIL]", "Hi [EMAIL]!"]
    assert [turn["role"] for turn in made["turns"][0]] == ["user", "assistant"]
    assert made["id"].to_list() == ["a@b.de"]


def test_messages_of_samples_are_redacted() -> None:
    import msgspec

    row = msgspec.structs.replace(sample("a"), messages=(Message("user", "from 93.184.216.34"),))
    made = called(Redact(kinds=["ip"]), samples(row))
    assert made["messages"][0][0]["content"] == "from [IP]"


def test_a_stage_without_checks_and_columns_that_are_missing_are_refused() -> None:
    with pytest.raises(RecipeError, match="no check is named"):
        Quality()
    with pytest.raises(RecipeError, match="'problem' is not a column"):
        Quality(text="text", leaked=LeakedAnswer())(passages("x"), 0)
    with pytest.raises(RecipeError, match="'txt' is not a column"):
        Redact(columns=["txt"])([passages("x")], 0)


def test_filters_that_only_mark_rows_say_so() -> None:
    assert Quality.marks_only
    assert Keep.marks_only
