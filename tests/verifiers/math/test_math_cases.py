"""Answers that strangers wrote, judged by hand: pairs from public reports, and right answers in sentences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gristmill.core.verdicts import Outcome
from gristmill.verifiers.math import verify

HERE = Path(__file__).parent / "data"
SHARED = Path(__file__).parents[4] / "shared"
PAIRS = {
    "ours": HERE / "math_pairs.jsonl",
    "second": HERE / "math_pairs_second.jsonl",
    "third": HERE / "math_pairs_third.jsonl",
    "shared": SHARED / "cases" / "math.jsonl",
}
FORMS = {
    "ours": HERE / "math_forms.json",
    "second": HERE / "math_forms_second.json",
    "shared": SHARED / "cases" / "sentences.json",
}
# Of each file, the share that must be judged as people do: what is missing is undecided, never wrong.
SHARES = {"ours": 0.97, "second": 0.99, "third": 0.96, "shared": 0.99}


def rows(path: Path) -> list[dict[str, object]]:
    if not path.exists():
        pytest.skip(f"the cases {path} are not there")
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_are_judged_as_people_do(name: str) -> None:
    cases = rows(PAIRS[name])
    verdicts = [verify(str(c["response"]), str(c["gold"])) for c in cases]
    false_positives = [c for c, v in zip(cases, verdicts, strict=True) if v.correct and not c["equal"]]
    false_negatives = [
        c for c, v in zip(cases, verdicts, strict=True) if v.outcome is Outcome.INCORRECT and c["equal"]
    ]
    right = sum(v.correct == c["equal"] for c, v in zip(cases, verdicts, strict=True))
    assert false_positives == []
    assert false_negatives == []
    assert right >= SHARES[name] * len(cases)


def filled(form: str, count: int) -> Iterator[tuple[str, str]]:
    """``form`` with sums, answers and units of our own."""
    units = ("dollars", "apples", "km", "minutes", "students", "pounds", "hours")
    for i in range(count):
        a, b = 7 * i + 3, 11 * i % 29 + 2
        values = {"{a}": str(a + b), "{e}": f"{a} + {b}", "{u}": units[i % len(units)], "{b}": str(3 * a + 1)}
        text = form
        for key, value in values.items():
            text = text.replace(key, value)
        yield text, values["{a}"]


@pytest.mark.parametrize("name", FORMS)
def test_right_answers_in_sentences_are_right(name: str) -> None:
    if not FORMS[name].exists():
        pytest.skip(f"the forms {FORMS[name]} are not there")
    missed = {
        (form, verdict.outcome, verdict.extracted)
        for form in json.loads(FORMS[name].read_text())
        for text, gold in filled(form, 40)
        if not (verdict := verify(text, gold)).correct
    }
    assert missed == set()


@pytest.mark.parametrize("name", FORMS)
def test_wrong_answers_in_sentences_are_never_right(name: str) -> None:
    if not FORMS[name].exists():
        pytest.skip(f"the forms {FORMS[name]} are not there")
    counts: Counter[Outcome] = Counter()
    for form in json.loads(FORMS[name].read_text()):
        for text, gold in filled(form, 20):
            counts[verify(text, str(int(gold) + 1)).outcome] += 1
    assert counts[Outcome.CORRECT] == 0
    assert counts[Outcome.INCORRECT] > 0.9 * counts.total()


def test_what_the_words_leave_open_is_decided_only_where_every_reading_agrees() -> None:
    text = "There are 7 pears, and 8 plums lie there."
    assert verify(text, "8").rule == "ambiguous"
    assert verify(text, "7").rule == "ambiguous"
    assert verify(text, "9").outcome is Outcome.INCORRECT  # whatever is meant, it is not 9
