"""Short answers: what is the same, what is not, and what cannot be told."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.errors import RecipeError
from gristmill.core.verdicts import Outcome
from gristmill.verifiers.rules.short_answer import (
    LIMIT,
    LabelPlace,
    ShortAnswer,
    extract,
    f1,
    find_whole,
    tokens,
    whole_labels,
)

SAME = [
    ("Paris", "paris"),
    ("The Eiffel Tower.", "eiffel tower"),
    ("“Don't Stop”", "dont stop"),
    ("U.S.", "us"),
    ("1,234", "1234"),
    ("$1,200.50", "1200.5"),
    ("twenty-one", "21"),
    ("one hundred and five", "105"),
    ("Two thousand nineteen", "2019"),
    ("3.5 million people", "3,500,000 people"),
    ("minus five", "-5"),
    ("−5", "-5"),
    ("three point one four", "3.14"),
    ("the twenty-first", "21st"),
    ("50%", "50 percent"),
    ("a hundred", "100"),
    ("A", "a"),
    ("?", "?"),
    ("31 January 2020", "2020-01-31"),
    ("Jan. 31st, 2020", "31/01/2020"),
    ("Friday, the 31st of January, 2020", "January 31, 2020"),
    ("1/2/2020", "1/2/2020"),
    ("January 2020", "Jan 2020"),
    ("5", json.dumps(["four", "five"])),
    ("7", json.dumps([7])),
    ("[1, 2) is half open", "[1, 2) is half open"),
]
DIFFERENT = [
    ("Paris", "Lyon"),
    ("3.5", "35"),
    ("-5", "5"),
    ("1-0", "10"),
    ("10:30", "1030"),
    ("x^2+1", "x^2-1"),
    ("C++", "C"),
    ("C#", "C"),
    ("?", "!"),
    ("3.5km", "35km"),
    ("one hundred", "hundred one"),
    ("21", "21st"),
    ("31 January 2020", "2020-01-30"),
    ("January 2020", "2020-01-31"),
    ("1/2/2020", "3 March 2020"),
    ("13", "[12, 14]"),
]


@pytest.mark.parametrize(("completion", "reference"), SAME)
def test_same(completion: str, reference: str) -> None:
    verdict = ShortAnswer(extract="whole")(completion, reference)
    assert (verdict.outcome, verdict.score) == (Outcome.CORRECT, 1.0), verdict


@pytest.mark.parametrize(("completion", "reference"), DIFFERENT)
def test_different(completion: str, reference: str) -> None:
    verdict = ShortAnswer(extract="whole")(completion, reference)
    assert (verdict.outcome, verdict.score) == (Outcome.INCORRECT, 0.0), verdict


def test_a_date_that_may_be_two_is_decided_by_the_option_only() -> None:
    text, gold = "1/2/2020", "2 January 2020"
    assert ShortAnswer()(text, gold).outcome is Outcome.UNPARSEABLE
    assert ShortAnswer(date_order="month_first")(text, gold).correct
    assert ShortAnswer(date_order="day_first")(text, gold).outcome is Outcome.INCORRECT


@pytest.mark.parametrize(
    ("text", "how", "answer", "by"),
    [
        ("I think hard.\nThe answer is **Paris**.", "auto", "Paris", "marker"),
        ("The answer is:\n\nParis.", "auto", "Paris", "marker"),
        ("Answer: Paris. It lies on the Seine.", "auto", "Paris", "marker"),
        ("**Answer:** the U.S. Navy", "auto", "the U.S. Navy", "marker"),
        ("The answer is J. S. Bach. He was born in Eisenach.", "marker", "J. S. Bach", "marker"),
        ("so 3 + 4 = 7\n#### 7", "auto", "7", "marker"),
        (r"Hence $\boxed{\text{Paris}}$. The answer is above.", "auto", "Paris", "box"),
        ("Let me see.\n\nParis.\n", "auto", "Paris", "last line"),
        ("Paris. It is big.", "first_sentence", "Paris", "first sentence"),
        ("`Paris`", "whole", "Paris", "whole"),
    ],
)
def test_extract(text: str, how: str, answer: str, by: str) -> None:
    found = extract(text, how)  # type: ignore[arg-type]
    assert found is not None
    assert (found.text, found.by) == (answer, by)


def test_the_last_marker_counts() -> None:
    assert ShortAnswer(extract="marker")("The answer is Rome.\nThe answer is Paris.", "Paris").correct
    assert ShortAnswer(extract="marker")("The answer is Rome. No, the answer is Paris.", "Paris").correct
    assert ShortAnswer(extract="marker")("Paris", "Paris").outcome is Outcome.UNPARSEABLE


@pytest.mark.parametrize("completion", ["", "  \n", '""'])
def test_no_answer(completion: str) -> None:
    assert ShortAnswer()(completion, "Paris").outcome is Outcome.UNPARSEABLE


def test_bad_references_are_errors() -> None:
    for reference in ("", " ", "[]", '[" "]'):
        assert ShortAnswer()("Paris", reference).outcome is Outcome.ERROR


def test_f1_is_that_of_squad() -> None:
    verdict = ShortAnswer(metric="f1", threshold=0.8)("the big cat sat", json.dumps(["dog", "big cat"]))
    assert verdict.score == pytest.approx(0.8)  # 2 of 3 tokens against 2 of 2
    assert verdict.correct
    assert not ShortAnswer(metric="f1", threshold=0.81)("the big cat sat", "big cat").correct
    assert f1(["a", "a", "b"], ["a", "b", "b"]) == pytest.approx(2 / 3)
    assert f1([], ["a"]) == 0.0


WICE = ("supported", "not_supported", "partially_supported")


@pytest.mark.parametrize(
    ("completion", "labels", "label"),
    [
        ("supported", WICE, "supported"),
        ("not_supported", WICE, "not_supported"),
        ("Not supported.", WICE, "not_supported"),
        ("The answer is partially-supported", WICE, "partially_supported"),
        ("The claim is not supported by the text.", WICE, "not_supported"),
        ("PARTIALLY_SUPPORTED", WICE, "partially_supported"),
        ("It is partially supported.", WICE, "partially_supported"),
        ("The claim is fully supported", WICE, "supported"),
        ("Supported? No, refuted.", ("supported", "refuted"), "refuted"),
        (
            "Not enough info to say whether it is supported or refuted.",
            ("supported", "refuted", "not enough info"),
            "not enough info",
        ),
        ("refuted, not supported", ("supported", "refuted"), "refuted"),
        ("not supported, but refuted", ("supported", "refuted"), "refuted"),
        ("clearly supported rather than refuted", ("supported", "refuted"), "supported"),
        ("It isn't refuted; it is supported", ("supported", "refuted"), "supported"),
        ("This is not enough info to say", ("SUPPORTS", "REFUTES", "NOT ENOUGH INFO"), "NOT ENOUGH INFO"),
    ],
)
def test_whole_labels_only(completion: str, labels: tuple[str, ...], label: str) -> None:
    for reference in labels:
        verdict = ShortAnswer(labels=labels)(completion, reference)
        assert verdict.decided
        assert (verdict.correct, verdict.extracted) == (reference == label, label)


@pytest.mark.parametrize(
    ("completion", "labels"),
    [
        ("partially_supported", ("supported", "refuted")),
        ("not supported", ("supported", "refuted")),
        ("unsupported", ("supported", "refuted")),
        ("not fully supported", ("supported", "refuted")),
        ("neither supported nor refuted", ("supported", "refuted")),
        ("It is not supported or refuted.", ("supported", "refuted")),
        ("not necessarily supported", ("supported", "refuted")),
        ("It can't be considered supported", ("supported", "refuted")),
        ("It doesn’t appear refuted, it is barely supported", ("supported", "refuted")),
        ("far from supported", ("supported", "refuted")),
        ("partly supported", ("supported", "refuted")),
        ("supported, though weakly", ("supported", "refuted")),
        ("It would be wrong to say it is supported.", ("supported", "refuted")),
        ("There is no evidence that it is supported.", ("supported", "refuted")),
        ("supported, then refuted", ("supported", "refuted")),
        ("it isn't supported", ("supported", "refuted")),
        ("maybe", ("supported", "refuted")),
    ],
)
def test_what_names_no_label_is_undecided(completion: str, labels: tuple[str, ...]) -> None:
    assert ShortAnswer(labels=labels)(completion, "supported").outcome is Outcome.UNPARSEABLE


@pytest.mark.parametrize(
    "completion", ["supported or refuted", "Supported/refuted", "Answer: supported and refuted"]
)
@pytest.mark.parametrize("reference", ["supported", "refuted"])
def test_alternatives_are_wrong(completion: str, reference: str) -> None:
    verdict = ShortAnswer(labels=("supported", "refuted"))(completion, reference)
    assert (verdict.outcome, verdict.rule.endswith("hedge")) == (Outcome.INCORRECT, True)


def test_labels_must_be_distinct_and_the_reference_one_of_them() -> None:
    with pytest.raises(RecipeError, match="not distinct"):
        ShortAnswer(labels=("not_true", "Not true"))
    assert ShortAnswer(labels=("yes", "no"))("yes", "maybe").outcome is Outcome.ERROR
    assert ShortAnswer(labels=("yes", "no"))("no", "no").correct


def test_find_whole_takes_the_longest() -> None:
    assert find_whole(list("abcab"), [list("ab"), list("abc"), []]) == [(1, 0), (0, 3)]
    assert whole_labels("not_supported", ["supported", "not supported"]) == [LabelPlace(1)]


def test_a_long_answer_is_not_compared() -> None:
    assert ShortAnswer()("a " * LIMIT, "a").rule == "too long"
    assert ShortAnswer()("9" * 10_000, "9" * 10_000).correct


@pytest.mark.parametrize(
    "unit", ["$", "**", '"', "'", ". ", "answer: ", "answer ", "\\text{", "1,234,", "one ", "####"]
)
def test_hostile_text_is_read_in_linear_time(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    start = time.process_time()
    for how in ("auto", "first_sentence", "whole"):
        assert ShortAnswer(extract=how)(text, "5").outcome is not Outcome.ERROR  # type: ignore[arg-type]
    assert time.process_time() - start < 6


@given(st.text(max_size=300), st.text(max_size=50))
@settings(max_examples=150, deadline=None)
def test_any_text_gets_a_verdict_and_equals_itself(completion: str, reference: str) -> None:
    for verifier in (ShortAnswer(), ShortAnswer(metric="f1"), ShortAnswer(labels=("yes", "no"))):
        assert verifier(completion, reference).rule != "raised"
    if completion.strip() and not completion.strip().startswith("["):
        verdict = ShortAnswer(extract="whole")(completion, completion)
        assert verdict.correct or verdict.outcome is Outcome.UNPARSEABLE


@given(st.integers(-(10**12), 10**12))
def test_separators_do_not_change_a_number(number: int) -> None:
    assert tokens(f"{number:,}") == tokens(str(number)) == [str(number)]


@pytest.mark.parametrize(
    ("answer", "right"),
    [("It is Paris, in France.", True), ("Paris", True), ("Parisian streets", False), ("the party", False)],
)
def test_contains_asks_for_the_reference_word_for_word(answer: str, right: bool) -> None:
    verdict = ShortAnswer(metric="contains", extract="whole")(answer, json.dumps(["Paris", "art"]))
    assert verdict.correct is right and verdict.decided
