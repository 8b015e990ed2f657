"""Several samples in one prompt, and problems in other words."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import RecipeError
from gristmill.core.records import Problem, Sampled, score_of
from gristmill.core.stages import Context, Rejection
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.agreement import Aggregate, Paraphrase, UniversalVote
from gristmill.synth.agreement.combined import chosen_place, shortened
from gristmill.synth.sampling import Sample

PROBLEM = Problem("p1", "Tom has 3 apples and buys 9 more. How many are there?", "12", None, '{"level": 1}')
DRAWN = ("It is 12.", "It is 11.", "It is 12!", "It is 13.")


async def twelve(completion: str, reference: str) -> Verdict:
    return Verdict(Outcome.CORRECT if reference in completion else Outcome.INCORRECT)


def work(
    stage: Any, own: Callable[[Request, int], Any], other: Any = None, measured: Any = None
) -> list[Any]:
    engine = ScriptedEngine(own)
    others = {"other": ScriptedEngine(other)} if other else {}
    context = Context(engine, twelve, 7, others, measure=measured or (lambda name, value: None))
    return list(asyncio.run(stage(PROBLEM, context)))


def responses(request: Request) -> list[str]:
    return re.findall(r"\[BEGIN RESPONSE \d+ \w+\]\n(.*?)\n\[END", request.messages[-1].content, re.S)


def names(text: str) -> Callable[[Request, int], str]:
    """A reader that chooses the response with ``text``."""
    return lambda request, index: (
        f"Of {len(responses(request))}, most consistent: {responses(request).index(text) + 1}"
    )


def test_the_chosen_sample_is_marked_wherever_it_is_shown() -> None:
    orders = set()
    for text in DRAWN:

        def reader(request: Request, index: int, text: str = text) -> str:
            orders.add(tuple(responses(request)))
            return names(text)(request, index)

        made = work(UniversalVote(reader_engine="other"), lambda r, i: DRAWN[i], reader)
        assert [score_of(s, "universal_vote").value for s in made] == [float(d == text) for d in DRAWN]
    [order] = orders
    assert sorted(order) == sorted(DRAWN) and order != DRAWN, (
        "one seeded order, which is not that of the samples"
    )


@pytest.mark.parametrize("reply", ["Most consistent: 5", "Most consistent: 0", "None of them.", "9" * 5000])
def test_a_choice_that_no_response_has_is_the_first_and_is_counted(reply: str) -> None:
    counted: dict[str, int] = {}
    made = work(
        UniversalVote(reader_engine="other"), lambda r, i: DRAWN[i], lambda r, i: reply, counted.__setitem__
    )
    assert [score_of(s, "universal_vote").value for s in made] == [1, 0, 0, 0]
    assert counted == {"universal_vote defaults": 1}


def test_samples_that_were_cut_off_are_not_shown_and_one_alone_is_not_asked_about() -> None:
    def own(request: Request, index: int) -> Completion:
        return Completion(DRAWN[index], "stop" if index in (1, 3) else "length")

    made = work(UniversalVote(reader_engine="other"), own, names("It is 13."))
    assert [score_of(s, "universal_vote").value for s in made] == [None, 0, None, 1]
    made = work(UniversalVote(), lambda r, i: "It is 12.")
    assert [score_of(s, "universal_vote").value for s in made] == [1] * 4
    made = work(UniversalVote(), lambda r, i: Completion("It is", "length"))
    assert [score_of(s, "universal_vote").value for s in made] == [None] * 4


def test_the_last_number_of_a_finished_answer_is_the_choice() -> None:
    assert chosen_place(Completion("Not 1 but 2."), 3) == 1
    assert chosen_place(Completion("Response 2 says 3.14"), 3) == 1
    assert chosen_place(Completion("2", "length"), 3) is None


def test_one_answer_is_made_of_all_in_equal_room() -> None:
    long = "It begins. " + "x" * 5000 + " It is 12."
    shown: list[str] = []

    def reader(request: Request, index: int) -> str:
        shown.extend(responses(request))
        return "All in all: 12."

    stage = Aggregate(sample=Sample(samples=3), tokens_each=50, reader_engine="other")
    [made] = work(stage, lambda r, i: (long, "It is 11.", long)[i], reader)
    assert isinstance(made, Sampled) and made.verdict is not None and made.verdict.correct
    assert (made.id, made.completion, made.index, made.answer) == ("p1/aggregate", "All in all: 12.", 3, "12")
    assert sorted(map(len, shown)) == [9, 199, 199] and all("It is 1" in text for text in shown)
    assert "RESPONSE 3" in made.messages[0].content
    [own] = work(msgspec.structs.replace(stage, as_answer=True), lambda r, i: DRAWN[i], reader)
    assert own.messages[0].content == PROBLEM.problem
    assert shortened("abc", 3) == "abc"


def test_an_aggregate_needs_two_samples() -> None:
    [made] = work(
        Aggregate(),
        lambda r, i: Completion(DRAWN[i], "stop" if i else "length") if i < 2 else Completion("", "length"),
    )
    assert isinstance(made, Rejection) and made.detail == "1 of 4"
    for kind in (Aggregate, UniversalVote):
        with pytest.raises(RecipeError, match="to at least 2"):
            kind(sample=Sample(samples=1))
        with pytest.raises(RecipeError, match=r"no place \{responses\}"):
            kind(prompt="{problem}")
    assert UniversalVote().estimate(PROBLEM).completions_max == 5
    assert Aggregate().estimate(PROBLEM).rows_max == 1


def test_rewordings_keep_answer_and_numbers_or_are_rejected() -> None:
    replies = (
        "Tom owns 3 apples; he gets 9 more. What is the total?",
        "Tom has 3 apples and buys 8 more. How many are there now?",
        "tom has 3 apples, and buys 9 more! How many are there?",
        "Tom owns 3 apples; he gets 9 more. What is the total?",
        Completion("Tom owns 3", "length"),
        "After buying nine apples more than the three he had, how many does Tom have?",
    )
    made = work(Paraphrase(count=6), lambda r, i: replies[i])
    kept = [row for row in made if isinstance(row, Problem)]
    assert [row.id for row in kept] == ["p1/paraphrase/0", "p1/paraphrase/5"]
    assert all(row.answer == "12" for row in kept)
    assert msgspec.json.decode(kept[0].meta) == {"level": 1, "paraphrase_of": "p1"}
    assert [row.reason.removeprefix("paraphrase: ") for row in made if isinstance(row, Rejection)] == [
        "other numbers",
        "the same words",
        "the same words",
        "cut off or empty",
    ]
