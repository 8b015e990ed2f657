"""``rerank``: a judge's order of a question's passages."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from gristmill.core.engine import Ability
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.records import Problem
from gristmill.core.stages import Context
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.rag import Rerank

HELD = [{"source": name, "text": f"Here {name} is told."} for name in ("sheep", "boats", "bees", "slate")]


async def unused(completion: str, reference: str) -> Any:
    raise AssertionError("no verifier is called")


def question(**meta: Any) -> Problem:
    return Problem("q", "How many boats?", None, meta=msgspec.json.encode(meta).decode())


def ranked(stage: Rerank, says: dict[str, str], record: Problem, measured: dict[str, int]) -> list[str]:
    def answer(request: Any, index: int) -> str:
        text = request.messages[-1].content
        return next((said for name, said in says.items() if name in text.split("PROBLEM")[0]), "[[no]]")

    context = Context(ScriptedEngine(answer), unused, 0, measure=measured.__setitem__)
    [made] = asyncio.run(stage(record, context))
    assert isinstance(made, Problem)
    return [one["source"] for one in msgspec.json.decode(made.meta)["passages"]]


def test_useful_ones_come_first_and_unread_ones_before_the_others() -> None:
    says = {"boats": "[[yes]]", "slate": "I would say so"}
    order = ranked(Rerank(), says, question(passages=HELD), {})
    assert order == ["boats", "slate", "sheep", "bees"]


def test_recall_is_of_the_passages_that_are_kept() -> None:
    measured: dict[str, int] = {}
    record = question(passages=HELD, gold=["boats", "bees"])
    assert ranked(Rerank(top_k=1), {"boats": "[[yes]]"}, record, measured) == ["boats"]
    assert measured == {"recall of what is kept, in %": 50}


def test_a_question_without_passages_is_rejected_and_costs_nothing() -> None:
    assert Rerank().estimate(question()).completions_max == 0
    assert Rerank().estimate(question(passages=HELD)).completions_max == 4
    with pytest.raises(RowRejected) as caught:
        ranked(Rerank(), {}, question(passages=["boats"]), {})
    assert caught.value.reason == "has no 'passages'"


def test_a_prompt_that_does_not_show_the_passage_is_an_error() -> None:
    with pytest.raises(RecipeError, match=r"\{passage\}"):
        Rerank(prompt=(Rerank().prompt[0],))


def test_a_re_ranking_model_orders_by_its_numbers() -> None:
    worth = {"sheep": "[[0.1]]", "boats": "[[3.5]]", "bees": "[[-2.0]]", "slate": "[[0.1]]"}

    def answer(request: Any, index: int) -> str:
        assert request.score and [m.content for m in request.messages] == ["How many boats?"]
        return next(number for name, number in worth.items() if name in request.prefix)

    context = Context(ScriptedEngine(answer, abilities=frozenset({Ability.REWARD})), unused, 0)
    [made] = asyncio.run(Rerank(by="reward")(question(passages=HELD), context))
    assert isinstance(made, Problem)
    assert [one["source"] for one in msgspec.json.decode(made.meta)["passages"]] == [
        "boats",
        "sheep",
        "slate",
        "bees",
    ]
    assert Rerank(by="reward").needs == {Ability.REWARD}
    assert Rerank(by="reward").estimate(question(passages=HELD)).completions_max == 4
