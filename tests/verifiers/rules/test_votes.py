"""Votes over answers: classes, majorities, ties, shares and entropy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.verifiers.math import group
from gristmill.verifiers.rules.votes import group_texts, group_values, majority, vote

ANSWERS = ["1/2", None, "0.5", "2", ")(", r"\frac12", "two", "", "7"]


def test_equal_answers_are_one_class_and_what_is_no_answer_is_none() -> None:
    votes = vote(ANSWERS)
    assert votes.classes == ((0, 2, 5), (3, 6), (8,))
    assert votes.totals == (3.0, 2.0, 1.0)
    assert votes.undecided == (1, 4, 7)
    assert votes.shares == pytest.approx((1 / 2, 1 / 3, 1 / 6))
    assert votes.entropy == pytest.approx(math.log(2) / 2 + math.log(3) / 3 + math.log(6) / 6)
    assert (votes.winner, votes.index, votes.tied) == (0, 0, ())


def test_majority_is_the_first_answer_of_the_largest_class() -> None:
    assert majority(["3", "2", r"\frac42"]) == 1
    assert majority(["3", "2", "2", "3"]) == 0
    assert majority([None, "", ")("]) is None
    assert majority([]) is None


def test_a_tie_is_declared() -> None:
    votes = vote(["1", "3", "2", "2", "3"])
    assert (votes.tied, votes.winner, votes.index) == ((1, 2), 1, 1)
    assert vote(["3", "3"]).tied == ()
    assert vote([]).tied == ()


def test_weights_decide_and_may_be_negative() -> None:
    answers = ["1", "2", "1.0", None]
    assert vote(answers, [0.4, 0.9, 0.4, 9.0]).index == 1
    assert vote(answers, [0.5, 0.9, 0.5, 9.0]).index == 0
    assert vote(answers, [-1.0, -1.5, -1.0, 0.0]).index == 1
    assert vote(answers, [0.25, 0.75, 0.5, 0.0]).tied == (0, 1)
    assert vote(answers, [1.0, 5.0, 1.0, 0.0]).shares == pytest.approx((2 / 3, 1 / 3))


@pytest.mark.parametrize("weights", [[1.0], [1.0, math.nan], [math.inf, 1.0]])
def test_weights_that_are_none(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"give one for each|is not finite"):
        vote(["1", "2"], weights)


def test_other_answers_are_grouped_as_texts() -> None:
    answers = ["The Seine", "seine.", "Rhine", "-5", "5", "3.5", "three point five"]
    assert group_texts(answers) == [[0, 1], [2], [3], [4], [5, 6]]
    assert vote(answers, group=group_texts).winner == 0


def test_what_is_written_alike_is_grouped_once() -> None:
    asked: list[Sequence[str]] = []

    def group(answers: Sequence[str]) -> list[list[int]]:
        asked.append(answers)
        return [[i] for i in range(len(answers))]

    assert vote(["a", "b", "a", "a"], group=group).classes == ((0, 2, 3), (1,))
    assert vote(["a", "a"], group=group).classes == ((0, 1),)  # nobody to be compared with
    assert asked == [["a", "b"]]


def test_entropy_is_nothing_where_all_agree_and_most_where_none_do() -> None:
    assert vote(["1", "1", "2/2"]).entropy == 0.0
    assert vote([]).entropy == 0.0
    assert vote(["1", "2", "3", "4"]).entropy == pytest.approx(math.log(4))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.none(), st.sampled_from(["1", "2/2", "x", "3", "", "blue"])), max_size=12))
def test_every_answer_has_one_place(answers: list[str | None]) -> None:
    votes = vote(answers)
    placed = [i for one in votes.classes for i in one]
    assert sorted([*placed, *votes.undecided]) == list(range(len(answers)))
    assert [one[0] for one in votes.classes] == sorted(one[0] for one in votes.classes)
    assert sum(votes.totals) == len(placed)
    assert 0 <= votes.entropy <= math.log(max(len(placed), 1)) + 1e-12


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(["0", "-0", "7", "07", "-7", "7.0", "12", "1e1", "10"]), max_size=5, unique=True)
)
def test_plain_integers_are_grouped_as_the_math_verifier_would(answers: list[str]) -> None:
    assert group_values(answers) == group(answers)
