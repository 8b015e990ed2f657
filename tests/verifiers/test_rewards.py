"""Reward functions in the form in which TRL and verl call them."""

import pytest

from gristmill.core.errors import RecipeError
from gristmill.verifiers.rewards import as_trl_reward, as_verl_reward

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
