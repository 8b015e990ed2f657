"""Where loss falls inside of turns: parts of a content, reasoning, and what templates make of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gristmill.train.base.rows import encode_turns
from gristmill.train.base.turns import IGNORED, TrainedTurn


class Words:
    """A tokenizer that says where its tokens are: a word with the space before it, or a mark of a turn.

    Its template writes thoughts of the last turn alone, and ends a turn otherwise where nothing follows.
    """

    is_fast = True
    chat_template: str | None = "yes"
    keeps_thoughts = False

    def __call__(
        self, text: str, add_special_tokens: bool, return_offsets_mapping: bool
    ) -> dict[str, list[Any]]:
        import re

        found = list(re.finditer(r"<[^>]*>|\s?[^\s<]+|\s", text))
        return {"input_ids": [m.group() for m in found], "offset_mapping": [m.span() for m in found]}

    def get_added_vocab(self) -> dict[str, int]:
        return {"</>": 0, "<end>": 1, "<user>": 2, "<assistant>": 3}

    def apply_chat_template(
        self, turns: list[dict[str, str]], tokenize: bool, add_generation_prompt: bool
    ) -> str:
        text = ""
        for i, turn in enumerate(turns):
            last = i == len(turns) - 1
            thought = turn.get("reasoning_content", "") if last or self.keeps_thoughts else ""
            thought = f"<think>{thought}</think>" if thought else ""
            end = "<end>" if last and turn["role"] == "assistant" else "</>"
            text += f"<{turn['role']}>{thought}{turn['content'].strip()}{end}"
        return text + "<assistant>" * add_generation_prompt


def trained(*turns: dict[str, Any], first: int = 0, tokenizer: Words | None = None) -> list[str]:
    made = encode_turns(msgspec.convert(turns, list[TrainedTurn]), first, tokenizer or Words())
    pieces = "".join(
        str(token) if label != IGNORED else "\0"
        for token, label in zip(made.input_ids, made.labels, strict=True)
    )
    return [piece for piece in pieces.split("\0") if piece]


def says(content: str, **marks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **marks}


ASK = {"role": "user", "content": "what is it"}


def part(begin: int, end: int, train: bool = True) -> dict[str, Any]:
    return {"begin_offset": begin, "end_offset": end, "train": train}


def test_a_mark_decides_and_without_one_the_models_turns_are_trained() -> None:
    assert trained(ASK, says("one"), ASK, says("two")) == ["one</>", "two<end>"]
    assert trained(ASK, says("one", train=False), ASK, says("two", train=True)) == ["two<end>"]
    assert trained(ASK, says("one", train=True), ASK, says("two", train=False)) == ["one<end>"]
    assert trained(ASK, says("one"), ASK, says("two"), first=2) == ["two<end>"]


def test_a_part_of_a_turn_carries_loss_and_the_end_with_the_last_character() -> None:
    text = "six of  seven are nine"
    assert trained(ASK, says(text, train_detail=[part(0, 2), part(3, 21, False)])) == ["six"]
    assert trained(ASK, says(text, train_detail=[part(18, 21)])) == [" nine<end>"]
    # The space before a word is a part of its token; a token belongs to the part in which it ends.
    assert trained(ASK, says(text, train_detail=[part(4, 5)])) == [" of"]
    assert trained(ASK, says("  " + text + "\n", train_detail=[part(2, 4)])) == ["six"]


def test_reasoning_is_trained_with_the_whole_turn_or_as_its_parts_say() -> None:
    assert trained(ASK, says("two", reasoning_content="so it")) == ["<think>so it</think>two<end>"]
    masked = [{"type": "text", "text": "so it", "train": False}]
    assert trained(ASK, says("two", reasoning_content=masked)) == ["two<end>"]
    half = [{"type": "text", "text": "so", "train": True}, {"type": "text", "text": " it", "train": False}]
    assert trained(ASK, says("two", reasoning_content=half)) == ["so", "two<end>"]
    assert trained(ASK, says("two", reasoning_content="so it", train_detail=[part(0, 2)])) == ["two<end>"]


def test_reasoning_that_the_template_leaves_out_is_said_where_it_would_be_trained() -> None:
    rows = (ASK, says("one", reasoning_content="so"), ASK, says("two"))
    with pytest.raises(ValueError, match="leaves out the reasoning of turn 2, which is trained"):
        trained(*rows)
    keeps = Words()
    keeps.keeps_thoughts = True
    assert trained(*rows, tokenizer=keeps) == ["<think>so</think>one</>", "two<end>"]
    assert trained(ASK, says("one", reasoning_content="so", train=False), ASK, says("two")) == ["two<end>"]


def test_the_text_is_cut_where_the_model_begins_if_a_token_would_lie_across() -> None:
    class Greedy(Words):
        """Two turns' marks are one token of it."""

        def __call__(self, text: str, **asked: Any) -> dict[str, list[Any]]:
            made = super().__call__(text, **asked)
            if "<assistant>one" in text:
                at = text.index("<assistant>one")
                return {"input_ids": [text], "offset_mapping": [(0, len(text))]} if at >= 0 else made
            return made

    assert trained(ASK, says("one"), tokenizer=Greedy()) == ["one<end>"]


def test_a_model_without_a_chat_template_is_said() -> None:
    bare = Words()
    bare.chat_template = None
    with pytest.raises(ValueError, match="has no chat template"):
        trained(ASK, says("one"), tokenizer=bare)
