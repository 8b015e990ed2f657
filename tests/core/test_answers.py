"""What of a reply counts: never its reasoning, and nothing where the reasoning was never finished."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.core.answers import final_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 7.", "The answer is 7."),
        ("a < b and [1, 2]", "a < b and [1, 2]"),
        ("<think>5</think>7", "7"),
        ("<think>5</think>6<think>x</think> 7", " 7"),
        ("5</think>7", "7"),
        ("<THINK>5</THINK>7", "7"),
        ("[THINK]5[/THINK]7", "7"),
        ("◁think▷5◁/think▷7", "7"),
        ("<seed:think>5</seed:think>7", "7"),
        (
            "<|channel|>analysis<|message|>5<|end|><|start|>assistant<|channel|>final<|message|>7<|return|>",
            "7",
        ),
        ("<reasoning>5</reasoning><answer>7</answer> or so", "7"),
        ("<answer>5</answer> no: <answer>7</answer>", "7"),
        ("7<|im_end|>\n<|im_start|>user 8", "7"),
        ("7</s>", "7"),
        ("<think>5", None),
        ("<think>5</think><think>6", None),
        ("<answer>7", None),
        ("<think>5</think>", ""),
    ],
)
def test_final_answer(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


def test_the_tags_are_a_setting() -> None:
    assert final_answer("<plan>5</plan>7", ["plan"]) == "7"
    assert final_answer("<plan>5</plan>7") == "<plan>5</plan>7"
    assert final_answer("<plan>5", ["plan"]) is None
    assert final_answer("<think>5", []) == "<think>5"


@given(st.text(max_size=60), st.text(max_size=60))
def test_what_is_thought_never_counts(thought: str, said: str) -> None:
    """Whatever a model thinks, the answer is that of what it says, if its words hold no tags themselves."""
    if any(c in thought + said for c in "<>[]◁"):
        return
    assert final_answer(f"<think>{thought}</think>{said}") == said
    assert final_answer(f"<think>{thought}") is None
