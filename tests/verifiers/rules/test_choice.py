"""Which option a completion settles on."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.errors import GristmillError
from gristmill.core.verdicts import Outcome
from gristmill.verifiers.rules.choice import Choice, key, shuffle
from gristmill.verifiers.rules.listed import LETTERS, column_options, read_options

CITIES = ("Paris", "Rome", "Berlin", "New York")

CHOSEN = [
    ("B", "B"),
    ("(B)", "B"),
    ("(b)", "B"),
    ("b.", "B"),
    ("B.", "B"),
    ("B) Rome", "B"),
    ("**B**", "B"),
    ("**B. Rome**", "B"),
    ("Answer: B", "B"),
    ("Answer: **(B)**", "B"),
    ("**Answer:** B", "B"),
    ("The answer is B, since Rome is old.", "B"),
    ("The correct answer is (C) Berlin.", "C"),
    ("The best option is D because it is large.", "D"),
    (r"\boxed{B}", "B"),
    (r"So it is $\boxed{\text{(B)}}$.", "B"),
    (r"\boxed{\textbf{B. Rome}}", "B"),
    (r"\boxed{Rome}", "B"),
    ("Option B is wrong, as Rome is in Italy, so C", "C"),
    ("Option A is wrong. Option B is wrong too. Therefore, C.", "C"),
    ("A is not right, nor is B. So the answer is D.", "D"),
    ("At first: the answer is A.\nNo: the answer is B.", "B"),
    ("I choose option C", "C"),
    ("Hence option C is correct, and not B.", "C"),
    ("It lies on the Seine.\nC is the correct answer.", "C"),
    ("The answer is Berlin.", "C"),
    ("The answer is new york", "D"),
    ("The answer is a big city, Berlin", "C"),
    ("Let us think.\nIt must be Rome.", "B"),
    ("Rome", "B"),
    ("A", "A"),
    ("A. Paris", "A"),
    ("The answer is A", "A"),
    ("The answer is not B. The answer is C.", "C"),
    ("The answer is B. Wait, actually the answer is C.", "C"),
    ("I think the answer is Paris. No, the answer is Rome.", "B"),
]
HEDGES = [
    "B or C",
    "Answer: B or C",
    "The answer is B. The answer is C.",
    r"\boxed{A} \boxed{B}",
    r"\boxed{A, B}",
    "(A), (B) and (C)",
    "The answer is Paris or Rome.",
    "Answer: either Paris, Rome or maybe Berlin",
    "So the answer is (B) and/or (C).",
]
UNDECIDED = [
    "",
    "I do not know.",
    "B. Berlin",
    "Answer: F",
    "Option B is wrong.",
    "The answer is Paris, which is larger than Rome.",
    "The answer is not B.",
    "A big city lies there.",
    "I think it is hard.",
]


@pytest.mark.parametrize(("completion", "letter"), CHOSEN)
def test_chosen(completion: str, letter: str) -> None:
    for gold in "ABCD":
        verdict = Choice()(completion, key(CITIES, gold))
        assert verdict.decided, verdict
        assert verdict.extracted == f"{letter}. {CITIES[LETTERS.index(letter)]}"
        assert (verdict.correct, verdict.score) == (gold == letter, float(gold == letter))


@pytest.mark.parametrize("completion", HEDGES)
@pytest.mark.parametrize("gold", "ABC")
def test_a_hedge_is_never_right(completion: str, gold: str) -> None:
    verdict = Choice()(completion, key(CITIES, gold))
    assert (verdict.outcome, verdict.score) == (Outcome.INCORRECT, 0.0), verdict
    assert verdict.rule.endswith("hedge")


@pytest.mark.parametrize("completion", UNDECIDED)
def test_undecided(completion: str) -> None:
    verdict = Choice()(completion, key(CITIES, "B"))
    assert (verdict.outcome, verdict.score) == (Outcome.UNPARSEABLE, None), verdict
    assert verdict.detail


def test_without_options_letters_are_compared() -> None:
    assert Choice()("Answer: C", "(c)").correct
    assert Choice()("Answer: C", "B").outcome is Outcome.INCORRECT
    assert Choice()("Paris", "B").outcome is Outcome.UNPARSEABLE
    assert Choice(match="content")("Paris", "B").outcome is Outcome.ERROR


def test_options_of_the_recipe_and_the_answer_as_content() -> None:
    yes_no = Choice(options=("yes", "no"))
    assert yes_no("Answer: yes", "yes").correct
    assert yes_no("B", "no").correct
    assert yes_no("B", "yes").outcome is Outcome.INCORRECT
    assert Choice(options=("yes", "no"), match="content")("B", "no").outcome is Outcome.UNPARSEABLE
    assert Choice(options=CITIES, match="letter")("Rome", "B").outcome is Outcome.UNPARSEABLE


def test_options_from_the_problem() -> None:
    problem = "Which is the capital of Italy?\n(A) Paris\n(B) Rome\n(C) Berlin\n\nThink first."
    reference = json.dumps({"problem": problem, "answer": "B"})
    assert Choice()("It is Rome.", reference).correct
    assert Choice()("Answer: D", reference).outcome is Outcome.UNPARSEABLE


def test_a_reference_gets_the_options_of_its_problem() -> None:
    problem = "Which is the capital of Italy?\n(A) Paris\n(B) Rome"
    told = Choice.for_problem(problem, "B", {})
    assert Choice()("It is Rome.", told).correct
    assert Choice()("It is Rome.", Choice.for_problem(problem, "Rome", {})).correct
    assert Choice()("It is Paris.", told).outcome is Outcome.INCORRECT
    assert Choice.for_problem("Which city?", "B", {}) == "B"
    assert Choice.for_problem(problem, key(CITIES, "B"), {}) == key(CITIES, "B")


@pytest.mark.parametrize(
    ("columns", "labels"),
    [
        ({"A": "Paris", "B": "Rome", "C": "Berlin", "subject": "capitals"}, ()),
        ({"choices": ["Paris", "Rome", "Berlin"]}, ()),
        ({"options": {"A": "Paris", "B": "Rome", "C": "Berlin"}}, ()),
        ({"choices": {"text": ["Paris", "Rome", "Berlin"], "label": ["1", "2", "3"]}}, ("1", "2", "3")),
        ({"choices": [{"label": f"({x})", "text": t} for x, t in zip("abc", CITIES, strict=False)]}, ()),
        ({"endings": ["Paris", "Rome", "Berlin"], "ctx": "The capital of Italy is"}, ()),
        ({"opa": "Paris", "opb": "Rome", "opc": "Berlin", "opd": None}, ()),
        ({"option_1": "Paris", "option_2": "Rome", "option_3": "Berlin"}, ("1", "2", "3")),
        ({"ending0": "Paris", "ending1": "Rome", "ending2": "Berlin"}, ("0", "1", "2")),
        ({"answerA": "Paris", "answerB": "Rome", "answerC": "Berlin"}, ()),
    ],
)
def test_options_in_columns(columns: dict[str, Any], labels: tuple[str, ...]) -> None:
    assert column_options(columns) == (CITIES[:3], labels)


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"a": "Paris", "b": "Rome"},  # may be anything
        {"A": "Paris"},
        {"options": "Paris, Rome"},
        {"choices": [["Paris"], ["Rome"]]},
        {"choices": {"text": ["Paris", "Rome"], "label": ["A"]}},
        {"answer": "B", "option": "Rome"},
        {"option2": "Paris", "option3": "Rome"},
    ],
)
def test_columns_that_hold_no_options(columns: dict[str, Any]) -> None:
    assert column_options(columns) is None


def test_a_reference_gets_the_options_of_its_columns() -> None:
    lettered = Choice.for_problem("Capital of Italy?", "B", {"A": "Paris", "B": "Rome"})
    assert Choice()("It is Rome.", lettered).correct
    assert Choice()("Answer: C", lettered).outcome is Outcome.UNPARSEABLE
    listed = "Capital of Italy?\n(A) Rome\n(B) Paris"  # what the model saw counts
    assert Choice()("It is Rome.", Choice.for_problem(listed, "A", {"choices": ["Paris", "Rome"]})).correct
    numbered = Choice.for_problem("Q?", "2", {"choices": {"text": ["Paris", "Rome"], "label": ["1", "2"]}})
    assert Choice()("Answer: B", numbered).correct
    assert Choice(counted_from=0)("Answer: B", numbered).correct  # a label is what it says


def test_a_number_of_an_option_needs_to_be_told_from_where_it_counts() -> None:
    reference = Choice.for_problem("Q?", "1", {"choices": list(CITIES)})
    assert Choice(counted_from=0)("It is Rome.", reference).correct
    assert Choice(counted_from=1)("It is Paris.", reference).correct
    unknown = Choice()("It is Rome.", reference)
    assert unknown.outcome is Outcome.ERROR and "counted_from" in unknown.detail
    beyond = Choice(counted_from=0)("It is Rome.", key(CITIES, "4"))
    assert beyond.outcome is Outcome.ERROR and "counted from 0" in beyond.detail
    digits = key(("1", "2", "3"), "2")
    assert Choice()("Answer: B", digits).correct  # a content
    assert Choice(counted_from=0)("Answer: C", digits).correct


@pytest.mark.parametrize(
    ("problem", "options"),
    [
        ("Q? (A) one (B) two (C) three", ("one", "two", "three")),
        ("Q?\nA. one\nB. two\n", ("one", "two")),
        ("Q?\nA) one, B) two", ("one", "two")),
        ("Example: (A) x (B) y\nQ? (A) one (B) two", ("one", "two")),
        ("Q? (A) one (C) three", ()),
        ("no options", ()),
    ],
)
def test_read_options(problem: str, options: tuple[str, ...]) -> None:
    assert read_options(problem) == options


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "{",
        '{"options": ["x", "y"], "answer": "C"}',
        '{"options": ["x", "x"], "answer": "x"}',
        '{"options": ["B", "A"], "answer": "B"}',
        '{"options": ["x"], "answer": "x", "more": 1}',
    ],
)
def test_bad_references_are_errors(reference: str) -> None:
    assert Choice()("A", reference).outcome is Outcome.ERROR


def test_options_that_differ_in_marks_only_or_hold_each_other() -> None:
    marks = ("x-1", "x+1", "-5", "5")
    assert Choice()("The answer is $x+1$.", key(marks, "B")).correct
    assert Choice()("The answer is -5", key(marks, "C")).correct
    assert Choice()("The answer is -5", key(marks, "D")).outcome is Outcome.INCORRECT
    labels = ("supported", "not supported", "partially supported")
    assert Choice()("It is partially supported", key(labels, "C")).correct
    assert Choice()("It is not supported", key(labels, "A")).outcome is Outcome.INCORRECT


@given(st.integers(2, 26), st.integers(0, 2**64))
def test_a_shuffle_is_no_identity_and_maps_back(n: int, seed: int) -> None:
    options = [f"option {i}" for i in range(n)]
    mixed = shuffle(options, seed)
    assert sorted(mixed.options) == sorted(options)
    assert list(mixed.options) != options
    assert mixed == shuffle(options, seed)
    for i, letter in enumerate(LETTERS[:n]):
        assert mixed.original(mixed.shown(letter)) == letter
        assert mixed.options[i] == options[LETTERS.index(mixed.original(letter))]


def test_shuffled_options_are_compared_by_content() -> None:
    mixed = shuffle(CITIES, 7)
    before, after = key(CITIES, "Rome"), key(mixed.options, "Rome")
    assert Choice()("The answer is Rome", before).correct
    assert Choice()("The answer is Rome", after).correct
    assert Choice()(f"Answer: {mixed.shown('B')}", after).correct
    assert Choice()("Answer: B", after).correct == (mixed.shown("B") == "B")


def test_what_cannot_be_shuffled() -> None:
    with pytest.raises(GristmillError, match="1 options"):
        shuffle(["one"], 0)
    with pytest.raises(ValueError, match="none of the 2"):
        shuffle(["one", "two"], 0).original("C")


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{" * 40_000,
        "Answer: " * 40_000,
        "so " * 100_000,
        "Answer: B\n" * 20_000,
        "answer" + " " * 300_000,
        "\n" * 300_000,
        "(A) " * 50_000,
        r"\boxed{{{{" * 30_000,
    ],
)
def test_hostile_text_is_read_in_linear_time(text: str) -> None:
    start = time.process_time()
    assert Choice()(text, key(CITIES, "B")).outcome is not Outcome.ERROR
    assert time.process_time() - start < 10


@given(st.text(max_size=200) | st.text(alphabet="ABCD()*. \nansweri:{}\\boxd", max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_gets_a_verdict(completion: str) -> None:
    assert Choice()(completion, key(CITIES, "B")).outcome is not Outcome.ERROR
    assert Choice()("B", completion).rule != "raised"
