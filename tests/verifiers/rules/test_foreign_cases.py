"""Choices and labels as other people's graders met them, rebuilt in our words and judged by hand.

``source`` names the report or test suite whose kind of answer a case is. ``chosen`` is what a careful reader
takes the response to have settled on; null: nothing, or several. What is missed is undecided, never wrong.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gristmill.core.verdicts import Outcome, Verdict
from gristmill.verifiers.rules.choice import Choice, key
from gristmill.verifiers.rules.short_answer import ShortAnswer

DATA = Path(__file__).parent / "data"


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


def missed(chosen: str | None, verdicts: dict[str, Verdict]) -> bool:
    """Whether a response was not read as people do; a wrong reading is a failure here and now."""
    right = {name for name, verdict in verdicts.items() if verdict.correct}
    assert right <= {chosen}, (chosen, verdicts)
    assert chosen is None or verdicts[chosen].outcome is not Outcome.INCORRECT, (chosen, verdicts)
    return chosen is not None and not right


def test_choices() -> None:
    for name, most in (("choice_cases.jsonl", 4), ("choice_cases_second.jsonl", 4)):
        undecided = []
        for row in rows(name):
            options, response = row["options"], row["response"]
            letters = "ABCDEFGHIJ"[: len(options) or 4]
            verdicts = {x: Choice()(response, key(options, x) if options else x) for x in letters}
            if missed(row["chosen"], verdicts):
                undecided.append(response)
        assert len(undecided) <= most, undecided


def test_labels() -> None:
    undecided = []
    for row in rows("label_cases.jsonl"):
        judge = ShortAnswer(labels=tuple(row["labels"]))
        if missed(row["chosen"], {label: judge(row["response"], label) for label in row["labels"]}):
            undecided.append(row["response"])
    assert undecided == []
