"""The table of conventions in docs/verifiers.md, row by row."""

from __future__ import annotations

import re

import pytest
from paths import ROOT

from gristmill.core.verdicts import Outcome
from gristmill.verifiers.math import verify

PAGE = ROOT / "docs" / "verifiers.md"
_ROW = re.compile(r"\| `([^`]+)` \| `([^`]+)` \| (correct|incorrect|unparseable) \|")
ROWS = _ROW.findall(PAGE.read_text())


def test_the_table_is_found() -> None:
    assert len(ROWS) >= 35


@pytest.mark.parametrize(("answer", "reference", "outcome"), ROWS)
def test_convention(answer: str, reference: str, outcome: str) -> None:
    assert verify(rf"The answer is \boxed{{{answer}}}.", reference).outcome is Outcome(outcome)
