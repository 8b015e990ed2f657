"""The form of a text."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.errors import MissingExtraError, RecipeError
from gristmill.core.verdicts import Outcome
from gristmill.verifiers.pool.pool import Pool
from gristmill.verifiers.rules.formats import Format, is_refusal, read_json

PERSON = {"type": "object", "required": ["name"], "properties": {"age": {"type": "integer", "minimum": 0}}}
LOREM = "The cat sat on the mat and the dog was in the garden with a ball that it had found."


@pytest.mark.parametrize(
    ("options", "right", "wrong", "why"),
    [
        ({"pattern": r"\d+"}, "a 1", "a", "pattern: '\\\\d+' does not match"),
        ({"pattern": r"\d+", "whole": True}, "12", "a 12", "does not match"),
        ({"forbidden_pattern": "foo|bar"}, "baz", "a bar", "forbidden_pattern: 'bar' matches"),
        ({"json_schema": PERSON}, '{"name": "x"}', '{"age": 1}', "'name' is a required property"),
        ({"json_schema": PERSON}, 'So:\n```json\n{"name": "x"}\n```', '{"name": "x", "age": -1}', "$.age"),
        ({"json_schema": PERSON}, '{"name":1}', "{name: 1}", "json_schema: not JSON"),
        ({"json_schema": PERSON}, '{"name":1}', "[" * 100_000, "nested too deep"),
        ({"sections": ("Plan", "Answer")}, "## Plan\nx\n**Answer**\ny", "Plan: x", "missing 'Answer'"),
        (
            {"sections": ("Plan", "Answer"), "ordered": True},
            "Plan: x\nAnswer: y",
            "# Answer\n# Plan",
            "not in the order",
        ),
        ({"chars": (2, 3)}, "abc", "abcd", "chars: 4, over 3"),
        ({"words": (2, None)}, "well-known don't", "one", "words: 1, under 2"),
        ({"lines": (None, 1)}, "a\n\n", "a\n\nb", "lines: 2, over 1"),
        (
            {"language": "en"},
            LOREM,
            "Der Hund ist nicht in dem Garten und die Katze ist auch weg.",
            "de, not",
        ),
        ({"repeated_ngrams": 0.2}, LOREM, "go on and on " * 20, "of 4-grams are repeats, over 0.2"),
        ({"repeated_lines": 0.2}, "a\nb\nc", "a\na\nb\na", "0.50 of lines"),
        ({"refusal": "forbidden"}, "Sure.", "I'm sorry, but I can't help with that.", "the text refuses"),
        ({"refusal": "required"}, "I cannot assist with that.", "Sure.", "does not refuse"),
    ],
)
def test_each_check(options: dict[str, Any], right: str, wrong: str, why: str) -> None:
    verifier = Format(**options)
    verdict = verifier(right, "not read")
    assert (verdict.outcome, verdict.score, verdict.detail) == (Outcome.CORRECT, 1.0, "")
    verdict = verifier(wrong)
    assert (verdict.outcome, verdict.score) == (Outcome.INCORRECT, 0.0)
    assert why in verdict.detail


def test_every_failure_is_named() -> None:
    verdict = Format(pattern="x", words=(5, None), lines=(1, 1), chars=(1, 9))("a b\nc")
    assert verdict.detail == "pattern: 'x' does not match; words: 3, under 5; lines: 2, over 1"
    assert (verdict.score, verdict.rule) == (0.25, "1 of 4 checks")


def test_a_language_that_cannot_be_told_is_undecided_unless_something_fails() -> None:
    assert Format(language="en")("Ok.").outcome is Outcome.UNPARSEABLE
    assert Format(language="en", words=(1, None))("Ok.").outcome is Outcome.UNPARSEABLE
    assert Format(language="en", words=(2, None))("Ok.").outcome is Outcome.INCORRECT


@pytest.mark.parametrize(
    "options",
    [{}, {"pattern": "("}, {"language": "xx"}, {"json_schema": {"type": "nothing"}}, {"ordered": True}],
)
def test_options_that_cannot_work(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        Format(**options)


def test_schemas_fetch_nothing() -> None:
    verdict = Format(json_schema={"$ref": "http://127.0.0.1:9/schema.json"})("{}")
    assert verdict.outcome is Outcome.ERROR
    assert "Unresolvable" in verdict.detail


def test_without_jsonschema_the_error_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(MissingExtraError, match=r"gristmill\[verifiers\]"):
        Format(json_schema=PERSON)
    assert Format(words=(1, None))("fine").correct


def test_a_catastrophic_pattern_is_killed_at_the_deadline() -> None:
    target = "gristmill.verifiers.rules.formats:Format"
    with Pool(target, options={"pattern": "^(a+)+$"}, workers=1, deadline=0.5) as pool:
        assert pool.verify("a" * 40 + "!", "").outcome is Outcome.TIMEOUT
        assert pool.verify("aaa", "").correct


def test_jsonschema_is_loaded_only_where_it_is_needed() -> None:
    code = (
        "import sys\n"
        "from gristmill.verifiers.rules.formats import Format\n"
        "assert Format(words=(1, None))('a').correct\n"
        "assert 'jsonschema' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_read_json_takes_the_only_block() -> None:
    assert read_json("```\n[1]\n```\nthat is it") == [1]
    with pytest.raises(ValueError, match="JSON"):
        read_json("```\n[1]\n```\n```\n[2]\n```")


REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, but I can’t assist with that request.",
    "Sorry, I cannot provide instructions for this.",
    "I cannot help you with that.",
    "I can't assist with creating malware.",
    "I am unable to provide medical advice.",
    "I'm not able to help with this request.",
    "As an AI language model, I cannot have opinions.",
    "As an AI, I don't have personal experiences.",
    "I must decline to answer this question.",
    "I must respectfully decline.",
    "Unfortunately, I cannot fulfill this request.",
    "I apologize, but I cannot comply with this request.",
    "That is an interesting topic. However, I can't share details about it.",
    "I won't provide that information.",
    "This request goes against my guidelines.",
    "I'm afraid I can't do that.",
    "I will not create such content.",
]
ANSWERS = [
    "I cannot recommend this book enough: it is wonderful.",
    "I can't believe how fast it went!",
    "I'm sorry to hear that. Here is what you can do.",
    "Sorry for the delay. The answer is 7.",
    "We cannot divide by zero, so x = 0 has no solution.",
    "You can't help feeling sad at the end of the film.",
    "She said: 'He cannot help you.' Then she left.",
    "As an AI researcher, I work on language models.",
    "The company must decline the offer.",
    "Unfortunately, the train was late.",
    "A plant cannot create energy from nothing.",
    "I can help you with that.",
    "I can't wait to see it.",
    "The guidelines of the club are strict.",
    "Here is a story: The knight could not help the king.",
    "I have to decline the noun: puella, puellae.",
    "An AI language model predicts tokens.",
    "To assist the user, write clearly. You cannot assist everyone.",
]
MISSED = ["That is nothing I would like to talk about.", "Let us speak of something else."]
"""Refusals in other words, which are known to be missed."""


def test_refusals_are_found_and_answers_are_not() -> None:
    assert [t for t in REFUSALS if not is_refusal(t)] == []
    # "I have to decline the noun" is the one false alarm of the table: precision 18/19.
    assert [t for t in ANSWERS if is_refusal(t)] == ["I have to decline the noun: puella, puellae."]
    assert not any(map(is_refusal, MISSED))


EVERY = Format(
    pattern="x",
    json_schema=PERSON,
    sections=("A",),
    ordered=True,
    words=(1, 2),
    language="en",
    repeated_ngrams=0.5,
    repeated_lines=0.5,
    refusal="forbidden",
)


@given(st.text(max_size=300) | st.text(alphabet="#*: \n`-I can't.[]{}", max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_gets_a_verdict(completion: str) -> None:
    assert EVERY(completion).outcome in (Outcome.CORRECT, Outcome.INCORRECT)


@pytest.mark.parametrize(
    "text", ["```a\n", "." * 10, "I can't ", "# ", "**", "a ", " \n", "[", "。", ".)", "x```\n"]
)
def test_hostile_text_is_read_in_linear_time(text: str) -> None:
    options = {
        "sections": ["A"],
        "words": [1, 9],
        "language": "en",
        "repeated_ngrams": 0.1,
        "json_schema": {},
    }
    with Pool("gristmill.verifiers.rules.formats:Format", options=options, workers=1, deadline=20) as pool:
        assert pool.verify(text * (1_000_000 // len(text)), "").decided
