"""The table of conventions in docs/verifiers.md, row by row."""

from __future__ import annotations

import re

import pytest
from paths import ROOT

from gristmill.core.verdicts import Outcome
from gristmill.verifiers.math import verify
from gristmill.verifiers.math.extract import extract

PAGE = ROOT / "docs" / "verifiers.md"
_ROW = re.compile(r"\| `([^`]+)` \| `([^`]+)` \| (correct|incorrect|unparseable) \|")
ROWS = _ROW.findall(PAGE.read_text())


def test_the_table_is_found() -> None:
    assert len(ROWS) >= 35


@pytest.mark.parametrize(("answer", "reference", "outcome"), ROWS)
def test_convention(answer: str, reference: str, outcome: str) -> None:
    assert verify(rf"The answer is \boxed{{{answer}}}.", reference).outcome is Outcome(outcome)


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("Ответ: 5678", "5678"),
        ("Ответ: $-3$.", "-3"),
        ("答案：5678", "5678"),
        ("答案是-3。", "-3"),
        ("答案是−3。", "−3"),
        ("第3步得到答案12。", "12"),
        ("答えは5678です。", "5678"),
        ("정답은 5678입니다.", "5678"),
        ("الجواب: 5678", "5678"),
        ("उत्तर: 5678", "5678"),
        ("ANSWER: 5678", "5678"),
        ("答案不是5", None),
        ("αβ = 3", "αβ = 3"),
    ],
)
def test_words_of_any_script_are_no_part_of_an_answer(text: str, reading: str | None) -> None:
    # The first try read all but the last two as one expression: wrong, though the number was right.
    found = extract(text)
    assert (found.text if found else None) == reading
