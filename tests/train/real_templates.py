"""What chat templates of real models make of rows with loss marks: the templates that TRL ships.

TRL has some of them a second time with ``{% generation %}`` around what the model says, which another
implementation, Transformers', turns into a mask.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from gristmill.train.base.rows import encode_turns
from gristmill.train.base.sides import ComparedRow, answers
from gristmill.train.base.turns import IGNORED, TokenRow, TrainedTurn

NAMES = (
    *("cohere", "deepseekv3", "gemma3", "gptoss", "lfm2", "llama3", "llama3_1", "nemotron_3_nano", "phi3"),
    *("qwen2_5", "qwen3", "qwen3_5_think", "qwen3_instruct_2507"),
)
SPECIAL = re.compile(r"<\|[^<>|]+\|>|<｜[^<>｜]+｜>|<(?:start|end)_of_turn>|<bos>")
# Texts without spaces around, of which each is found once.
ASKED = ("alpha ask", "beta ask", "gamma ask")
SAID = ("wrong one\n\n1+1=3", "right two", "third one")


def turns(marks: tuple[bool | None, ...], **last: Any) -> list[TrainedTurn]:
    rows: list[dict[str, Any]] = []
    for asked, said, mark in zip(ASKED, SAID, marks, strict=True):
        rows += [{"role": "user", "content": asked}, {"role": "assistant", "content": said, "train": mark}]
    rows[-1] |= last
    return msgspec.convert(rows, list[TrainedTurn])


def runs(tokenizer: Any, ids: list[int], held: list[bool]) -> list[str]:
    """Each run of tokens that carries loss, as text."""
    found: list[list[int]] = [[]]
    for token, loss in zip(ids, held, strict=True):
        if loss:
            found[-1].append(token)
        elif found[-1]:
            found.append([])
    return [tokenizer.decode(run) for run in found if run]


def pieces(tokenizer: Any, made: TokenRow) -> list[str]:
    assert all(label in (IGNORED, token) for token, label in zip(*made, strict=True))
    return runs(tokenizer, made.input_ids, [label != IGNORED for label in made.labels])


def trained(tokenizer: Any, rows: list[TrainedTurn]) -> list[str]:
    return pieces(tokenizer, encode_turns(rows, 0, tokenizer))


def masks(folder: Path) -> dict[str, Any]:
    """For each template the pieces that carry loss, by what was marked."""
    from transformers import AutoTokenizer

    found: dict[str, Any] = {}
    where = files("trl") / "chat_templates"
    for name in NAMES:
        tokenizer = AutoTokenizer.from_pretrained(folder / "model", bos_token="<|endoftext|>")
        tokenizer.chat_template = (where / f"{name}.jinja").read_text(encoding="utf-8")
        tokenizer.add_tokens(sorted(set(SPECIAL.findall(tokenizer.chat_template))), special_tokens=True)
        span = [{"begin_offset": 0, "end_offset": 4, "train": True}]
        pair = {
            "prompt": [{"role": "user", "content": ASKED[0]}],
            "chosen": [said(0), asked(1), said(1)],
            "rejected": [said(0), asked(1), said(2)],
        }
        sides = answers(msgspec.convert(pair, ComparedRow), tokenizer)
        found[name] = {
            "all": trained(tokenizer, turns((None, None, None))),
            "marked": trained(tokenizer, turns((False, True, False))),
            "part": trained(tokenizer, turns((False, False, True), train_detail=span)),
            "sides": [
                runs(tokenizer, s.tokens.input_ids, [x != IGNORED for x in s.tokens.labels]) for s in sides
            ],
            "theirs": None,
        }
        training = where / f"{name}_training.jinja"
        if training.is_file():
            tokenizer.chat_template = training.read_text(encoding="utf-8")
            rows = [{"role": t.role, "content": t.content} for t in turns((None, None, None))]
            made = tokenizer.apply_chat_template(
                rows, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
            )
            found[name]["theirs"] = runs(tokenizer, made["input_ids"], made["assistant_masks"])
    return found


def said(number: int) -> dict[str, str]:
    return {"role": "assistant", "content": SAID[number]}


def asked(number: int) -> dict[str, str]:
    return {"role": "user", "content": ASKED[number]}
