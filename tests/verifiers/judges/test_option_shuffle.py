from __future__ import annotations

import asyncio
import re
import time

import pytest

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import GristmillError
from gristmill.core.verdicts import Outcome
from gristmill.engines.scripted import ScriptedEngine
from gristmill.verifiers.judges.option_shuffle import (
    OrderChange,
    ShuffleCheck,
    check_options,
    chosen,
    compare,
    movable,
    rates,
    reward,
    split_answer,
    strip_letters,
    verdict,
)

OPTIONS = ("Rome", "Paris", "Oslo", "Bern")
QUESTION = "Which is the capital of France?"
REASONING = "It lies on the Seine. Option A is in Italy, so (A) is out."
COMPLETION = f"{REASONING} The answer is B."


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("It lies on the Seine. So the answer is B.", "It lies on the Seine."),
        ("First.\nSecond.\nAnswer: (B)", "First.\nSecond."),
        ("First, the answer is a city.\nSecond.\n**Answer:** B", "First, the answer is a city.\nSecond."),
        ("Reason.\n\\boxed{B}\n", "Reason."),
        ("Reason.\n#### B\nbye", "Reason."),
        ("Reason.\n(B)", "Reason."),
        ("Only a reason.", "Only a reason."),
        ("The answer is B.", ""),
        ("B", ""),
        ("", ""),
    ],
)
def test_reasoning_ends_where_the_answer_begins(text: str, kept: str) -> None:
    assert split_answer(text)[0] == kept


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Option B is on the Seine.", "Option Paris is on the Seine."),
        ("So (A) and (C) are out", "So Rome and Oslo are out"),
        ("between B and C, or D", "between Paris and Oslo, or Bern"),
        ("B is wrong. C is too. But D must be it", "Paris is wrong. Oslo is too. But Bern must be it"),
        ("A. Rome is in Italy\n- B) in France", "Rome is in Italy\n- Paris: in France"),
        ("**C.** Oslo", "**Oslo"),
        ("This leaves only D.", "This leaves only Bern."),
        (
            "A dog eats vitamin C at point B's end; E is odd",
            "A dog eats vitamin C at point B's end; E is odd",
        ),
        ("not a letter, so I think A is it", "not a letter, so I think Rome is it"),
        ("(E) is none", "(E) is none"),
    ],
)
def test_letters_become_contents(text: str, plain: str) -> None:
    assert strip_letters(text, OPTIONS) == plain


@pytest.mark.parametrize(
    ("option", "free"),
    [
        ("All of the above", False),
        ("none of these", False),
        ("Both A and C", False),
        ("A and B", False),
        ("B or C", False),
        ("only B", False),
        ("the previous option", False),
        ("vitamin C", True),
        ("all of it", True),
        ("Bach and Brahms", True),
        ("the above-ground part", True),
    ],
)
def test_options_that_speak_of_others_cannot_move(option: str, free: bool) -> None:
    assert movable(["Paris", option]) is free


def test_the_answer_is_all_that_follows() -> None:
    text = "One.\nTwo. The answer is B. Done.\nbye"
    assert split_answer(text) == ("One.\nTwo.", "The answer is B. Done.\nbye")


def test_contents_are_compared_not_letters() -> None:
    assert chosen("The answer is B.", ("Rome", "Paris")) == "Paris"
    assert chosen("The answer is B.", ("Paris", "Rome")) == "Rome"
    assert chosen("I do not know", ("Paris", "Rome")) is None
    assert compare("Paris", "Paris", "Paris") is OrderChange.RIGHT
    assert compare("Rome", "Rome", "Paris") is OrderChange.WRONG
    assert compare("Paris", "Rome", "Paris") is OrderChange.CHANGED
    assert compare("Rome", "Paris", "Paris") is OrderChange.CHANGED
    assert compare("Rome", None, "Paris") is OrderChange.UNDECIDED


def answering(content: str) -> ScriptedEngine:
    def answer(request: Request, index: int) -> str:
        letter = re.search(rf"\((.)\) {content}", request.messages[0].content)
        assert letter is not None
        return f"The answer is {letter[1]}"

    return ScriptedEngine(answer)


def check(
    engine: ScriptedEngine, completion: str = COMPLETION, answer: str = "B", seed: int = 1
) -> ShuffleCheck:
    return asyncio.run(check_options(QUESTION, OPTIONS, answer, completion, engine, seed=seed))


@pytest.mark.parametrize("seed", range(6))
def test_an_answer_that_follows_from_the_reasoning_stays(seed: int) -> None:
    assert check(answering("Paris"), seed=seed).change is OrderChange.RIGHT
    assert check(answering("Paris"), answer="Paris", seed=seed).change is OrderChange.RIGHT
    assert check(answering("Paris"), answer="Rome", seed=seed).change is OrderChange.WRONG
    assert check(answering("Oslo"), seed=seed).change is OrderChange.CHANGED


def test_a_model_that_repeats_the_letter_is_found_out() -> None:
    def sticks(request: Request, index: int) -> str:
        return "The answer is B"

    found = [check(ScriptedEngine(sticks), seed=s) for s in range(20)]
    assert {c.change for c in found if c.order[1] != 1} == {OrderChange.CHANGED}
    assert {c.change for c in found if c.order[1] == 1} <= {OrderChange.RIGHT}
    assert all(c.order != (0, 1, 2, 3) for c in found)


def test_the_prompt_holds_the_reasoning_without_its_letters_or_answer() -> None:
    seen: list[str] = []

    def note(request: Request, index: int) -> str:
        seen.append(request.messages[0].content)
        return "The answer is A"

    check(ScriptedEngine(note))
    assert "It lies on the Seine. Option Rome is in Italy, so Rome is out.\n" in seen[0]
    assert "answer is B" not in seen[0]


@pytest.mark.parametrize(
    ("completion", "options", "why"),
    [
        (COMPLETION, ("Rome", "Paris", "all of the above"), "refer to each other"),
        (COMPLETION, ("Rome", "Paris", "Paris "), "equal"),
        ("Hm.", OPTIONS, "no answer"),
        ("The answer is B.", OPTIONS, "no reasoning"),
    ],
)
def test_what_cannot_be_checked_costs_nothing(completion: str, options: tuple[str, ...], why: str) -> None:
    engine = answering("Paris")
    found = asyncio.run(check_options(QUESTION, options, "Paris", completion, engine, seed=1))
    assert found.change is OrderChange.UNDECIDED
    assert why in found.why
    assert engine.requests == 0
    assert verdict(found).outcome is Outcome.UNPARSEABLE
    assert reward(found) is None


def test_a_second_answer_cut_off_is_undecided() -> None:
    engine = ScriptedEngine(lambda request, i: Completion(text="The answer is A", finish_reason="length"))
    assert check(engine).change is OrderChange.UNDECIDED


def test_rates_rewards_and_verdicts() -> None:
    found = [
        ShuffleCheck(c)
        for c in (
            OrderChange.RIGHT,
            OrderChange.RIGHT,
            OrderChange.WRONG,
            OrderChange.CHANGED,
            OrderChange.UNDECIDED,
        )
    ]
    counted = rates(found)
    assert (counted.right, counted.wrong, counted.changed, counted.undecided) == (2, 1, 1, 1)
    assert counted.consistency == 0.75
    assert rates([]).consistency is None
    assert [reward(c) for c in found] == [1.0, 1.0, 0.2, 0.0, None]
    assert [verdict(c).outcome for c in found[1:4]] == [
        Outcome.CORRECT,
        Outcome.INCORRECT,
        Outcome.INCORRECT,
    ]


def test_an_answer_that_is_no_option_is_refused() -> None:
    with pytest.raises(GristmillError, match="'E' is not one of the 4"):
        check(answering("Paris"), answer="E")


@pytest.mark.parametrize(
    "piece", ["B is ", "(A) ", "option B and ", "answer  ", "A. x\n", "B, ", "B ", "so so "]
)
def test_hostile_repetition_ends_soon(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    start = time.process_time()
    split_answer(text)
    strip_letters(text, OPTIONS)
    assert time.process_time() - start < 20
