from __future__ import annotations

import asyncio
import time

import pytest

from gristmill.core.engine import Ability, Completion, Request
from gristmill.core.errors import RecipeError
from gristmill.engines.scripted import ABILITIES, ScriptedEngine
from gristmill.verifiers.judges.backward import backward_shares, maskings, numbers, posterior, rank, recovers


@pytest.mark.parametrize(
    ("recovered", "expected"),
    [((1, 5), (0.353889, 0.646111)), ((0, 5), (0.000055, 0.999945)), (None, (0.6, 0.4))],
)
def test_the_reference_vectors(recovered: tuple[int, int] | None, expected: tuple[float, float]) -> None:
    assert posterior((6, 4), recovered) == pytest.approx(expected, abs=1e-6)


def test_alpha_weighs_votes_against_recoveries() -> None:
    assert posterior((6, 4), (1, 5), alpha=1) == pytest.approx((0.6, 0.4))
    assert posterior((6, 4), (1, 5), alpha=0) == pytest.approx((1 / 6, 5 / 6), abs=1e-8)
    assert backward_shares((0, 0)) == [0.5, 0.5]


@pytest.mark.parametrize(
    ("votes", "recovered", "alpha"),
    [
        ((0, 0), (1, 1), 0.5),
        ((1, -1), None, 0.5),
        ((1, 1), (1, -2), 0.5),
        ((1, 1), (1,), 0.5),
        ((1,), (1,), 2),
    ],
)
def test_impossible_counts_are_refused(
    votes: tuple[int, ...], recovered: tuple[int, ...] | None, alpha: float
) -> None:
    with pytest.raises(ValueError):
        posterior(votes, recovered, alpha=alpha)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("Tom has 1,200.50 dollars, and 3.5 million grains", ["1200.5", "3500000"]),
        ("twenty-five boys and three girls, five, six", ["25", "3", "5", "6"]),
        ("the 3rd of x2 and one of a few on the third day", []),
        ("It costs $5.", ["5"]),
        ("add 1/2 to .5kg", ["1", "2", "0.5"]),
        ("two hundred and six; 7 and 8", ["206", "7", "8"]),
        ("", []),
    ],
)
def test_numbers_are_found(text: str, values: list[str]) -> None:
    found = numbers(text)
    assert [n.value for n in found] == values


def test_a_number_is_masked_wherever_it_stands_and_others_stay() -> None:
    question = "Ann has 12 pens and gives away 5 of the twelve. How many are left?"
    first, second = maskings(question, ["7"])
    assert first.question == "Ann has X pens and gives away 5 of the X. How many are left?"
    assert (first.value, second.value) == ("12", "5")
    assert second.question == "Ann has 12 pens and gives away X of the twelve. How many are left?"


def test_a_number_in_any_candidate_is_never_masked() -> None:
    question = "Ann has 12 pens and gives away 5. How many are left?"
    assert [m.value for m in maskings(question, ["7", "12 pens"])] == ["5"]
    assert maskings(question, ["twelve", "5.0"]) == ()


def test_the_unknown_has_a_name_that_the_question_lacks() -> None:
    [masked] = maskings("Solve x + y = 4 for x.", [])
    assert masked.name == "Z"
    assert masked.question == "Solve x + y = Z for x."


@pytest.mark.parametrize(
    ("answer", "value", "expected"),
    [
        ("We had 3.\nThe answer is 12.", "12", True),
        ("so \\boxed{1,200}", "1200", True),
        ("X = 3 + 9 = 12", "12", True),
        ("The answer is 12 apples", "12", True),
        ("The answer is -12", "12", False),
        ("The answer is X = 20 - 12", "12", True),
        ("The answer is twelve", "12", True),
        ("The answer is 120", "12", False),
        ("12 it may be\nbut I do not know", "12", False),
        ("The answer is one", "1", True),
        ("", "1", False),
    ],
)
def test_what_recovers_a_number(answer: str, value: str, expected: bool) -> None:
    assert recovers(answer, value) is expected


QUESTION = "Ann has 12 pens and gets 5 more. How many has she?"


def inverse(request: Request, index: int) -> str:
    """Solves the masked question for the candidate it is given, as a right model would."""
    text = request.messages[-1].content
    candidate = int(text.split("the answer to this question is ")[1].split(".")[0])
    return f"The answer is {candidate - (5 if 'has X' in text else 12)}"


@pytest.mark.parametrize("abilities", [ABILITIES, ABILITIES - {Ability.MANY}])
def test_recoveries_overrule_the_votes(abilities: frozenset[Ability]) -> None:
    engine = ScriptedEngine(inverse, abilities=abilities)
    labels = ["18", "17", "18", None, "17", "18"]
    ranking = asyncio.run(rank(QUESTION, labels, engine, seed=1, samples=3))
    wrong, right = ranking.candidates
    assert ranking.best == "17"
    assert ranking.values == ("12", "5")
    assert ranking.excluded == 1
    assert (wrong.label, wrong.votes, wrong.recovered, wrong.trials) == ("18", 3, 0, 6)
    assert (right.label, right.votes, right.recovered, right.trials) == ("17", 2, 6, 6)
    assert right.score == pytest.approx(posterior((3, 2), (0, 6))[1])
    assert engine.requests == (4 if Ability.MANY in abilities else 12)


def test_each_trial_has_a_seed_of_its_own_that_a_repetition_shares() -> None:
    seen: list[tuple[str, int]] = []

    def note(request: Request, index: int) -> str:
        assert request.seed is not None
        seen.append((request.messages[0].content, request.seed + index))
        return "5"

    for _ in range(2):
        asyncio.run(rank(QUESTION, ["17", "18"], ScriptedEngine(note), seed=3, samples=2))
    assert seen[:8] == seen[8:]
    assert len({s for _, s in seen}) == 8


def test_without_a_number_the_votes_decide_and_nothing_is_drawn() -> None:
    engine = ScriptedEngine(inverse)
    ranking = asyncio.run(rank("Which is larger?", ["a", "b", "a"], engine, seed=1))
    assert ranking.best == "a"
    assert ranking.candidates[0].score == pytest.approx(2 / 3)
    assert ranking.candidates[0].backward is None
    assert engine.requests == 0


def test_one_candidate_costs_nothing_and_none_is_no_ranking() -> None:
    engine = ScriptedEngine(inverse)
    assert asyncio.run(rank(QUESTION, ["17", "17"], engine, seed=1)).best == "17"
    assert asyncio.run(rank(QUESTION, [None], engine, seed=1)).best is None
    assert engine.requests == 0


def test_a_tie_has_no_best() -> None:
    ranking = asyncio.run(rank("Which?", ["a", "b"], ScriptedEngine(inverse), seed=1))
    assert ranking.best is None


def test_a_cut_off_answer_recovers_nothing() -> None:
    engine = ScriptedEngine(lambda request, i: Completion(text=inverse(request, i), finish_reason="length"))
    ranking = asyncio.run(rank(QUESTION, ["17", "18", "18"], engine, seed=1, samples=2))
    assert [c.recovered for c in ranking.candidates] == [0, 0]
    assert ranking.best == "18"


def test_braces_in_the_question_are_text() -> None:
    seen: list[str] = []

    def note(request: Request, index: int) -> str:
        seen.append(request.messages[0].content)
        return "1"

    asyncio.run(
        rank("The set {name} has 3 parts.", ["{candidate}", "b"], ScriptedEngine(note), seed=1, samples=1)
    )
    assert seen[0].startswith("The set {name} has X parts.\n")
    assert "this question is {candidate}. What number" in seen[0]


def test_no_samples_are_refused() -> None:
    with pytest.raises(RecipeError, match="samples is 0"):
        asyncio.run(rank(QUESTION, ["17", "18"], ScriptedEngine(inverse), seed=1, samples=0))


@pytest.mark.parametrize("piece", ["1 ", "1-", "twenty ", "1,000", "hundred and ", "the answer is ", "- "])
def test_hostile_repetition_ends_soon(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    start = time.process_time()
    maskings(text, [text])
    recovers(text, "7")
    assert time.process_time() - start < 20
