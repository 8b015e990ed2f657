"""All samples of a problem weighed against each other."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gristmill.core.engine import Ability, Completion, Request
from gristmill.core.errors import RecipeError
from gristmill.core.records import Pair, Problem, Sampled
from gristmill.core.stages import Context, Rejection
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.ranking import BackwardVote, ContrastiveRubrics, JudgeRanking, RubricRow
from gristmill.synth.sampling import Sample
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.judge import Judge
from gristmill.verifiers.judges.rubric import ContrastiveRubric

Answer = Callable[[Request, int], Completion | str]
PROBLEM = Problem("p1", "Tom has 3 apples and buys 9 more. How many are there?", "12")


async def twelve(completion: str, reference: str) -> Verdict:
    return Verdict(Outcome.CORRECT if "12" in completion else Outcome.INCORRECT)


def work(stage: Any, own: Answer, other: Answer | None = None) -> tuple[list[Any], list[ScriptedEngine]]:
    engines = [ScriptedEngine(own), ScriptedEngine(other or own)]
    context = Context(engines[0], twelve, 7, {"other": engines[1]})
    return list(asyncio.run(stage(PROBLEM, context))), engines


def list_of(texts: dict[str, int]) -> Answer:
    """A judge that orders responses by their worth in ``texts``, the best first."""

    def answer(request: Request, index: int) -> str:
        shown = re.findall(r"\[BEGIN RESPONSE (\d+) \w+\]\n(.*?)\n\[END", request.messages[-1].content, re.S)
        best = sorted(shown, key=lambda one: -texts[one[1]])
        return f"[[{' > '.join(number for number, _ in best)}]]"

    return answer


DRAWN = ("It is 12.", "It is 11.", "It is 12.", "It is 13.")


def draws(request: Request, index: int) -> str:
    return DRAWN[index]


def test_the_best_and_the_worst_of_the_samples_make_a_pair() -> None:
    stage = JudgeRanking(judge_engine="other")
    made, engines = work(stage, draws, list_of({"It is 12.": 3, "It is 13.": 2, "It is 11.": 1}))
    [pair] = made
    assert isinstance(pair, Pair)
    assert (pair.chosen[0].content, pair.rejected[0].content) == ("It is 12.", "It is 11.")
    assert pair.prompt[0].content == PROBLEM.problem
    assert stage.uses == {"other": {Ability.CHAT}}
    assert engines[1].requests == 4
    assert stage.estimate(PROBLEM).completions_max == 4 + 4


@pytest.mark.parametrize(
    ("own", "judge", "reason"),
    [
        (lambda r, i: "It is 12.", None, "fewer than two different answers"),
        (lambda r, i: Completion(DRAWN[i], "length"), None, "fewer than two different answers"),
        (lambda r, i: ("Solution", "It is 12.")[i % 2], None, "fewer than two answers that say something"),
        (draws, lambda r, i: "They are all alike.", "no order could be read"),
        (draws, lambda r, i: "[[1 > 2 > 3]]", "the best or the worst is shared"),
    ],
)
def test_problems_without_a_best_and_a_worst_are_rejected(own: Any, judge: Any, reason: str) -> None:
    stage = JudgeRanking(judge_engine="other", judge=Judge(shuffles=3))
    [made], _ = work(stage, own, judge)
    assert isinstance(made, Rejection) and made.reason == reason


def recovers(request: Request, index: int) -> str:
    """Answers backward questions rightly for 12, by name of the unknown, and wrongly for the others."""
    asked = request.messages[-1].content
    right = "3" if "9 more" in asked else "9"
    return f"The answer is {right if 'answer to this question is 12' in asked else '7'}"


def test_backward_questions_turn_a_vote() -> None:
    stage = BackwardVote(sample=Sample(samples=5), samples=2, backward_engine="other")
    answers = ("\\boxed{13}", "\\boxed{13}", "\\boxed{12}", "\\boxed{\\frac{24}{2}}", "Who knows.")
    made, engines = work(
        stage, lambda r, i: answers[i] if i < 4 else Completion("It is 12", "length"), recovers
    )
    outcomes = [s.verdict.outcome for s in made]
    assert outcomes == ["incorrect", "incorrect", "correct", "correct", "unparseable"]
    assert all(isinstance(s, Sampled) for s in made)
    assert made[2].verdict.extracted == made[3].verdict.extracted == "12"
    assert made[2].verdict.score > 0.99
    detail = msgspec.json.decode(made[0].verdict.detail)
    assert [(c["label"], c["votes"], c["recovered"], c["trials"]) for c in detail["candidates"]] == [
        ("13", 2, 0, 4),
        ("12", 2, 4, 4),
    ]
    assert engines[1].requests <= 8
    assert stage.estimate(PROBLEM).completions_max == 5 + 5 * 2 * 2


def test_a_tie_decides_nothing_and_too_few_samples_are_refused() -> None:
    made, _ = work(
        BackwardVote(sample=Sample(samples=2), samples=1, backward_engine="other"),
        lambda r, i: ("\\boxed{12}", "\\boxed{13}")[i],
        lambda r, i: "The answer is 7",
    )
    assert [s.verdict.rule for s in made] == ["backward vote: tie"] * 2
    for kind, least in ((BackwardVote, 2), (JudgeRanking, 2), (ContrastiveRubrics, 4)):
        with pytest.raises(RecipeError, match=rf"sample.samples to at least {least}"):
            kind(sample=Sample(samples=least - 1))


TEXT = ContrastiveRubric(judge=Judge(asking=Asking(read="text")))
RULES = '{"hard_rules": ["Adds what was bought."], "principles": ["Is brief."]}'
SAID = ("12 it is.", "There are 12.", "There are 11.", "I say 13.")


def referee(right: str) -> Answer:
    def answer(request: Request, index: int) -> str:
        asked = request.messages[-1].content
        if "hard_rules" in asked:
            return RULES
        return "[[A]]" if asked.index(right) < asked.index("[BEGIN RESPONSE B") else "[[B]]"

    return answer


def test_a_rubric_that_recovers_the_held_out_pair_is_kept() -> None:
    stage = ContrastiveRubrics(rubric=TEXT, judge_engine="other")
    [made], engines = work(stage, lambda r, i: SAID[i], referee("There are 12."))
    assert made == RubricRow("p1", PROBLEM.problem, ("Adds what was bought.",), ("Is brief.",), 1)
    assert engines[1].requests == 3
    assert stage.estimate(PROBLEM).completions_max == 4 + 2 + 2


@pytest.mark.parametrize(
    ("said", "judge", "reason"),
    [
        (SAID, referee("I say 13."), "rubric: not recovered"),
        (SAID, lambda r, i: "No rules.", "rubric: unreadable"),
        (("12.", "11.", "11.", "13."), referee("12."), "fewer than two pairs"),
    ],
)
def test_other_rubrics_are_rejected_with_the_reason(said: Any, judge: Any, reason: str) -> None:
    [made], _ = work(ContrastiveRubrics(rubric=TEXT, judge_engine="other"), lambda r, i: said[i], judge)
    assert isinstance(made, Rejection) and made.reason == reason


def test_probabilities_are_needed_of_whoever_judges() -> None:
    weighed = ContrastiveRubric(judge=Judge(asking=Asking(read="probabilities")))
    assert ContrastiveRubrics(rubric=weighed).needs == {Ability.CHAT, Ability.LOGPROBS}
    elsewhere = ContrastiveRubrics(rubric=weighed, judge_engine="other")
    assert elsewhere.needs == {Ability.CHAT}
    assert elsewhere.uses == {"other": {Ability.CHAT, Ability.LOGPROBS}}
