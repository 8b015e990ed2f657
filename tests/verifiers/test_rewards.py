"""Reward functions in the form in which TRL and verl call them."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sandboxes import USABLE

from gristmill.core.errors import RecipeError
from gristmill.core.registry import find
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.log.tools import stats
from gristmill.engines.scripted import Reply, Scripted
from gristmill.filters.rewards import KimiLength
from gristmill.verifiers.code.verifier import Code
from gristmill.verifiers.grounding.verifier import Grounding
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.judge import Judge
from gristmill.verifiers.judges.rubric import Checklist
from gristmill.verifiers.loading import load
from gristmill.verifiers.math import Math
from gristmill.verifiers.rewards import as_trl_reward, as_verl_batch_reward, as_verl_reward
from gristmill.verifiers.rules.choice import Choice
from gristmill.verifiers.rules.combine import Combine
from gristmill.verifiers.rules.constraints import Constraints, Quoted
from gristmill.verifiers.rules.formats import Format
from gristmill.verifiers.rules.overlap import Bleu
from gristmill.verifiers.rules.short_answer import ShortAnswer
from gristmill.verifiers.shaped import Shaped
from gristmill.verifiers.worth import RewardScale, strict

BUILT_IN = (
    *("math", "short_answer", "choice", "format", "constraints"),
    *("combine", "bleu", "code", "grounding"),
)

CHAT = [
    [{"role": "assistant", "content": "\\boxed{12}"}],
    [{"role": "assistant", "content": "\\boxed{13}"}],
    [{"role": "assistant", "content": "no idea"}],
]


def test_trl_calls_it_with_completions_and_columns() -> None:
    reward = as_trl_reward("math", workers=1)
    columns = {"answer": ["12"] * 3, "prompts": ["?"] * 3, "completion_ids": [[1]] * 3, "trainer_state": None}
    assert reward(completions=CHAT, **columns) == [1.0, 0.0, None]
    assert reward(completions=["\\boxed{12}", "13"], answer=["12", "12"]) == [1.0, 0.0]
    assert reward.__name__ == "gristmill_math"


def test_a_missing_column_is_named_with_those_there_are() -> None:
    with pytest.raises(RecipeError, match=r"no column 'gold'.*It has: answer, prompts"):
        as_trl_reward(reference="gold", workers=1)(["1"], answer=["1"], prompts=["?"])


def test_verl_calls_it_row_by_row() -> None:
    score = as_verl_reward("math", undecided=-0.1, workers=1)
    assert score("gsm8k", "\\boxed{12}", "12", extra_info={"index": 1}) == 1.0
    assert score("gsm8k", "\\boxed{13}", "12") == 0.0
    assert score(data_source="gsm8k", solution_str="Who knows.", ground_truth="12", extra_info=None) == -0.1


def test_choice_gets_the_options_of_a_row() -> None:
    reward = as_trl_reward("choice", workers=1)
    columns = {"choices": [["Paris", "Rome"], ["Rome", "Paris"]], "trainer_state": None}
    assert reward(["It is Rome."] * 2, answer=["B", "B"], prompts=["Capital?"] * 2, **columns) == [1.0, 0.0]
    listed = "Capital?\n(A) Rome\n(B) Paris"
    assert reward(["It is Rome."], answer=["A"], prompts=[[{"role": "user", "content": listed}]]) == [1.0]
    score = as_verl_reward(Choice(), workers=1)
    assert score("mmlu", "It is Rome.", "B", extra_info={"A": "Paris", "B": "Rome"}) == 1.0


VERIFIERS = [
    Math(),
    ShortAnswer(),
    Choice(),
    Format(refusal="forbidden"),
    Constraints(checks=(Quoted(),)),
    Combine(parts=({"kind": "math"}, {"kind": "choice"}), mode="any"),
    Bleu(),
    Code(),
    Grounding(),
]


@pytest.mark.parametrize("verifier", VERIFIERS, ids=lambda v: type(v).__name__)
def test_every_built_in_verifier_is_a_reward(verifier: Any) -> None:
    trl, verl = as_trl_reward(verifier, workers=1), as_verl_reward(verifier, workers=1)
    assert trl.__name__ == f"gristmill_{type(verifier).__name__.lower()}"
    assert callable(verl)
    # What a worker is sent makes the same verifier there.
    options = msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(verifier)))
    assert load(f"{type(verifier).__module__}:{type(verifier).__qualname__}", options) == verifier


def test_the_list_above_is_of_all_that_are_registered() -> None:
    assert {type(v) for v in VERIFIERS} == {find("verifiers", name) for name in BUILT_IN}


def test_an_objects_options_reach_the_worker() -> None:
    assert as_trl_reward(Math(tolerance_relative=0.1), workers=1)(["\\boxed{1.55}"], answer=["1.5"]) == [1.0]
    assert as_trl_reward(Math(), workers=1)(["\\boxed{1.05}"], answer=["1.0"]) == [0.0]
    assert as_verl_reward(ShortAnswer(), workers=1)("", "Paris", "paris") == 1.0


def test_parts_that_are_functions_cannot_be_sent_to_a_worker() -> None:
    with pytest.raises(RecipeError, match=r"combine cannot be sent.*\{kind: NAME"):
        as_trl_reward(Combine(parts=(lambda completion, reference: None,)))


ENGINE = Scripted(
    replies=(
        Reply(("Yes. [[correct]]",), match="good"),
        Reply(("No. [[incorrect]]",), match="bad"),
        Reply(("Cannot say.",)),
    )
)
PROMPTS = [[{"role": "system", "content": "s"}, {"role": "user", "content": "2 + 2?"}]] * 3


def test_a_judge_is_a_reward_with_an_engine(tmp_path: Path) -> None:
    judge = Judge(asking=Asking(read="text"))
    reward = as_trl_reward(judge, engine=ENGINE, wrong=-1.0, undecided=-2.0, log=tmp_path / "log.sqlite")
    assert reward(completions=["good", "bad", "?"], prompts=PROMPTS, answer=["4"] * 3) == [1.0, -1.0, -2.0]
    assert reward.__name__ == "gristmill_judge"
    assert stats(tmp_path / "log.sqlite").models[0].completions == 2  # "?" has no content to be judged
    named = as_trl_reward("judge", engine=ENGINE, options={"asking": {"read": "text"}}, problem="question")
    assert named(["good"], question=["2 + 2?"], answer=["4"]) == [1.0]


def test_a_reward_without_references_asks_for_none() -> None:
    yes = Scripted(replies=(Reply(("[[yes]]",)),))
    reward = as_trl_reward(Checklist(questions=("Is it kind?",)), engine=yes, reference="")
    assert reward(["Hello!"], prompts=["Greet me."]) == [1.0]


def test_verl_gives_the_problem_in_extra_info() -> None:
    score = as_verl_reward(Judge(asking=Asking(read="text")), engine=ENGINE, undecided=-0.5)
    assert score("d", "good", "4", {"problem": "2 + 2?"}) == 1.0
    assert score("d", "?", "4", {"problem": "2 + 2?"}) == -0.5
    with pytest.raises(RecipeError, match=r"no 'problem'.*has: index"):
        score("d", "good", "4", {"index": 1})


def test_engines_are_for_verifiers_that_ask_a_model() -> None:
    with pytest.raises(RecipeError, match="judge asks a model, and there is none"):
        as_trl_reward(Judge())
    with pytest.raises(RecipeError, match="math does not ask a model"):
        as_trl_reward(Math(), engine=ENGINE)
    with pytest.raises(RecipeError, match="unknown model verifier 'math'"):
        as_trl_reward("math", engine=ENGINE)


def test_a_score_is_the_reward_where_there_is_one() -> None:
    text, reference = "the cat sat on a mat today", "the cat sat on the mat today"
    verdict = Bleu()(text, reference)
    assert verdict.score is not None and 0.3 < verdict.score < 0.7
    assert as_trl_reward(Bleu(), workers=1)([text], answer=[reference]) == [verdict.score]
    assert as_verl_reward(Bleu(), workers=1, wrong=-1.0, undecided=-1.0)(
        "", text, reference
    ) == pytest.approx(2 * verdict.score - 1)
    assert as_trl_reward(Bleu(), workers=1, graded=False)([text], answer=[reference]) == [
        float(verdict.correct)
    ]


@pytest.mark.parametrize(
    ("worth", "outcome", "score", "reward"),
    [
        (RewardScale(), Outcome.INCORRECT, 0.489, 0.489),
        (RewardScale(right=2.0, wrong=-1.0, undecided=-1.0), Outcome.INCORRECT, 0.5, 0.5),
        (RewardScale(graded=False), Outcome.INCORRECT, 0.489, 0.0),
        (RewardScale(), Outcome.CORRECT, None, 1.0),
        (RewardScale(), Outcome.TIMEOUT, None, None),
        (RewardScale(undecided=-0.5), Outcome.ERROR, None, -0.5),
        (RewardScale(undecided={"timeout": -1.0, "error": None}), Outcome.TIMEOUT, None, -1.0),
        (RewardScale(undecided={"timeout": -1.0, "error": None}), Outcome.ERROR, None, None),
        (RewardScale(undecided={"timeout": -1.0, "error": None}), Outcome.UNPARSEABLE, None, 0.0),
    ],
)
def test_what_verdicts_are_worth(
    worth: RewardScale, outcome: Outcome, score: float | None, reward: float | None
) -> None:
    assert worth.of(Verdict(outcome, score=score)) == reward


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"undecided": 0.1}, r"unparseable is worth 0\.1, more than 0 for a wrong answer"),
        ({"wrong": -1.0}, r"left out \(None\), which trainers count as 0: more than -1"),
        ({"wrong": -1.0, "undecided": {"timeout": -0.5}}, r"timeout is worth -0\.5, more than -1"),
        ({"wrong": -1.0, "undecided": {"timeout": None}}, "left out"),
        ({"undecided": float("nan")}, "is worth nan"),
        ({"undecided": {"correct": 0.0}}, "'correct' is not an outcome that decides nothing"),
        ({"right": -1.0}, "right is worth -1 and wrong 0"),
        ({"right": float("inf")}, "right is worth inf"),
    ],
)
def test_no_choice_pays_more_for_deciding_nothing_than_for_a_wrong_answer(
    options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(RecipeError, match=problem):
        as_trl_reward("math", **options)
    if options.get("wrong") != -1.0 or "undecided" in options:
        with pytest.raises(RecipeError, match=problem):
            as_verl_reward("math", **options)


@pytest.mark.slow
def test_a_program_that_stalls_earns_what_a_wrong_one_does_and_keeps_its_partial_credit() -> None:
    tests = json.dumps({"calls": [{"function": "f", "args": [i], "expected": i} for i in (1, 2)]})
    programs = [
        "def f(x):\n    while True: pass",
        "def f(x): return 0",
        "def f(x):\n    while x > 1: pass\n    return x",
        "def f(x): return 1",
        "def f(x): return x",
        "import os, signal\ndef f(x): os.kill(os.getppid(), signal.SIGKILL)",
    ]
    options: dict[str, Any] = {"wall_seconds": 1.0, "cpu_seconds": 1.0, "allow_root": True, "sandbox": USABLE}
    for reward in (
        as_trl_reward("code", options=options, workers=1, deadline=60.0),
        as_trl_reward(Code(**options), workers=1, deadline=60.0),
    ):
        texts = [f"```python\n{program}\n```" for program in programs]
        assert reward(texts, answer=[tests] * len(texts)) == [0.0, 0.0, 0.5, 0.5, 1.0, 0.0]


def test_strict_is_the_default_of_rewards_alone_and_reaches_parts() -> None:
    fields = Code.__struct_fields__
    assert strict({}, fields) == strict({"strict": None}, fields) == {"strict": True}
    assert strict({"strict": False}, fields) == {"strict": False}
    parts = {"parts": [{"kind": "code"}, {"kind": "math"}, {"kind": "combine", "parts": [{"kind": "code"}]}]}
    assert strict(parts, Combine.__struct_fields__) == {
        "parts": [
            {"kind": "code", "strict": True},
            {"kind": "math"},
            {"kind": "combine", "parts": [{"kind": "code", "strict": True}]},
        ]
    }
    assert Code(allow_root=True, sandbox=USABLE).strict is None


def test_verl_hands_over_arrays() -> None:
    infos = np.array([{"index": 0}] * 2 + [{"index": 1}], dtype=object)
    sources, truths = np.array(["g"] * 3, dtype=object), np.array(["12", "12", "5"], dtype=object)
    shape = Shaped(shape=KimiLength(), length="words", group="index")
    score = as_verl_batch_reward("math", shape=shape, undecided=-1.0, workers=1)
    texts = ["\\boxed{12}", "It is \\boxed{12}", "\\boxed{4}"]
    made = score(data_sources=sources, solution_strs=texts, ground_truths=truths, extra_infos=infos, k=1)
    assert made == [1.5, 0.5, 0.0]


@pytest.mark.parametrize("truth", [["12"], ("12",), np.array(["12"], dtype=object), np.int64(12), 12])
def test_a_reference_may_be_a_list_or_an_array_of_one(truth: Any) -> None:
    assert as_verl_reward("math", workers=1)("d", "\\boxed{12}", truth) == 1.0


def test_several_references_are_aliases() -> None:
    reward = as_trl_reward("short_answer", workers=1)
    assert reward(["JFK", "Nixon"], answer=[["John F. Kennedy", "JFK"]] * 2) == [1.0, 0.0]


def test_an_answer_without_a_reference_is_not_wrong() -> None:
    reward = as_trl_reward("math", undecided=-0.5, workers=1)
    assert reward(["\\boxed{1}", "\\boxed{2}", "none"], answer=[None, "1", []]) == [None, 0.0, None]
    score = as_verl_reward("math", undecided=-0.5, workers=1)
    assert score("d", "None", None) == -0.5


def test_a_verifier_that_needs_no_reference_goes_without_a_column() -> None:
    reward = as_trl_reward("format", reference="", workers=1, options={"words": [1, 2]})
    assert reward(["two words", "these are three"], prompts=["?"] * 2) == [1.0, 0.0]
