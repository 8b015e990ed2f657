from __future__ import annotations

import asyncio
import itertools
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from gristmill.core.engine import Completion, Message
from gristmill.core.errors import MissingExtraError, RecipeError, RowRejected
from gristmill.core.exports import Export
from gristmill.core.records import Judged
from gristmill.core.schema import to_frame
from gristmill.core.stages import Context
from gristmill.core.steps import ProcessRow, Step, StepAction, ValuedSolution
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.pipelines.exports import stepwise as stepwise_exports
from gristmill.pipelines.exports.stepwise import (
    Encode,
    ErPrmText,
    PrmRows,
    StepActionRows,
    Token,
    TrlStepwise,
    encoder,
    tag_fault,
    tag_tokens,
)
from gristmill.pipelines.exports.writing import write
from gristmill.synth.step_values.labels import ProcessLabels

SAID = (Message("system", "Solve it."), Message("user", "What is 2 + 2? "))


def row(
    steps: tuple[str, ...], values: tuple[float, ...], kind: str = "soft", problem: str = "2 + 2?"
) -> ProcessRow:
    n = len(values)
    return ProcessRow(
        f"p/0/{kind}", "p", problem, SAID, steps, values, (1,) * n, (2,) * n, (0.0,) * n, (1.0,) * n, kind
    )


ROW = row(("First, 2 + 2\n\n", "is $4$.\n", "So 4."), (0.75, 0.125, 0.0))


def exported(export: Export, record: msgspec.Struct, folder: Path) -> tuple[list[Any], Counter[str]]:
    part, out, notes = folder / "part.parquet", folder / f"out{export.suffix}", Counter[str]()
    to_frame([record], type(record)).write_parquet(part)
    write(export, [part], out, notes)
    if export.suffix == ".parquet":
        return pl.read_parquet(out).to_dicts(), notes
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()], notes


def test_tagged_text_has_the_question_and_each_step_closed_by_the_tag(tmp_path: Path) -> None:
    [made], notes = exported(ErPrmText(), ROW, tmp_path)
    assert made == {
        "id": "p/0/soft",
        "text": "2 + 2?\nFirst, 2 + 2 ки\nis $4$. ки\nSo 4. ки",
        "value": [0.75, 0.125, 0.0],
    }
    assert not notes and made["text"].count("ки") == len(made["value"])
    [other] = ErPrmText(tag="<extra_0>", before="", after="", prompt="messages").rows(ROW)
    assert other.text == "Solve it.\n\nWhat is 2 + 2?First, 2 + 2<extra_0>is $4$.<extra_0>So 4.<extra_0>"


@pytest.mark.parametrize(
    ("record", "export", "reason"),
    [
        (row(("ошибки нет", "b"), (1, 1)), ErPrmText(), "holds the step tag"),
        (row(("a",), (1,), problem="ки?"), ErPrmText(), "holds the step tag"),
        (
            row(("xab",), (1,)),  # "xababa"
            ErPrmText(tag="aba", before=""),
            "has more or fewer step tags than values",
        ),
        (row(("a", "b"), (1,)), ErPrmText(), "has more or fewer step tags than values"),
    ],
)
def test_more_tags_than_values_drop_the_row(
    record: ProcessRow, export: ErPrmText, reason: str, tmp_path: Path
) -> None:
    rows, notes = exported(export, record, tmp_path)
    assert not rows and notes == {reason: 1}


def test_soft_targets_give_the_loss_of_b3(tmp_path: Path) -> None:
    right, wrong = Verdict(Outcome.CORRECT), Verdict(Outcome.INCORRECT)
    drawn = tuple(Judged(Completion("x"), v) for v in (right, wrong) * 8)
    record = ValuedSolution(
        "s", "p", "2 + 2?", "4", SAID, (Step("a", drawn), Step("b")), right, "fixed", "done"
    )

    async def verify(text: str, answer: str) -> Verdict:
        raise AssertionError

    context = Context(ScriptedEngine(lambda r, i: "no"), verify, 0)
    [labelled] = asyncio.run(ProcessLabels(kinds=("er-prm(1)",))(record, context))
    [made], _ = exported(ErPrmText(), labelled, tmp_path)
    target = made["value"][0]
    assert target == pytest.approx(0.620115, abs=5.1e-7) and made["value"][1] == 1
    # Cross-entropy between (v, 1 - v) and the softmax over the logits (1.2, -0.3) of the two score tokens.
    norm = math.log(math.exp(1.2) + math.exp(-0.3))
    assert target * (norm - 1.2) + (1 - target) * (norm + 0.3) == pytest.approx(
        0.771241, abs=1e-6
    )  # of the rounded target


def simple(pattern: str) -> Encode:
    """A tokenizer whose tokens are what ``pattern`` finds, each text with a number of its own."""
    known: dict[str, int] = {}

    def encode(text: str) -> list[Token]:
        return [Token(known.setdefault(m[0], len(known)), *m.span()) for m in re.finditer(pattern, text)]

    return encode


WORDS = r" ?\w+|\s|[^\w\s]"


def test_a_tag_must_be_the_same_tokens_of_its_own_everywhere() -> None:
    assert tag_tokens(simple(WORDS), "ки", " ", "\n") is not None
    assert len(tag_tokens(simple(r"."), "ки", " ", "\n") or ()) == 2  # a fixed number, here 2
    assert tag_tokens(simple(WORDS), "ки", "", "\n") is None  # merged with a word before it
    assert tag_tokens(simple(WORDS), "ки", " ", "x") is None  # or after it
    encode = simple(WORDS)
    wanted = tag_tokens(encode, "ки", " ", "\n") or ()

    def fault(text: str, count: int) -> str:
        return tag_fault(encode(text), text, "ки", " ", wanted, count)

    assert fault("q\na ки\nb ки", 2) == ""
    assert fault("q\na ки\nb.ки", 2) == "the step tag is not the same tokens everywhere"
    assert fault("q\na ки\nb ки", 3) == "the tokens of the step tag stand elsewhere too"
    # A tokenizer that maps every unknown word to one token hides the tag among them.
    unknown = [Token(7 if t.id in wanted or "z" in "q zz ки"[t.start : t.end] else t.id, t.start, t.end)
               for t in encode("q zz ки")]  # fmt: skip
    assert (
        tag_fault(unknown, "q zz ки", "ки", " ", (7,), 1) == "the tokens of the step tag stand elsewhere too"
    )


def test_a_tag_glued_to_words_into_unknown_tokens_is_no_tag() -> None:
    def encode(text: str) -> list[Token]:
        found = re.finditer(r"\S+", text)
        return [Token(0 if "ки" in m[0] else 1 + len(m[0]), *m.span()) for m in found]

    assert tag_tokens(encode, "ки", " ", "\n") == (0,)
    assert tag_tokens(encode, "ки", "", "\n") is None  # "1ки" and "wordки" are both the unknown token
    assert tag_tokens(encode, "ки", " ", "x") is None


def test_a_tokenizer_is_asked_where_one_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pattern = WORDS.replace(r"[^\w\s]", r"\$\.? ?(?:ки)?|[^\w\s]")  # one that merges a tag with "$"
    monkeypatch.setattr(
        stepwise_exports, "encoder", lambda name: simple(WORDS if name == "fine" else pattern)
    )
    assert exported(ErPrmText(tokenizer="fine"), ROW, tmp_path)[0][0]["value"] == [0.75, 0.125, 0.0]
    with pytest.raises(RecipeError, match="not always the same tokens"):
        ErPrmText(tokenizer="merging").rows(ROW)


def test_a_real_byte_level_tokenizer_finds_as_many_tags_as_values(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed (the extra 'train')")
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    model.train_from_iterator(["a step ки\n", "2 + 2 = 4 ки\n"] * 30, trainer)
    model.save(str(tmp_path / "tokenizer.json"))
    for name in (str(tmp_path), str(tmp_path / "tokenizer.json")):
        [made] = ErPrmText(tokenizer=name).rows(ROW)
        wanted = tag_tokens(encoder(name), "ки", " ", "\n") or ()
        ids = model.encode(made.text).ids
        assert len(wanted) == 1 and ids.count(wanted[0]) == len(made.value) == 3
    # Bare, the tag is cut otherwise after some texts than after others: it cannot be found by its tokens.
    assert len(model.encode("ки").ids) != len(model.encode(" ки").ids)
    assert ErPrmText(tag="<|step|>", tokenizer=str(tmp_path)).rows(ROW)[0].text.count("<|step|>") == 3
    (tmp_path / "tokenizer.json").write_text("{}")
    encoder.cache_clear()
    with pytest.raises(RecipeError, match="is not a tokenizer"):
        encoder(str(tmp_path))


def test_without_the_library_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(MissingExtraError, match="gristmill\\[train\\]"):
        ErPrmText(tokenizer=str(tmp_path)).rows(ROW)


def test_stepwise_rows_have_the_columns_of_trl_and_axolotl(tmp_path: Path) -> None:
    [made], _ = exported(TrlStepwise(), ROW, tmp_path)
    assert made == {
        "id": "p/0/soft",
        "prompt": "2 + 2?\n",
        "completions": ["First, 2 + 2", "is $4$.", "So 4."],
        "labels": [True, True, False],
    }
    [told] = TrlStepwise(prompt="messages", prompt_end="").rows(ROW)
    assert told.prompt == "Solve it.\n\nWhat is 2 + 2?"


def test_the_threshold_is_exclusive_unless_said_otherwise() -> None:
    shares = row(("a",) * 9, tuple(c / 8 for c in range(9)))
    for eighths, inclusive in itertools.product(range(9), (False, True)):
        [made] = TrlStepwise(threshold=eighths / 8, inclusive=inclusive).rows(shares)
        assert made.labels == tuple(c >= eighths if inclusive else c > eighths for c in range(9))
    tenths = row(("a",) * 11, tuple(c / 10 for c in range(11)))
    for at in range(11):  # as a recipe writes it, in decimals
        [made] = TrlStepwise(threshold=float(f"0.{at}" if at < 10 else "1"), inclusive=True).rows(tenths)
        assert made.labels == tuple(c >= at for c in range(11))


@pytest.mark.parametrize("export", [ErPrmText(kind="er-prm(1)"), TrlStepwise(kind="er-prm(1)")])
def test_rows_of_another_kind_are_left_out(export: Export, tmp_path: Path) -> None:
    assert exported(export, ROW, tmp_path) == ([], {"of another kind of label": 1})
    assert len(exported(export, row(("a",), (0.5,), "er-prm(1)"), tmp_path)[0]) == 1


def test_plain_rows_come_as_they_are(tmp_path: Path) -> None:
    [made], _ = exported(PrmRows(), ROW, tmp_path)
    assert made["steps"] == list(ROW.steps) and made["values"] == list(ROW.values)
    assert {"prompt", "correct", "decided", "low", "high", "kind", "solved"} < set(made)
    action = StepAction("a", "p", SAID, "First.\n", "Then.", 0.5, -0.25, 0.375)
    [made], _ = exported(StepActionRows(), action, tmp_path)
    assert (made["prefix"], made["action"], made["advantage"], made["reward"]) == (
        "First.\n",
        "Then.",
        -0.25,
        0.375,
    )


def test_options_are_checked() -> None:
    for wrong in ({"tag": ""}, {"prompt": "none"}, {"x": 1}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, ErPrmText)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"threshold": 2}, TrlStepwise)
    with pytest.raises(RowRejected):
        ErPrmText().rows(row(("ки",), (1,)))
