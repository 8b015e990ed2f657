"""What of a reply counts: never its reasoning, and nothing where the reasoning was never finished."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.core.answers import final_answer, in_tags, split_reasoning


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


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>\n5?\n</think>\n\n7", "5?", "7"),
        ("5?\n</think>\n\n7", "5?", "7"),
        ("  [THINK]5?[/THINK] 7", "5?", "7"),
        ("◁think▷5?◁/think▷7", "5?", "7"),
        ("<seed:think>5?</seed:think>7", "5?", "7"),
        ("<think>5?</think><think>6?</think>7", "5?\n\n6?", "7"),
        ("<think></think>7", "", "7"),
        ("<think>5? The tag <think> is odd.</think>7", "5? The tag <think> is odd.", "7"),
        ("<think>5?</think>The tag </think> ends it.", "5?", "The tag </think> ends it."),
        ("<think>5?", "5?", None),
        ("<think>5?</think><think>6?", "5?\n\n6?", None),
        ("<think>5?</think>7 <think>or 8", "5?\n\n7 <think>or 8", None),
        # No block at the beginning: a form that a prompt asked for, or words about a tag.
        ("<reasoning>5?</reasoning>7", "", "<reasoning>5?</reasoning>7"),
        ("Write <think> first.", "", "Write <think> first."),
        ("Write <think> first, then </think>.", "", "Write <think> first, then </think>."),
        (" 7 ", "", " 7 "),
    ],
)
def test_a_reply_is_split_into_reasoning_and_answer(text: str, reasoning: str, answer: str | None) -> None:
    assert split_reasoning(text) == (reasoning, answer)


def test_a_block_that_the_prompt_began_is_all_there_is_until_it_is_closed() -> None:
    assert split_reasoning("5? or 6?", begun=True) == ("5? or 6?", None)
    assert split_reasoning("5?</think>7", begun=True) == ("5?", "7")


_WORDS = st.text(st.sampled_from("ab <>/[]think\n◁▷"), max_size=30)


@given(_WORDS, _WORDS)
def test_what_is_put_in_tags_comes_out_of_them(reasoning: str, answer: str) -> None:
    reasoning, answer = reasoning.strip(), answer.strip()
    if "think" in reasoning + answer:
        return
    assert split_reasoning(in_tags(reasoning, answer)) == (reasoning, answer)


@given(st.lists(st.sampled_from(["<think>", "</think>", "[THINK]", "[/THINK]", "a", " ", "7"]), max_size=9))
def test_nothing_is_lost_and_no_answer_begins_a_block_that_is_open(pieces: list[str]) -> None:
    text = "".join(pieces)
    reasoning, answer = split_reasoning(text)
    said = reasoning + (answer or "")
    assert "".join(said.split()).count("7") == text.count("7")
    if answer is not None and answer != text:
        assert "<think>" not in answer.rpartition("</think>")[2]
        assert "[THINK]" not in answer.rpartition("[/THINK]")[2]
