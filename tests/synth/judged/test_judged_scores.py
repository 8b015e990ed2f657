"""Scorers that ask a judge: names, numbers, evidence, and what cannot be scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gristmill.core.engine import Request
from gristmill.core.errors import RecipeError
from gristmill.core.records import Sampled, score_of
from gristmill.core.verdicts import Outcome
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.judged import (
    AttributeScore,
    ChecklistScore,
    CritiqueScore,
    JudgeScore,
    PreferenceScore,
    PrincipleScore,
    ReasonedScore,
    RubricScore,
    SegmentScore,
    SelfCheck,
    ToolScore,
)
from gristmill.synth.scorers import ScorePairs, ScoreSamples
from gristmill.testing import check_scorer, context, pair, sampled
from gristmill.verifiers.judges.principles import BinaryPrinciples
from gristmill.verifiers.judges.rubric import Checklist
from gristmill.verifiers.raters import WeightedRubric
from gristmill.verifiers.raters.weighted import RubricItem

FIVE = {"helpfulness": 4, "correctness": 4, "coherence": 2, "complexity": 0, "verbosity": 1}
RUBRIC = WeightedRubric((RubricItem("shows its work", 2.0, "way"), RubricItem("says 4", 1.0, "end")))


def says(reply: str) -> Callable[[Request, int], str]:
    return lambda request, index: reply


def answers(request: Request, index: int) -> str:
    """A judge that answers whatever it is asked, in the form that it is asked for."""
    prompt = request.messages[1].content
    if '"ratings"' in prompt:
        return json.dumps({"justification": "So.", "ratings": FIVE})
    if '"segments"' in prompt:
        return json.dumps({"segments": [{"kind": "untrue", "quote": "2 + 2", "why": "No."}]})
    if '"preference"' in prompt:
        return json.dumps({"justification": "So.", "preference": 1})
    if '"questions"' in prompt:
        return json.dumps({"questions": ["Does it say 4?", "Is it short?"]})
    if "critici" in prompt:
        return "Principles. Critique. [[8]]"
    if "[[yes]]" in prompt:
        return "[[no]]" if "short" in prompt.split("[BEGIN QUESTION")[1] else "[[yes]]"
    if "[[A]]" in prompt:
        return "[[A]]"
    return "It does. [[correct]]" if "[[correct]]" in prompt else "[[5]]"


@pytest.mark.parametrize(
    ("scorer", "values"),
    [
        (JudgeScore(), {"s": 1.0}),
        (JudgeScore(reference="none"), {"s": 1.0}),
        (ChecklistScore(), {"s": 0.5}),
        (ChecklistScore(by=Checklist(("Does it say 4?",))), {"s": 1.0}),
        (RubricScore(by=RUBRIC), {"s": 1.0, "s_way": 1.0, "s_end": 1.0}),
        (PrincipleScore(by=BinaryPrinciples(("Be short.", "Be right."))), {"s": 0.5}),
        (AttributeScore(), {"s": 10 / 12, **{f"s_{name}": float(v) for name, v in FIVE.items()}}),
        (SegmentScore(), {"s": 0.8, "s_irrelevant": 1.0, "s_untrue": 0.8, "s_incomplete": 1.0}),
        (ToolScore(), {"s": 1.0}),
        (CritiqueScore(), {"s": 7 / 9}),
        (ReasonedScore(), {"s": 1.0}),
        (SelfCheck(), {"s": 1.0}),
    ],
    ids=lambda given: type(given).__name__,
)
def test_every_scorer_writes_what_it_names(scorer: Any, values: dict[str, float]) -> None:
    found = check_scorer(scorer, [sampled()], context(answers))
    assert {one.name: one.value for one in found} == pytest.approx(values)
    assert found[0].verdict is not None and found[0].verdict.decided
    for one in check_scorer(scorer, [sampled(finish_reason="length")], context(says("never"))):
        assert one.value is None and one.verdict is not None and one.verdict.rule == "unfinished"
    for one in check_scorer(scorer, [sampled()], context(says("Hm, hard to say"))):
        assert one.value is None and one.verdict is not None and not one.verdict.decided


def test_a_baseline_is_compared_in_both_orders() -> None:
    def better(request: Request, index: int) -> str:
        prompt = request.messages[-1].content
        return "[[A]]" if prompt.index("2 + 2 = 4") < prompt.index("Four, I think") else "[[B]]"

    record = sampled(meta=json.dumps({"baseline": "Four, I think."}))
    [won] = check_scorer(JudgeScore(against="baseline"), [record], context(better))
    assert (won.value, won.verdict and won.verdict.outcome) == (1.0, Outcome.CORRECT)
    [tied] = check_scorer(JudgeScore(against="baseline"), [record], context(says("[[A]]")))
    assert tied.value == 0.5 and tied.verdict is not None and not tied.verdict.decided
    assert tied.verdict.score is None
    [open_] = check_scorer(JudgeScore(against="baseline"), [record], context(says("Hm.")))
    assert open_.value is None
    [made] = run(ScoreSamples(scorer={"kind": "judge", "against": "baseline"}), sampled(), answers)
    lacking = score_of(made, "judge")
    assert lacking is not None and lacking.value is None
    assert lacking.verdict is not None and lacking.verdict.rule == "has no 'baseline'"


def run(stage: Any, record: Any, say: Callable[[Request, int], str]) -> Any:
    import asyncio

    return asyncio.run(stage(record, context(say)))


def test_the_stage_score_takes_them_by_name() -> None:
    stage = ScoreSamples(scorer={"kind": "ratings"}, score="quality")
    [made] = run(stage, sampled(), answers)
    helpful, whole = score_of(made, "quality_helpfulness"), score_of(made, "quality")
    assert helpful is not None and helpful.value == 4.0
    assert whole is not None and whole.verdict is not None
    assert json.loads(whole.verdict.detail)["justification"] == ["So."]
    sides = ScorePairs(scorer={"kind": "rubric", "by": {"items": [{"text": "says 4"}]}})
    [both] = run(sides, pair(), answers)
    assert [s.name for s in both.scores] == ["chosen_rubric", "rejected_rubric"]


def test_a_row_without_what_the_judge_reads_is_kept_and_says_so() -> None:
    stage = ScoreSamples(scorer={"kind": "principles", "by": {"column": "principles"}})
    [made] = run(stage, sampled(), answers)
    score = score_of(made, "principles")
    assert score is not None and score.value is None
    assert score.verdict is not None and score.verdict.rule == "no principles"
    assert stage.estimate(sampled()).completions_max == 0  # type: ignore[union-attr]
    [told] = run(stage, sampled(meta=json.dumps({"principles": "Be right."})), answers)
    found = score_of(told, "principles")
    assert found is not None and found.value == 1.0


def test_a_model_checks_its_own_answers() -> None:
    asked: list[str] = []

    def named(name: str) -> ScriptedEngine:
        def answer(request: Request, index: int) -> str:
            asked.append(name)
            assert "REFERENCE" not in request.messages[-1].content
            return "[[no]]"

        return ScriptedEngine(answer, model=name)

    engines = {"small": named("small"), "large": named("large")}
    given = context(named("own"), engines=engines)  # type: ignore[arg-type]
    check_scorer(SelfCheck(), [sampled(model="large")], given)
    check_scorer(SelfCheck(), [sampled()], given)
    check_scorer(SelfCheck(engine="small"), [sampled(model="gone")], given)
    assert asked == ["large"] * 2 + ["own"] * 2 + ["small"] * 2


def test_a_preference_is_a_score_of_the_pair() -> None:
    def prefers(request: Request, index: int) -> str:
        prompt = request.messages[1].content
        chosen_first = prompt.index("\\boxed{4}") < prompt.index("\\boxed{5}")
        return json.dumps({"justification": "4 it is.", "preference": -3 if chosen_first else 2})

    [found] = check_scorer(PreferenceScore(), [pair()], context(prefers))
    assert found.value == 2.5 and found.verdict is not None and found.verdict.correct
    told = json.loads(found.verdict.detail)
    assert told["justification"] == ["4 it is.", "4 it is."] and told["orders"] == [3.0, 2.0]
    [none] = check_scorer(PreferenceScore(), [pair()], context(answers))
    assert none.value == 0.0 and none.verdict is not None and not none.verdict.decided
    [unread] = check_scorer(PreferenceScore(), [pair()], context(says("Hm.")))
    assert unread.value is None


def test_wrong_options_are_refused_when_the_stage_is_made() -> None:
    for scorer, why in (
        ({"kind": "judge", "by": {"kind": "juge"}}, "Did you mean 'judge'"),
        ({"kind": "judge", "by": {"kind": "option_shuffle"}, "against": "x"}, "does not compare"),
        ({"kind": "judge", "by": {"kind": "salmon", "principles": [{"text": "a"}]}}, "does not judge single"),
        ({"kind": "rubric", "by": {}}, "the rubric has no items"),
        ({"kind": "checklist", "by": {"limits": 3}}, "limits"),
    ):
        with pytest.raises(RecipeError, match=why):
            ScoreSamples(scorer=scorer)


def test_the_engine_that_is_named_is_the_one_that_needs_the_abilities() -> None:
    own, other = JudgeScore(), JudgeScore(engine="large")
    assert own.needs and not own.uses
    assert not other.needs and other.uses == {"large": own.needs}


def test_samples_of_one_problem_with_equal_answers_are_asked_about_once() -> None:
    seen: set[str] = set()

    def answer(request: Request, index: int) -> str:
        seen.add(repr(request))
        return answers(request, index)

    for record in (sampled("p1/0"), sampled("p1/1", index=1)):
        assert isinstance(record, Sampled)
        run(ScoreSamples(scorer="reasoned"), record, answer)
    assert len(seen) == 1
