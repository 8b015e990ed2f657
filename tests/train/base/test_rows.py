"""Which tokens of a row carry loss, and what is said of rows that cannot be trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.core.errors import InputError
from gristmill.core.records import Turn
from gristmill.pipelines.exports.base import TrlSft
from gristmill.train.base.rows import IGNORED, TrainingRow, encode, read_rows


class Characters:
    """A tokenizer whose tokens are characters, with ChatML as its chat template."""

    bos_token: str | None = "^"
    eos_token = "$"
    add_bos_token = False
    forgets = False

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        return {"input_ids": [ord(c) for c in text]}

    def apply_chat_template(
        self, turns: list[dict[str, str]], tokenize: bool, add_generation_prompt: bool
    ) -> str:
        kept = turns[-1:] if self.forgets else turns
        text = "".join(f"<{t['role']}>{t['content']}</>\n" for t in kept)
        return text + "<assistant>" * add_generation_prompt


def row(**fields: Any) -> TrainingRow:
    return msgspec.convert(fields, TrainingRow)


def trained(given_row: TrainingRow, tokenizer: Characters | None = None) -> tuple[str, list[str]]:
    """The whole text, and each run of it that carries loss."""
    tokens = encode(given_row, tokenizer or Characters())
    marked = [label != IGNORED for label in tokens.labels]
    assert [i for i, m in zip(tokens.input_ids, marked, strict=True) if m] == [
        label for label in tokens.labels if label != IGNORED
    ]
    text = "".join(map(chr, tokens.input_ids))
    pieces = "".join(c if m else "\0" for c, m in zip(text, marked, strict=True)).split("\0")
    return text, [piece for piece in pieces if piece]


USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
AGAIN, MORE = {"role": "user", "content": "sure?"}, {"role": "assistant", "content": "yes"}


def test_every_assistant_turn_of_messages_is_trained() -> None:
    text, pieces = trained(row(messages=[USER, ANSWER, AGAIN, MORE]))
    assert text == "<user>q</>\n<assistant>a</>\n<user>sure?</>\n<assistant>yes</>\n"
    assert pieces == ["a</>\n", "yes</>\n"]


def test_a_user_turn_inside_a_completion_is_not_trained() -> None:
    assert trained(row(prompt=[USER], completion=[ANSWER, AGAIN, MORE]))[1] == ["a</>\n", "yes</>\n"]


def test_an_assistant_turn_in_the_prompt_is_not_trained() -> None:
    assert trained(row(prompt=[USER, ANSWER, AGAIN], completion=[MORE]))[1] == ["yes</>\n"]


def test_a_turn_of_the_user_after_the_last_answer_is_left_away() -> None:
    # Nothing of it can carry loss, and nothing that does comes after it.
    assert trained(row(messages=[USER, ANSWER, AGAIN]))[0].endswith("a</>\n")


def test_plain_text_ends_with_the_end_of_text() -> None:
    assert trained(row(prompt="Question: q Answer:", completion=" a.")) == (
        "Question: q Answer: a.$",
        [" a.$"],
    )
    assert trained(row(text="all of it")) == ("all of it$", ["all of it$"])


def test_a_beginning_that_the_tokenizer_wants_is_not_trained() -> None:
    tokenizer = Characters()
    tokenizer.add_bos_token = True
    assert trained(row(prompt="q", completion="a"), tokenizer) == ("^qa$", ["a$"])


def test_a_template_that_forgets_is_refused() -> None:
    tokenizer = Characters()
    tokenizer.forgets = True
    with pytest.raises(ValueError, match="renders a turn differently"):
        encode(row(messages=[USER, ANSWER, AGAIN, MORE]), tokenizer)


contents = st.text(alphabet=st.characters(exclude_characters="\0"), max_size=12)


@given(st.lists(st.tuples(contents, contents), min_size=1, max_size=4))
def test_what_an_export_marks_is_what_is_trained(said: list[tuple[str, str]]) -> None:
    turns = [
        turn for ask, answer in said for turn in (Turn("user", ask, False), Turn("assistant", answer, True))
    ]
    from gristmill.core.records import Demonstration

    [made] = TrlSft().rows(Demonstration("1", "1", "q", "a", "sure", tuple(turns)))  # type: ignore[arg-type]
    assert trained(row(messages=msgspec.to_builtins(made.messages)))[1] == [
        f"{answer}</>\n" for _, answer in said
    ]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("{", "truncated"),
        ('{"id": "a"}', "must have one of messages, completion and text, but has none"),
        ('{"text": "a", "completion": "b"}', "but has completion and text"),
        ('{"text": " "}', "its text is empty"),
        ('{"prompt": "q", "completion": ""}', "its completion is empty"),
        ('{"completion": "a"}', "its prompt is not"),
        ('{"prompt": "q", "completion": [{"role": "assistant", "content": "a"}]}', "its prompt is not"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "no assistant turn"),
        ('{"prompt": [], "completion": [{"role": "user", "content": "a"}]}', "no assistant turn"),
        ('{"messages": [{"role": "robot", "content": "a"}]}', "Invalid enum value 'robot'"),
    ],
)
def test_a_bad_row_is_named_by_file_and_number(line: str, rule: str, tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(json.dumps({"text": "fine"}) + "\n\n" + line + "\n")
    with pytest.raises(InputError, match=r"data\.jsonl, row 3: ") as caught:
        list(read_rows(file))
    assert rule in str(caught.value) and "gristmill export" in str(caught.value)


def test_a_file_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        list(read_rows(tmp_path / "none.jsonl"))
