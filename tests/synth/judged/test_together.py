"""Samples that are rated together, and the best of several refined by a checklist."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import RecipeError
from gristmill.core.records import Sampled, score_of
from gristmill.core.stages import Rejection
from gristmill.synth.judged import RateTogether, Stick
from gristmill.synth.sampling import Sample
from gristmill.testing import check_row_stage, context, problem
from gristmill.verifiers.judges.rubric import Checklist

WORTH = {"four": 3, "is 4": 5, "perhaps": 1}
DRAWN = ["It is 4.", "perhaps 4", "four: 4", "It is 4."]


def replies(*drawn: str) -> Callable[[Request, int], Completion | str]:
    """Samples that are ``drawn``, and a judge that knows their worth."""

    def answer(request: Request, index: int) -> Completion | str:
        if request.messages[0].role == "user":
            text = drawn[index % len(drawn)]
            return Completion(text[:-3], finish_reason="length") if text.endswith("...") else text
        shown = [b.split("[END")[0] for b in request.messages[1].content.split("[BEGIN RESPONSE")[1:]]
        worth = [next(w for text, w in WORTH.items() if text in block) for block in shown]
        order = sorted(range(len(worth)), key=lambda i: -worth[i])
        return json.dumps({"reason": "", "scores": worth, "ranking": [i + 1 for i in order]})

    return answer


def scores(found: list[Any], name: str = "rating") -> list[float | None]:
    return [score_of(one, name).value for one in found if isinstance(one, Sampled)]  # type: ignore[union-attr]


def test_every_sample_keeps_its_number() -> None:
    stage = RateTogether(rater={"kind": "principle_ranking", "principle": "Be sure."}, evidence=True)
    found = check_row_stage(stage, [problem()], context(replies(*DRAWN)))
    assert scores(found) == [1.0, 0.0, 0.5, 1.0]
    first = found[0]
    assert isinstance(first, Sampled) and first.verdict is not None and first.verdict.correct
    told = json.loads(json.loads(first.meta)["rating_evidence"])
    assert len(told["replies"]) == 2 and told["replies"][0]["scores"] == [5, 1, 3]


def test_samples_that_cannot_be_shown_are_not_rated() -> None:
    stage = RateTogether(rater={"kind": "principle_ranking", "principle": "Be sure."})
    found = check_row_stage(stage, [problem()], context(replies("It is 4.", "It is...", "Solution:", "four")))
    assert scores(found) == [1.0, None, None, 0.5]
    alone = check_row_stage(stage, [problem()], context(replies("It is 4.")))
    assert scores(alone) == [None] * 4


def test_a_principle_of_the_row_is_used_and_a_row_without_is_rejected() -> None:
    stage = RateTogether()
    seen: list[str] = []

    def answer(request: Request, index: int) -> Completion | str:
        seen.append(request.messages[-1].content)
        return replies(*DRAWN)(request, index)

    row = problem(meta=json.dumps({"principle": "Sound like a pirate."}))
    check_row_stage(stage, [row], context(answer))
    assert any("Sound like a pirate." in prompt for prompt in seen)
    [found] = check_row_stage(stage, [problem()], context(answer))
    assert isinstance(found, Rejection) and found.reason == "no principle"


def test_wrong_raters_are_refused() -> None:
    with pytest.raises(RecipeError, match="does not rate several answers"):
        RateTogether(rater={"kind": "checklist"})
    with pytest.raises(RecipeError, match="too few to weigh"):
        RateTogether(sample=Sample(samples=1))


QUESTIONS = ("Does it say 4?", "Does it show the sum?", "Is it polite?")


def checklist(refined: list[str], drawn: list[str]) -> Callable[[Request, int], Completion | str]:
    """Samples, a checklist whose questions are met by words, and refinements one after the other."""
    met = {"Does it say 4?": "4", "Does it show the sum?": "2 + 2", "Is it polite?": "please"}

    def answer(request: Request, index: int) -> Completion | str:
        prompt = request.messages[-1].content
        if "does not yet meet these demands" in prompt:
            before = prompt.split("[BEGIN RESPONSE")[1].split("[END")[0]
            return next((text for text in refined if text not in before), refined[-1])
        if request.messages[0].role == "user":
            return drawn[index % len(drawn)]
        question = prompt.split("[BEGIN QUESTION")[1].split("]\n")[1].split("\n")[0]
        response = prompt.split("[BEGIN RESPONSE")[1].split("[END")[0]
        return "[[yes]]" if met[question] in response else "[[no]]"

    return answer


STICK = Stick(checklist=Checklist(QUESTIONS), sample=Sample(samples=3), rounds=2)


def kept(found: list[Any]) -> Sampled:
    [one] = found
    assert isinstance(one, Sampled)
    return one


def test_the_best_sample_is_refined_as_long_as_that_helps() -> None:
    say = checklist(["2 + 2 is 4.", "please: 2 + 2 is 4."], ["It is 5.", "It is 4.", "Four."])
    made = kept(check_row_stage(STICK, [problem()], context(say)))
    assert made.id == "p1/stick" and made.completion == "please: 2 + 2 is 4."
    assert scores([made], "checklist") == [1.0]
    assert made.verdict is not None and made.verdict.correct
    assert [m.content for m in made.messages] == ["What is 2 + 2?"]  # what it would be trained to answer


def test_a_refinement_that_does_not_help_is_dropped_but_paid_for() -> None:
    say = checklist(["It is 5 now."], ["It is 4.", "It is 5."])
    made = kept(check_row_stage(STICK, [problem()], context(say)))
    assert made.completion == "It is 4." and made.completion_tokens == 3 + 4
    assert scores([made], "checklist") == [pytest.approx(1 / 3)]
    only = Stick(checklist=Checklist(QUESTIONS), rounds=0)
    assert kept(check_row_stage(only, [problem()], context(say))).completion_tokens == 3


def test_what_cannot_be_checked_is_rejected_with_the_reason() -> None:
    def hm(request: Request, index: int) -> str:
        return "It is 4." if request.messages[0].role == "user" else "Hm."

    for stage, say, reason in (
        (STICK, hm, "no answer could be checked"),
        (Stick(), hm, "no checklist"),
        (STICK, lambda request, index: "Solution:", "no finished answer that says something"),
    ):
        [found] = check_row_stage(stage, [problem()], context(say))
        assert isinstance(found, Rejection) and found.reason == reason
