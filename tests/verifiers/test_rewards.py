"""Reward functions in the form in which TRL and verl call them."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gristmill.core.errors import RecipeError
from gristmill.core.registry import find
from gristmill.engines.log.tools import stats
from gristmill.engines.scripted import Reply, Scripted
from gristmill.verifiers.base import Rewarding
from gristmill.verifiers.code.verifier import Code
from gristmill.verifiers.grounding.verifier import Grounding
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.judge import Judge
from gristmill.verifiers.judges.rubric import Checklist
from gristmill.verifiers.loading import load
from gristmill.verifiers.math import Math
from gristmill.verifiers.rewards import as_trl_reward, as_verl_reward
from gristmill.verifiers.rules.choice import Choice
from gristmill.verifiers.rules.combine import Combine
from gristmill.verifiers.rules.constraints import Constraints, Quoted
from gristmill.verifiers.rules.formats import Format
from gristmill.verifiers.rules.overlap import Bleu
from gristmill.verifiers.rules.short_answer import ShortAnswer

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
    reward = as_trl_reward("math", wrong=-0.5, workers=1)
    columns = {"answer": ["12"] * 3, "prompts": ["?"] * 3, "completion_ids": [[1]] * 3, "trainer_state": None}
    assert reward(completions=CHAT, **columns) == [1.0, -0.5, None]
    assert reward(completions=["\\boxed{12}", "13"], answer=["12", "12"]) == [1.0, -0.5]
    assert reward.__name__ == "gristmill_math"


def test_a_missing_column_is_named_with_those_there_are() -> None:
    with pytest.raises(RecipeError, match=r"no column 'gold'.*It has: answer, prompts"):
        as_trl_reward(reference="gold", workers=1)(["1"], answer=["1"], prompts=["?"])


def test_verl_calls_it_row_by_row() -> None:
    score = as_verl_reward("math", undecided=0.1, workers=1)
    assert score("gsm8k", "\\boxed{12}", "12", extra_info={"index": 1}) == 1.0
    assert score("gsm8k", "\\boxed{13}", "12") == 0.0
    assert score(data_source="gsm8k", solution_str="Who knows.", ground_truth="12", extra_info=None) == 0.1


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
    trl, verl = verifier.as_trl_reward(workers=1), verifier.as_verl_reward(workers=1)
    assert trl.__name__ == f"gristmill_{type(verifier).__name__.lower()}"
    assert callable(verl)
    # What a worker is sent makes the same verifier there.
    options = msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(verifier)))
    assert load(f"{type(verifier).__module__}:{type(verifier).__qualname__}", options) == verifier


def test_the_list_above_is_of_all_that_are_registered() -> None:
    assert {type(v) for v in VERIFIERS} == {find("verifiers", name) for name in BUILT_IN}
    for name in ("judge", "checklist", "binary_principles", "grounding_judge", "option_shuffle"):
        assert issubclass(find("model_verifiers", name), Rewarding)


def test_an_objects_options_reach_the_worker() -> None:
    assert Math(tolerance_relative=0.1).as_trl_reward(workers=1)(["\\boxed{1.15}"], answer=["1.1"]) == [1.0]
    assert Math().as_trl_reward(workers=1)(["\\boxed{1.15}"], answer=["1.1"]) == [0.0]
    assert ShortAnswer().as_verl_reward(workers=1)("", "Paris", "paris") == 1.0


def test_parts_that_are_functions_cannot_be_sent_to_a_worker() -> None:
    with pytest.raises(RecipeError, match=r"combine cannot be sent.*\{kind: NAME"):
        Combine(parts=(lambda completion, reference: None,)).as_trl_reward()


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
    reward = judge.as_trl_reward(engine=ENGINE, wrong=-1.0, log=tmp_path / "log.sqlite")
    assert reward(completions=["good", "bad", "?"], prompts=PROMPTS, answer=["4"] * 3) == [1.0, -1.0, None]
    assert reward.__name__ == "gristmill_judge"
    assert stats(tmp_path / "log.sqlite").models[0].completions == 3
    named = as_trl_reward("judge", engine=ENGINE, options={"asking": {"read": "text"}}, problem="question")
    assert named(["good"], question=["2 + 2?"], answer=["4"]) == [1.0]


def test_a_reward_without_references_asks_for_none() -> None:
    yes = Scripted(replies=(Reply(("[[yes]]",)),))
    reward = Checklist(questions=("Is it kind?",)).as_trl_reward(engine=yes, reference="")
    assert reward(["Hello!"], prompts=["Greet me."]) == [1.0]


def test_verl_gives_the_problem_in_extra_info() -> None:
    score = Judge(asking=Asking(read="text")).as_verl_reward(engine=ENGINE, undecided=0.5)
    assert score("d", "good", "4", {"problem": "2 + 2?"}) == 1.0
    assert score("d", "?", "4", {"problem": "2 + 2?"}) == 0.5
    with pytest.raises(RecipeError, match=r"no 'problem'.*has: index"):
        score("d", "good", "4", {"index": 1})


def test_engines_are_for_verifiers_that_ask_a_model() -> None:
    with pytest.raises(RecipeError, match="judge asks a model, and there is none"):
        Judge().as_trl_reward()
    with pytest.raises(RecipeError, match="math asks no model"):
        Math().as_trl_reward(engine=ENGINE)
    with pytest.raises(RecipeError, match="unknown model verifier 'math'"):
        as_trl_reward("math", engine=ENGINE)
