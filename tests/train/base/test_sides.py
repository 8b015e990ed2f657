"""Rows of compared and labelled answers: what they must have, and which tokens of a side carry loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gristmill.core.engine import Message
from gristmill.core.errors import InputError, RecipeError
from gristmill.core.records import Pair
from gristmill.pipelines.recipe.recipe import make_export
from gristmill.train.base.data import form_of, taken_by
from gristmill.train.base.sides import ComparedRow, answers, read_sides
from gristmill.train.base.turns import IGNORED
from gristmill.train.preference import PreferenceTraining
from gristmill.train.sft import Mixed, Sft, chosen

ASK = {"role": "user", "content": "q"}
YES, NO = ({"role": "assistant", "content": content} for content in ("yes", "no"))


class Letters:
    """A tokenizer whose tokens are characters."""

    bos_token: str | None = None
    eos_token = "$"

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [ord(c) for c in text]}

    def apply_chat_template(
        self, turns: list[dict[str, str]], tokenize: bool, add_generation_prompt: bool
    ) -> str:
        return "".join(f"<{t['role'][0]}>{t['content']};" for t in turns) + "<a>" * add_generation_prompt


def trained(from_difference: bool = False, **row: Any) -> list[str]:
    made = answers(msgspec.convert(row, ComparedRow), Letters(), from_difference=from_difference)
    return ["".join(chr(t) for t in answer.tokens.labels if t != IGNORED) for answer in made]


def test_a_side_carries_loss_on_the_models_turns_after_what_both_begin_with() -> None:
    assert trained(prompt=[ASK], chosen=[YES], rejected=[NO]) == ["yes;", "no;"]
    assert trained(prompt=[ASK, NO, ASK], chosen=[YES, ASK, NO], rejected=[NO]) == ["yes;no;", "no;"]
    assert trained(prompt=[ASK], chosen=[YES, ASK, YES], rejected=[YES, ASK, NO]) == ["yes;", "no;"]
    # A side that the other only goes on with keeps its turn.
    assert trained(prompt=[ASK], chosen=[YES], rejected=[YES, ASK, NO]) == ["yes;", "yes;no;"]


def test_loss_may_begin_where_the_sides_differ() -> None:
    row = {"prompt": "q ", "chosen": "is 14", "rejected": "is 15, yes"}
    assert trained(**row) == ["is 14$", "is 15, yes$"]
    assert trained(True, **row) == ["4$", "5, yes$"]


def test_a_labelled_answer_is_one_side() -> None:
    assert trained(prompt=[ASK], completion=[YES], label=False) == ["yes;"]


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"prompt": [ASK], "chosen": [YES]}, "must have chosen and rejected, or completion and label"),
        ({"prompt": [ASK], "completion": [YES]}, "must have chosen and rejected, or completion and label"),
        ({"prompt": "q", "chosen": [YES], "rejected": [NO]}, "must all be text or all be lists"),
        ({"prompt": [ASK], "chosen": [YES], "rejected": [YES]}, "its sides are the same"),
        ({"prompt": [ASK], "chosen": [YES], "rejected": [ASK]}, "no assistant turn"),
        ({"prompt": "q", "chosen": "a", "rejected": " "}, "one of its sides is empty"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "flip": 2}, "flip"),
    ],
)
def test_a_bad_row_is_named_by_file_and_number(row: dict[str, Any], rule: str, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(
        json.dumps({"prompt": "q", "chosen": "a", "rejected": "b"}) + "\n" + json.dumps(row) + "\n"
    )
    with pytest.raises(InputError, match=r"pairs\.jsonl, row 2: ") as caught:
        list(read_sides(file))
    assert rule in str(caught.value)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"loss": "ipo", "flip": 0.1}, "flip: ipo does not use it"),
        ({"loss": "kto", "nll": 0.1}, "nll: kto has no chosen side"),
        ({"loss": "simpo", "reference": "x"}, "reference: simpo uses none"),
    ],
)
def test_options_that_the_loss_does_not_use_are_refused(options: dict[str, Any], rule: str) -> None:
    with pytest.raises(RecipeError, match=rule):
        PreferenceTraining(model="m", data="d", output="o", **options)


def test_the_scale_has_the_default_of_its_loss() -> None:
    scales = [PreferenceTraining(model="m", data="d", output="o", loss=x).scale for x in ("dpo", "simpo")]  # type: ignore[arg-type]
    assert scales == [0.1, 2.0]


def test_rows_are_mixed_in_by_a_seed_and_never_twice_before_all_were_used() -> None:
    rows: list[Any] = list("abcdefghij")
    assert chosen(rows, 10, "0") == rows
    assert chosen(rows, 3, "0") == chosen(rows, 3, "0") != chosen(rows, 3, "1")
    assert len(set(chosen(rows, 7, "0"))) == 7
    assert {row: chosen(rows, 23, "0").count(row) for row in rows}.keys() == set(rows)
    assert sorted(chosen(rows, 23, "0").count(row) for row in rows) == [2] * 7 + [3] * 3


def test_all_files_of_a_mix_are_inputs() -> None:
    options = Sft(model="m", data="d", output="o", mix=(Mixed(data="old", weight=0.5),))
    assert options.inputs() == ["d", "old"]


def test_pairs_of_a_run_are_written_whole_and_conversations_with_their_marks() -> None:
    weighted, sft = taken_by("preference")[0], taken_by("sft")[0]
    assert (weighted.export, sft.export) == ("trl-dpo-weighted", "axolotl-chat")
    export: Any = make_export(weighted.export, weighted.options)
    said = tuple(Message(turn["role"], turn["content"]) for turn in (YES, ASK, NO))
    [row] = export.rows(Pair("1", "1", "M-D3", (Message("user", "q"),), said, said[:1], 0.5, 0.25))
    written = msgspec.to_builtins(row)
    assert len(written["chosen"]) == 3 and (written["weight"], written["flip"]) == (0.5, 0.25)
    assert form_of(written) is weighted
