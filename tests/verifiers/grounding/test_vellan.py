"""The passages and questions about an island that does not exist, which come along as data."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from paths import ROOT

from gristmill.core.verdicts import Outcome
from gristmill.verifiers.grounding import Grounding
from gristmill.verifiers.grounding.claims import split

DATA = ROOT / "gristmill" / "data"


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


PASSAGES = {row["id"]: row for row in read("vellan_passages.jsonl")}
QUESTIONS = read("vellan_questions.jsonl")


def holds(passage: str, text: str) -> bool:
    """Whether a passage has these words, title included, whatever their capitals."""
    row = PASSAGES[passage]
    words = rf"(?<!\w){re.escape(text)}(?!\w)"
    return re.search(words, f"{row['title']}. {row['text']}", re.IGNORECASE) is not None


def test_there_are_as_many_as_the_readme_says() -> None:
    assert len(PASSAGES) == 40
    kinds = Counter(row["kind"] for row in QUESTIONS)
    assert kinds == {"answerable": 75, "unanswerable": 40, "conflicting": 8}
    assert len({row["problem"] for row in QUESTIONS}) == len({row["id"] for row in QUESTIONS}) == 123
    assert {row["about"] for row in QUESTIONS} == set(PASSAGES), "each passage has its questions"


def test_each_answer_is_in_its_passage() -> None:
    wrong = [
        row["id"]
        for row in QUESTIONS
        for passage, answer in zip(row["passages"], row["answers"], strict=True)
        if not holds(passage, answer)
    ]
    assert wrong == []
    answerable = [row for row in QUESTIONS if row["kind"] == "answerable"]
    assert [row["id"] for row in answerable if [row["answer"]] != row["answers"]] == []


def test_an_unanswerable_question_has_no_answer_in_any_passage() -> None:
    rows = [row for row in QUESTIONS if row["kind"] == "unanswerable"]
    assert all(row["answer"] is None and not row["answers"] and row["needs"] for row in rows)
    answered = [
        (row["id"], passage)
        for row in rows
        for passage in PASSAGES
        if all(holds(passage, word) for word in row["needs"])
    ]
    assert answered == []


def test_conflicting_answers_are_in_two_passages_and_each_in_one_only() -> None:
    for row in (row for row in QUESTIONS if row["kind"] == "conflicting"):
        [one, other] = row["passages"]
        assert one != other and row["answer"] is None
        assert not holds(one, row["answers"][1]) and not holds(other, row["answers"][0]), row["id"]


def test_every_sentence_is_supported_by_its_own_passage_and_rejected_by_none() -> None:
    """The grounding verifier on the data: each passage as an answer, with nine others beside its own."""
    names = list(PASSAGES)
    for at, name in enumerate(names):
        beside = [PASSAGES[names[(at + step) % len(names)]] for step in range(10)]
        verdict = Grounding(citations="report")(PASSAGES[name]["text"], json.dumps(beside))
        assert verdict.outcome is Outcome.CORRECT, (name, verdict.detail)
        assert len(split(PASSAGES[name]["text"])) >= 2
