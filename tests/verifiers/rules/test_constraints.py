"""Checks that instructions state."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.errors import RecipeError
from gristmill.core.verdicts import Outcome
from gristmill.verifiers.pool.pool import Pool
from gristmill.verifiers.rules.constraints import Constraints, occurrences


def made(*checks: dict[str, Any]) -> Constraints:
    return msgspec.convert({"checks": checks}, Constraints)


CHECKS = [
    ({"check": "count", "of": "words", "min": 2, "max": 3}, "a b c", "a b c d", "4, over 3"),
    ({"check": "count", "of": "chars", "max": 3}, "abc", "abcd", "4, over 3"),
    ({"check": "count", "of": "sentences", "min": 2}, "One. Two.", "One.", "1, under 2"),
    ({"check": "count", "of": "paragraphs", "min": 2, "max": 2}, "a\n\nb", "a\nb", "1, under 2"),
    ({"check": "count", "of": "lines", "max": 1}, "a", "a\nb", "2, over 1"),
    ({"check": "count", "of": "bullets", "min": 2}, "- a\n* b", "- a\nb", "1, under 2"),
    ({"check": "count", "of": "sections", "min": 1}, "## A\nb", "A\nb", "0, under 1"),
    ({"check": "count", "of": "placeholders", "min": 2}, "[name] at [place]", "[name]", "1, under 2"),
    ({"check": "keywords", "present": ["cat"]}, "The Cat.", "category", "'cat' is missing"),
    ({"check": "keywords", "absent": ["cat"]}, "category", "a cat", "'cat' is there"),
    ({"check": "keywords", "present": ["New York"]}, "in new\nyork", "New and York", "'New York' is missing"),
    ({"check": "frequency", "word": "a", "min": 2, "max": 2}, "a b a", "a a a", "3, over 2"),
    ({"check": "case", "of": "upper"}, "ABC 1!", "ABc", "case upper: it is not"),
    ({"check": "case", "of": "lower"}, "abc", "123", "case lower: it is not"),
    ({"check": "affix", "start": "Dear"}, " Dear you", "dear you", "it starts with 'dear'"),
    ({"check": "affix", "end": "Bye."}, "x Bye.\n", "Bye", "it ends with 'Bye'"),
    ({"check": "without", "characters": ",;"}, "a. b", "a, b", "',' is there"),
    ({"check": "quoted"}, ' "a" ', '"a', "quoted: it is not"),
    ({"check": "json"}, '```json\n{"a": 1}\n```', "{'a': 1}", "json: not JSON"),
    ({"check": "count", "of": "sentences", "min": 3, "max": 3}, "one. two! three", "one. Two", "2, under 3"),
    (
        {"check": "count", "of": "sentences", "min": 2},
        "It ends.Then it goes on.",
        "See v2.Final now.",
        "1, u",
    ),
    ({"check": "count", "of": "sentences", "min": 2}, "वह आया। वह गया।", "वह आया।", "1, under 2"),
    ({"check": "count", "of": "words", "max": 2}, "हिन्दी cafe\u0301", "a b c", "3, over 2"),
    ({"check": "count", "of": "bullets", "min": 2, "max": 2}, "-tea\n*milk", "*tea*\n-5\n- x", "1, under 2"),
    ({"check": "count", "of": "highlights", "min": 2}, "*so* and **thus**", "a * b * c ** d", "0, under 2"),
    ({"check": "count", "of": "capital_words", "max": 2}, "NASA and I", "NASA AND I", "3, over 2"),
    ({"check": "keywords", "present": ["dog"]}, "my _dog_.", "dogs", "'dog' is missing"),
    (
        {"check": "keywords", "present": ["学习", "Python"]},
        "我们学习用Python编程",
        "学 习 Python",
        "'学习' is",
    ),
    (
        {"check": "keywords", "present": ["café", "don't"]},
        "cafe\u0301: don’t",
        "cafe, dont",
        "'café' is missing",
    ),
    ({"check": "keywords", "absent": ["แมว"]}, "หมา", "ฉันรักแมวมาก", "'แมว' is there"),
    ({"check": "affix", "start": "I'm", "end": '"so"'}, "I’m “so”", "I am so", "it starts with 'I a'"),
    ({"check": "letters", "letter": "q", "min": 2}, "Quiet, queen", "quiet", "1, under 2"),
    ({"check": "letters", "letter": "é", "max": 1}, "e\u0301e", "ÉE\u0301", "2, over 1"),
    ({"check": "postscript"}, "Bye\nP. S. call me", "Bye\nPSALM 3\nP.S.", "no line starts with 'P.S.'"),
    ({"check": "postscript", "marker": "P.P.S"}, "Bye\n**P.P.S.** x", "P.P.S. x", "nothing stands before it"),
    ({"check": "title"}, "<<A day out>>\nWe went.", "<< >>\n<a day>", "there is no <<title>>"),
    (
        {"check": "first_word", "word": "cats", "paragraph": 2, "paragraphs": 2},
        'Hm.\n\n"Cats,"',
        "C.\n\nDogs",
        "'Dogs'",
    ),
    ({"check": "first_word", "word": "x", "paragraphs": 2}, "x\n\ny", "x\n\ny\n\nz", "3 paragraphs, not 2"),
    (
        {"check": "repeats", "prompt": "Say  “hi”."},
        'say "hi".\nHi!',
        'Say "hi".',
        "nothing follows the prompt",
    ),
    ({"check": "parts", "min": 2, "max": 2}, "***\na\n***\nb", "a\n***\n***\nb", "nothing between two '***'"),
    (
        {"check": "parts", "mark": "******", "min": 2, "max": 2, "different": True},
        "a\n******\nb",
        "a\n******\nA",
        "two parts",
    ),
    (
        {"check": "numbered", "word": "SECTION", "min": 2},
        "**SECTION 1**\na\nSECTION 2\nb",
        "SECTION 1\nSection 2",
        "1, under",
    ),
    (
        {"check": "one_of", "texts": ["My answer is yes.", "My answer is no."]},
        "So my answer is no.",
        "My answer is yes. My answer is no.",
        "are there",
    ),
    ({"check": "language", "code": "ru"}, "Привет, как дела?", "你好吗", "zh, not ru"),
]


@pytest.mark.parametrize(("check", "right", "wrong", "why"), CHECKS)
def test_each_check(check: dict[str, Any], right: str, wrong: str, why: str) -> None:
    for verify in (made(check), lambda text: Constraints()(text, json.dumps([check]))):
        assert verify(right).correct
        verdict = verify(wrong)
        assert (verdict.outcome, verdict.score) == (Outcome.INCORRECT, 0.0)
        assert why in verdict.detail


@pytest.mark.parametrize("check", [check for check, *_ in CHECKS], ids=json.dumps)
@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_text_fails_every_check(check: dict[str, Any], text: str) -> None:
    verdict = made(check)(text)
    assert (verdict.outcome, verdict.score) == (Outcome.INCORRECT, 0.0)


def test_the_score_is_the_share_and_all_misses_are_named() -> None:
    verdict = made(
        {"check": "count", "of": "words", "max": 2},
        {"check": "case", "of": "lower"},
        {"check": "without", "characters": ","},
        {"check": "keywords", "present": ["x"]},
    )("a, b c")
    assert (verdict.outcome, verdict.score, verdict.rule) == (Outcome.INCORRECT, 0.25, "1 of 4 checks")
    assert verdict.detail == "count of words: 3, over 2; without: ',' is there; keywords: 'x' is missing"


def test_what_cannot_be_told_is_not_wrong() -> None:
    both = made({"check": "language", "code": "en"}, {"check": "count", "of": "words", "max": 2})
    assert both("Ok.").outcome is Outcome.UNPARSEABLE
    assert both("Ok ok ok.").outcome is Outcome.INCORRECT


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "x",
        "[]",
        "{}",
        '[{"check": "nothing"}]',
        '[{"check": "count", "of": "words"}]',
        "[" * 100_000,
        '[{"check": "language", "code": "xx"}]',
        '[{"check": "json", "more": 1}]',
    ],
)
def test_bad_references_are_errors(reference: str) -> None:
    verdict = Constraints()("text", reference)
    assert (verdict.outcome, verdict.rule) == (Outcome.ERROR, "reference unparseable")


@pytest.mark.parametrize(
    "check",
    [
        {"check": "count", "of": "words", "min": 3, "max": 2},
        {"check": "keywords"},
        {"check": "affix"},
        {"check": "frequency", "word": "a"},
        {"check": "letters", "letter": "a"},
        {"check": "parts"},
        {"check": "numbered", "min": 2, "max": 1},
        {"check": "first_word", "word": "a", "paragraph": 3, "paragraphs": 2},
        {"check": "language", "code": "xx"},
    ],
)
def test_checks_that_ask_for_nothing(check: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        made(check)


def test_a_worker_takes_the_checks_as_options() -> None:
    with Pool("constraints", options={"checks": [c for c, *_ in CHECKS[:1]]}, workers=1) as pool:
        assert pool.verify("a b", "").correct


def test_occurrences() -> None:
    assert occurrences("a.b a-b A B", "a") == 3
    assert occurrences("C++ and c++.", "C++") == 2
    assert occurrences("anything", " ") == 0


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_text_gets_a_verdict(text: str) -> None:
    checks = [check for check, *_ in CHECKS]
    assert made(*checks)(text).outcome is not Outcome.ERROR
    assert Constraints()(text, text).rule != "raised"
