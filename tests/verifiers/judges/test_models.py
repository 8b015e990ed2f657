"""Model verifiers by name: what they need, what they say they cost, and what they cost."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import msgspec
import pytest

from gristmill.core.engine import Ability, Completion, Request, TokenLogprob, TokenScore
from gristmill.core.errors import RecipeError
from gristmill.core.registry import names
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ABILITIES, ScriptedEngine
from gristmill.verifiers.judges.loading import load_comparer, load_model_verifier
from gristmill.verifiers.raters.base import load_list_rater
from gristmill.verifiers.rules.choice import key
from gristmill.verifiers.rules.listed import read_options, split_options

OPTIONS: dict[str, dict[str, Any]] = {
    "binary_principles": {"principles": ["Is kind.", "Is brief."]},
    "instructed_judge": {"instructions": "Look the capital up."},
    "weighted_rubric": {"items": [{"text": "names a city"}, {"text": "is rude", "weight": -1}]},
    "salmon": {"principles": [{"text": "Is kind."}, {"text": "Is brief.", "variance": 0.5}]},
}
COMPARERS = ("judge", "checklist", "salmon", "critiques", "reasoned_judge", "tool_judge")
LISTS = ("principle_ranking", "bootstrapped")
PROBLEM = "Which city is the capital of France?\n(A) Rome\n(B) Paris\n(C) Bonn"
COMPLETION = "Rome is in Italy and Bonn in Germany. The answer is B."
PASSAGES = msgspec.json.encode(["Paris became the capital long ago."]).decode()


def answers(request: Request, index: int) -> str:
    asked = request.messages[-1].content
    if '"questions"' in asked:
        return '{"questions": ["Is it Paris?", "Is it brief?"]}'
    if "Which option" in asked:
        letter = next(line[1] for line in asked.splitlines() if line.endswith(") Paris"))
        return f"The answer is {letter}"
    if '"segments"' in asked:
        return '{"segments": []}'
    if any('"ratings"' in message.content for message in request.messages):
        return "It cannot be said."  # asked about once more, as JSON
    if "critici" in asked:
        return "[[3]]"
    marked = asked[asked.rindex("[[") + 2 :].partition("]]")[0]
    return f"Reasons. [[{marked}]]"


def test_every_registered_one_says_what_it_needs_and_costs() -> None:
    assert set(names("model_verifiers")) >= {"judge", "checklist", "grounding_judge", "option_shuffle"}
    for kind in names("model_verifiers"):
        loaders: list[Any] = [load_comparer] if kind in COMPARERS else []
        loaders += [] if kind in (*LISTS, "salmon") else [load_model_verifier]
        loaders += [load_list_rater] if kind in (*LISTS, "critiques") else []
        assert loaders
        for load in loaders:
            assert Ability.CHAT in load(kind, OPTIONS.get(kind, {})).needs


@pytest.mark.parametrize(
    ("kind", "reference", "outcome"),
    [
        ("judge", "Paris", Outcome.INCORRECT),
        ("judge", "", Outcome.CORRECT),
        ("checklist", "", Outcome.INCORRECT),
        ("binary_principles", "", Outcome.INCORRECT),
        ("option_shuffle", "B", Outcome.CORRECT),
        ("option_shuffle", "Rome", Outcome.INCORRECT),
        ("option_shuffle", "London", Outcome.ERROR),
        ("option_shuffle", "{", Outcome.ERROR),
        ("grounding_judge", PASSAGES, None),
        ("weighted_rubric", "", Outcome.INCORRECT),
        ("instructed_judge", "", Outcome.INCORRECT),
        ("reasoned_judge", "", Outcome.INCORRECT),
        ("tool_judge", "", Outcome.INCORRECT),
        ("critiques", "", Outcome.INCORRECT),
        ("segments", "", Outcome.CORRECT),
        ("ratings", "", Outcome.UNPARSEABLE),
    ],
)
def test_a_call_stays_within_its_estimate(kind: str, reference: str, outcome: Outcome | None) -> None:
    verifier = load_model_verifier(kind, OPTIONS.get(kind, {}))
    engine = ScriptedEngine(answers)
    found = asyncio.run(verifier(COMPLETION, reference, problem=PROBLEM, engine=engine, seed=3))
    assert isinstance(found, Verdict)
    if outcome is not None:
        assert found.outcome is outcome, found
    bounds = verifier.estimate(COMPLETION, reference, problem=PROBLEM)
    least = 0 if found.outcome is Outcome.ERROR else bounds.completions_min
    assert least <= engine.requests <= bounds.completions_max
    assert bounds.prompt_tokens > 0 and bounds.completion_tokens > 0


@pytest.mark.parametrize("kind", ["judge", "checklist", "critiques", "reasoned_judge", "tool_judge"])
def test_a_comparison_stays_within_its_estimate(kind: str) -> None:
    verifier = load_comparer(kind, {})
    engine = ScriptedEngine(answers)
    asyncio.run(verifier.compare("Paris.", "Rome.", problem=PROBLEM, engine=engine, seed=3))
    bounds = verifier.estimate_pair("Paris.", "Rome.", problem=PROBLEM)
    assert bounds.completions_min <= engine.requests <= bounds.completions_max


def test_votes_and_repairs_are_in_the_estimate() -> None:
    asking = {"votes": 3, "read": "json", "sampling": {"temperature": 0.7}}
    verifier = load_model_verifier("judge", {"asking": asking})
    engine = ScriptedEngine(lambda request, index: "no JSON")
    asyncio.run(verifier("x", "y", problem="z", engine=engine, seed=1))
    bounds = verifier.estimate("x", "y", problem="z")
    assert (bounds.completions_min, bounds.completions_max) == (3, 6)
    assert engine.requests <= 6


def test_an_options_list_is_parted_from_the_question() -> None:
    question, options = split_options(PROBLEM)
    assert question == "Which city is the capital of France?"
    assert options == read_options(PROBLEM) == ("Rome", "Paris", "Bonn")
    assert split_options("No options here.") == ("No options here.", ())


def test_the_options_of_the_reference_go_before_those_of_the_problem() -> None:
    asked: list[str] = []

    def answer(request: Request, index: int) -> str:
        asked.append(request.messages[-1].content)
        return answers(request, index)

    verifier = load_model_verifier("option_shuffle", {})
    reference = key(("Rome", "Paris", "Oslo"), "Paris")
    engine = ScriptedEngine(answer)
    found = asyncio.run(verifier(COMPLETION, reference, problem=PROBLEM, engine=engine, seed=3))
    assert found.outcome is Outcome.CORRECT
    assert "Oslo" in asked[0] and ") Bonn" not in asked[0]


def leaning(gaps: dict[str, float]) -> ScriptedEngine:
    """A judge whose logit of A over B is the gap of the principle shown, for the answer "one"."""

    def answer(request: Request, index: int) -> Completion:
        shown = request.messages[-1].content
        gap = next(g for p, g in gaps.items() if p in shown)
        a_is_one = shown.index("\none\n") < shown.index("\ntwo\n")
        p = 1 / (1 + math.exp(-gap if a_is_one else gap))
        said = "A" if p >= 0.5 else "B"
        top = (TokenScore("A", math.log(p)), TokenScore("B", math.log(1 - p)))
        return Completion(said, logprobs=(TokenLogprob(said, math.log(max(p, 1 - p)), top),))

    return ScriptedEngine(answer, abilities=ABILITIES | {Ability.LOGPROBS})


@pytest.mark.parametrize(
    ("gaps", "changes", "winner"),
    [
        ({"Is kind.": 1.0, "Is brief.": -0.4}, {}, "first"),
        # 0.4 / 0.25 = 1.6 is greater in size than 1.
        ({"Is kind.": 1.0, "Is brief.": -0.4}, {"variance": 0.25}, "second"),
        ({"Is kind.": 1.0, "Is brief.": -2.0}, {"negated": True}, "first"),
        ({"Is kind.": 0.0, "Is brief.": 0.0}, {}, "tie"),
    ],
)
def test_salmons_dominant_principle_decides(
    gaps: dict[str, float], changes: dict[str, Any], winner: str
) -> None:
    principles = [{"text": "Is kind."}, {"text": "Is brief.", **changes}]
    verifier = load_comparer("salmon", {"principles": principles})
    engine = leaning(gaps)
    found = asyncio.run(verifier.compare("one", "two", problem="P", engine=engine, seed=1))
    assert found.winner == winner, found
    assert engine.requests == verifier.estimate_pair("one", "two", problem="P").completions_max == 4


def test_wrong_names_and_shapes_are_refused() -> None:
    with pytest.raises(RecipeError, match="unknown model verifier 'jugde'"):
        load_model_verifier("jugde", {})
    with pytest.raises(RecipeError, match="math:Math does not judge single answers"):
        load_model_verifier("gristmill.verifiers.math:Math", {})
    with pytest.raises(RecipeError, match="variance"):
        load_comparer("salmon", {"principles": [{"text": "x", "variance": 0}]})
