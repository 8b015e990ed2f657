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
    ({"check": "language", "code": "ru"}, "Привет, как дела?", "你好吗", "zh, not ru"),
]


@pytest.mark.parametrize(("check", "right", "wrong", "why"), CHECKS)
def test_each_check(check: dict[str, Any], right: str, wrong: str, why: str) -> None:
    for verify in (made(check), lambda text: Constraints()(text, json.dumps([check]))):
        assert verify(right).correct
        verdict = verify(wrong)
        assert (verdict.outcome, verdict.score) == (Outcome.INCORRECT, 0.0)
        assert why in verdict.detail


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
