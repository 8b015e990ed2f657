"""Rows of process reward models and reward models as tokens, with a tokenizer of single letters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gristmill.core.errors import GristmillError, InputError, RecipeError
from gristmill.train.base.compared import read_compared, read_scored
from gristmill.train.base.conversations import spare_padding, template_of
from gristmill.train.base.stepwise import one_token, read_steps
from gristmill.train.process_reward import ProcessRewardTraining
from gristmill.train.reward import Reward


class Letters:
    """Each letter is a token, and so is each word that was added."""

    chat_template = "letters"
    pad_token = eos_token = "§"
    unk_token = "?"
    all_special_tokens = ("§", "?")

    def __init__(self, *added: str) -> None:
        self.added = list(added)

    def apply_chat_template(self, turns: Any, tokenize: bool, add_generation_prompt: bool) -> str:
        if any(turn["content"] == "refuse" for turn in turns):
            raise ValueError("a refused turn")
        return "".join(f"{turn['role'][0]}:{turn['content']}§" for turn in turns)

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        ids, at = [], 0
        while at < len(text):
            word = next((w for w in self.added if text.startswith(w, at)), text[at])
            ids.append(-1 - self.added.index(word) if word in self.added else ord(word))
            at += len(word)
        return {"input_ids": ids}

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(i) if i >= 0 else self.added[-1 - i] for i in ids)

    def add_tokens(self, words: list[str], special_tokens: bool) -> None:
        self.added += words


def options(kind: Any, folder: Path, rows: list[dict[str, Any]], **more: Any) -> Any:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return kind(model="m", data=str(path), output=str(folder / "out"), **more)


def steps(folder: Path, *rows: dict[str, Any], tag: str = "<t>", kind: str | None = None) -> list[Any]:
    return [
        row
        for _, row in read_steps(
            options(ProcessRewardTraining, folder, list(rows)), Letters("<t>"), tag, kind
        )
    ]


ROW = {
    "prompt": [{"role": "user", "content": "q"}],
    "steps": [" a\n", "bc"],
    "values": [1, 0.25],
    "kind": "soft",
}


def test_values_are_at_the_tags_and_nowhere_else(tmp_path: Path) -> None:
    [row] = steps(tmp_path, ROW)
    assert Letters("<t>").decode(row.tokens) == "u:q§a:a<t>bc<t>§"
    assert [row.tokens[place] for place in row.places] == [-1, -1] and row.tokens.count(-1) == 2
    assert row.values == [1, 0.25]


def test_every_row_of_a_long_file_is_read(tmp_path: Path) -> None:
    """The published trainer of ER-PRM kept the first 1000 alone."""
    assert len(steps(tmp_path, *[ROW] * 1001)) == 1001


def test_one_kind_of_label_is_read(tmp_path: Path) -> None:
    both = ROW, {**ROW, "kind": "hard", "values": [1, 1]}
    assert [row.values for row in steps(tmp_path, *both)] == [[1, 0.25]]
    assert [row.values for row in steps(tmp_path, *both, kind="hard")] == [[1, 1]]
    with pytest.raises(InputError, match=r"no row has labels of the kind 'x'.*hard, soft"):
        steps(tmp_path, *both, kind="x")


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({**ROW, "values": [1]}, "2 steps and 1 values"),
        ({**ROW, "values": [1, 1.5]}, "1.5 is not in"),
        ({**ROW, "values": [1, -0.1]}, "-0.1 is not in"),
        ({**ROW, "steps": ["a", "b<t>"]}, "a step holds the step tag"),
        (
            {**ROW, "prompt": [{"role": "user", "content": "q<t>"}]},
            "2 values, but the model finds .* 3 times",
        ),
        ({**ROW, "prompt": [{"role": "user", "content": "refuse"}]}, "a refused turn"),
        ({"prompt": "q", "completion": "a", "label": True}, "head: implicit"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError, match=rf"row 2: .*{fault}"):
        steps(tmp_path, ROW, row)


def test_a_tag_of_several_tokens_is_refused_or_added() -> None:
    tokenizer = Letters()
    with pytest.raises(RecipeError, match=r"'ки' is 2 tokens of this model: 'к' 'и'.*'\+', '-'.*add_tokens"):
        one_token(tokenizer, "ки", "tag", add=False)
    assert one_token(tokenizer, "ки", "tag", add=True) == -1
    assert one_token(tokenizer, "ки", "tag", add=False) == -1 and tokenizer.added == ["ки"]


def test_padding_ends_no_conversation() -> None:
    tokenizer = Letters()
    spare_padding(tokenizer)
    assert tokenizer.pad_token == "?"


def test_a_missing_template_is_named(tmp_path: Path) -> None:
    tokenizer = Letters()
    tokenizer.chat_template = ""
    with pytest.raises(RecipeError, match="'m' has no chat template"):
        template_of(options(Reward, tmp_path, [ROW]), tokenizer)


SIDES = {"id": "1", "prompt": "q", "chosen": "yes!", "rejected": "no"}


def test_pairs_ties_and_scored_answers(tmp_path: Path) -> None:
    rows = [
        SIDES,
        {**SIDES, "margin": 0.5, "weight": 2, "flip": 0.1},
        {"prompt": "q", "first": "a", "second": "b"},
    ]
    given = options(Reward, tmp_path, rows)
    read = [row for _, row in read_compared(given, Letters(), Path(given.data))]
    assert [Letters().decode(side) for side in read[0][:2]] == ["u:q§a:yes!§", "u:q§a:no§"]
    assert [(r.margin, r.weight, r.flip, r.tie) for r in read] == [
        (0, 1, 0, False),
        (0.5, 2, 0.1, False),
        (0, 1, 0, True),
    ]
    assert read == [row for _, row in read_compared(given, Letters(), Path(given.data))]
    scored = {
        "prompt": "q",
        "completion": "a",
        "scores": [{"name": "help", "value": 3}, {"name": "x", "value": 1}],
    }
    given = options(Reward, tmp_path, [scored])
    [(_, row)] = read_scored(given, Letters(), Path(given.data), ("help", "truth"))
    assert row.targets[0] == 3 and row.targets[1] != row.targets[1]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({**SIDES, "rejected": "yes!"}, "two sides are the same"),
        ({"prompt": "q", "completion": "a", "scores": []}, "not the two sides.*'attributes'"),
        ({**SIDES, "flip": 0.7}, "flip"),
        ({**SIDES, "weight": -1}, "weight"),
    ],
)
def test_a_bad_pair_is_named(tmp_path: Path, row: dict[str, Any], fault: str) -> None:
    given = options(Reward, tmp_path, [SIDES, row])
    with pytest.raises(InputError, match=f"row 2: .*{fault}"):
        list(read_compared(given, Letters(), Path(given.data)))


def test_options_that_exclude_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GristmillError, match="regression has no pairs"):
        options(Reward, tmp_path, [SIDES], attributes=("help",), centre=0.01)
