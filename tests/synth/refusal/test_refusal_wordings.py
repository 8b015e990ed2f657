"""One thing in several wordings: classes of answers, and questions that stay on one side of a split."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.synth.refusal.partition import Partition
from gristmill.synth.refusal.wordings import slips, wordings, written_out


@pytest.mark.parametrize(
    ("answers", "classes"),
    [
        (["Milky Way", "the Milky Way Galaxy", "milky way."], [[0, 1, 2]]),
        (["Obama", "Barack Obama", "President Barack Obama", "Biden"], [[0, 1, 2], [3]]),
        (["Korea", "North Korea", "South Korea", "Korea"], [[0, 3], [1], [2]]),
        (["Congo River", "Congo", "Congo Basin"], [[0], [1], [2]]),
        (["Zealand", "New Zealand"], [[0], [1]]),
        (["guilty", "not guilty"], [[0], [1]]),
        (["10", "10 million", "ten"], [[0, 2], [1]]),
        (["May 1912", "May", "May 1913"], [[0], [1], [2]]),
        (["Henry", "Henry VIII"], [[0], [1]]),
        ([], []),
    ],
)
def test_answers_of_one_meaning_are_one_class(answers: list[str], classes: list[list[int]]) -> None:
    assert wordings(answers) == classes


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("ab 1", max_size=6), max_size=8))
def test_every_answer_is_in_one_class_and_equal_ones_in_the_same(answers: list[str]) -> None:
    found = wordings(answers)
    assert sorted(place for members in found for place in members) == list(range(len(answers)))
    home = {place: number for number, members in enumerate(found) for place in members}
    assert all(home[a] == home[b] for a in home for b in home if answers[a] == answers[b])


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("What's the capital of Peru?", "What is the capital of Peru?"),
        ("Who’s he?", "Who is he?"),
        ("Why doesn't it rain?", "Why does not it rain?"),
        ("Whats the time?", "What is the time?"),
    ],
)
def test_contractions_are_written_out(short: str, long: str) -> None:
    assert written_out(short) == written_out(long) == long


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("Who wrote Frankenstein?", "Who wrote Frankenstien?", True),  # two letters exchanged
        ("Who wrote Frankenstein?", "Who wrote Frankenstain?", True),
        ("Who wrote Frankenstein?", "Who wrote Frankensteinn?", True),
        ("Who wrote Frankenstein?", "Who wrote Frankensten?", True),
        ("Who wrote Frankenstein?", "Who wrote Dracula?", False),
        ("Capital of Iran?", "Capital of Iraq?", False),
        ("Who wrote Frankenstein?", "Who filmed Frankenstien?", False),
    ],
)
def test_a_slip_in_a_long_word_pairs_two_questions(a: str, b: str, same: bool) -> None:
    assert bool(list(slips([a, b]))) is same


def test_questions_that_differ_by_a_slip_or_a_contraction_stay_on_one_side() -> None:
    names = [chr(97 + i) * 3 + chr(98 + j) * 4 for i in range(12) for j in range(12)]
    plain = [f"What is the birthplace of {name}?" for name in names]
    other = [
        q.replace("What is", "What's") if i % 2 else q.replace("birthplace", "birthpalce")
        for i, q in enumerate(plain)
    ]
    questions = plain + other
    ids = [str(i) for i in range(len(questions))]
    nothing = [None] * len(questions)
    parts = Partition(test=0.5, stratify=False)(ids, questions, nothing, nothing, 3)
    assert {"train", "test"} == set(parts)
    assert parts[: len(plain)] == parts[len(plain) :]
