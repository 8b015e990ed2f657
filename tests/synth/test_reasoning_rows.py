"""The reasoning of completions in the records that stages make of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gristmill.core.engine import Completion, Message, Request
from gristmill.core.records import Problem
from gristmill.core.stages import Context
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.demonstrations import Demonstrations
from gristmill.synth.ranking import JudgeRanking
from gristmill.synth.refusal.probe import KnowledgeSamples, ProbeKnowledge
from gristmill.synth.sampling import Sample

PROBLEM = Problem("p", "What is 2 + 2?", "4")
Answer = Callable[[Request, int], Completion | str]


async def equal(completion: str, reference: str) -> Verdict:
    return Verdict(Outcome.CORRECT if completion == reference else Outcome.INCORRECT, extracted=completion)


def work(stage: Any, answer: Answer, record: Any = PROBLEM) -> list[Any]:
    return list(asyncio.run(stage(record, Context(ScriptedEngine(answer), equal, 0))))


def thinks(request: Request, index: int) -> Completion:
    turn = sum(m.role == "assistant" for m in request.messages)
    return Completion("4", "stop", 5, 10, reasoning=f"turn {turn}, 3 is wrong", reasoning_tokens=7)


@pytest.mark.parametrize("keep", [False, True])
def test_a_sample_has_the_reasoning_of_its_last_turn_and_the_verdict_on_its_answer(keep: bool) -> None:
    [made] = work(Sample(follow_ups=("Sure?",), keep_reasoning=keep), thinks)
    assert (made.completion, made.reasoning) == ("4", "turn 1, 3 is wrong")
    assert (made.completion_tokens, made.reasoning_tokens) == (20, 14)
    assert made.verdict.outcome is Outcome.CORRECT
    assert made.messages[1] == Message("assistant", "4", "turn 0, 3 is wrong" if keep else "")


def test_a_demonstration_has_it_before_the_turn() -> None:
    [made] = work(Sample(follow_ups=("Sure?",), keep_reasoning=True), thinks)
    [shown] = work(Demonstrations(), thinks, made)
    assert [t.reasoning for t in shown.turns] == ["", "turn 0, 3 is wrong", "", "turn 1, 3 is wrong"]


def test_the_answers_of_a_probe_have_it() -> None:
    [known] = work(ProbeKnowledge(samples=2), thinks)
    samples = work(KnowledgeSamples(), thinks, known)
    assert [(s.reasoning, s.reasoning_tokens) for s in samples] == [("turn 0, 3 is wrong", 7)] * 2


def test_both_sides_of_a_ranking_have_it_and_the_judge_is_not_shown_it() -> None:
    seen: list[str] = []

    def answer(request: Request, index: int) -> Completion:
        asked = request.messages[-1].content
        if "BEGIN RESPONSE" in asked:
            seen.append(asked)
            first = asked.index("four") < asked.index("five")
            return Completion("[[1 > 2]]" if first else "[[2 > 1]]", reasoning="[[2 > 1]] or not?")
        return Completion(("four", "five")[index], reasoning=f"thought of {index}")

    [pair] = work(JudgeRanking(sample=Sample(samples=2, verify=False)), answer)
    assert pair.chosen == (Message("assistant", "four", "thought of 0"),)
    assert pair.rejected == (Message("assistant", "five", "thought of 1"),)
    assert seen and not any("thought of" in text for text in seen)
