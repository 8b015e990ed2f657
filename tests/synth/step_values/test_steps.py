from __future__ import annotations

import time
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.synth.step_values.steps import By, Split, mathematical_part, protected

WAYS: tuple[By, ...] = get_args(By)
FENCE = "```python\nx = 1\n\nStep 2: y. Z\n```"
TILDES = "~~~~\n```\n\na. B\n~~~\n~~~~"
DOLLARS = "$$\nx = 1.\n\nStep 3: Y\n$$"
BRACKETS = "\\[\na. B\n\nc\\\\[2pt]\nd\n\\]"
NESTED = "\\begin{align}\na\n\n\\begin{cases} b. C\n\\end{cases}\n\nStep 4: d\n\\end{align}"
BLOCKS = (FENCE, TILDES, DOLLARS, BRACKETS, NESTED)
PARTS = ("\n", "\n\n", " ", ". B", "$", "$$", "\\[", "\\]", "\\(", "\\)", "\\begin{a}", "\\end{a}", "\\")
PARTS += (
    "```",
    "\n```\n",
    "~~~",
    "Step 1:",
    "\nStep 2: ",
    "4 = 5",
    "漢字",
    "\r\n",
    "e.g. ",
    "1. ",
    "\u2028",
    "\0",
)


@pytest.mark.parametrize(
    ("by", "steps"),
    [
        ("paragraph", ["A. B\nc\n\n", "Step 2: d\n \n\n", "Step 3: e"]),
        ("line", ["A. B\n", "c\n\n", "Step 2: d\n \n\n", "Step 3: e"]),
        ("step", ["A. B\nc\n\n", "Step 2: d\n \n\n", "Step 3: e"]),
        ("sentence", ["A. B\nc\n\n", "Step 2: d\n \n\n", "Step 3: e"]),
        ("tokens", ["A. B\nc\n\n", "Step 2: d\n \n\n", "Step 3: e"]),
    ],
)
def test_each_way_cuts_where_it_says(by: By, steps: list[str]) -> None:
    # "A." is an initial, so it ends no sentence.
    assert Split(by=by, window=3)("".join(steps)) == steps


def test_windows_count_words_and_han_characters() -> None:
    assert Split(by="tokens", window=2)("one two three  four five") == ["one two ", "three  four ", "five"]
    assert Split(by="tokens", window=2)("你好世界") == ["你好", "世界"]
    assert Split(by="tokens", window=1)("$$a b$$你 $c d$ e") == ["$$a b$$", "你 ", "$c d$ ", "e"]


def test_step_headings_may_be_marked_and_what_stands_before_the_first_is_a_step() -> None:
    steps = [
        "Plan.\n",
        "**Step 1:** a, as in step 2: b\n",
        "### Step 2. c\n",
        "- STEP 3) d\n",
        "  Step 10 - e",
    ]
    assert Split(by="step")("".join(steps)) == steps
    assert Split(by="step")("no heading\n\nat all") == ["no heading\n\nat all"]


def test_a_sentence_does_not_end_in_a_decimal_an_abbreviation_inline_mathematics_or_a_number() -> None:
    steps = [
        "It is 3.14 by Dr. Smith, e.g. $a. B$ or \\(c. D\\). ",
        "He pays $5. ",
        "Then he has $6 left!\n\n",
        "1. First we add. ",
        "2. Then we stop.\n\n",
        "# Answer\n\n",
        "Four",
    ]
    assert Split(by="sentence")("".join(steps)) == steps


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("by", WAYS)
def test_fences_and_display_mathematics_are_never_cut(by: By, block: str) -> None:
    text = f"One.\n\n{block}\n\nTwo words. Three"
    steps = Split(by=by, window=1)(text)
    assert "".join(steps) == text
    assert sum(block in step for step in steps) == 1
    assert [text[a:b] for a, b in protected(text)] == [block]


def test_what_is_not_closed_is_whole_to_the_end_or_to_the_next_blank_line() -> None:
    assert Split(by="paragraph")("a\n\n```\nb\n\nc") == ["a\n\n", "```\nb\n\nc"]
    assert Split(by="line")("$$\nx\ny\n\nz\nw") == ["$$\nx\ny\n\n", "z\n", "w"]
    assert Split(by="line")("\\[\nx\n\nz\n\\]\nw") == ["\\[\nx\n\nz\n\\]\n", "w"]
    assert Split(by="line")("a ```b\nc\n\\$$\nd") == ["a ```b\n", "c\n", "\\$$\n", "d"]
    closed = "\\begin{a}\\begin{b}x\\end{a}"
    assert protected(f"{closed} \\end{{b}}") == [(0, len(closed))]
    assert protected("```\n$$\n```\nb $$c$$") == [(0, 10), (13, 18)]


def test_a_short_step_joins_the_next_and_the_last_the_one_before() -> None:
    text = "So:\n\nfour is right.\n\nYes.\n\nThe answer is 4.\n\n4"
    joined = ["So:\n\nfour is right.\n\n", "Yes.\n\nThe answer is 4.\n\n4"]
    assert Split(min_chars=10)(text) == joined
    assert Split(min_chars=1000)(text) == [text]
    assert Split(min_chars=0)("\n\n \n\na\n\n") == ["\n\n \n\na\n\n"]
    assert Split()("  \n\n ") == ["  \n\n "] and Split()("") == []


def test_options_are_checked() -> None:
    for wrong in ({"by": "word"}, {"window": 0}, {"min_chars": -1}, {"size": 3}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, Split)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PARTS) | st.text(max_size=4)), st.sampled_from(WAYS), st.integers(0, 12))
def test_splitting_loses_nothing_and_leaves_no_blank_step(parts: list[str], by: By, least: int) -> None:
    text = "".join(parts)
    steps = Split(by=by, min_chars=least, window=3)(text)
    assert "".join(steps) == text
    assert len(steps) == 1 or all(len(s.strip()) >= max(1, least) for s in steps)
    bounds, at = set(), 0
    for step in steps[:-1]:
        at += len(step)
        bounds.add(at)
    assert not [(a, b) for a, b in protected(text) if any(a < bound < b for bound in bounds)]


# A quadratic way takes minutes on these; 20 s is for a loaded machine.
HOSTILE = [
    "a",
    "\n",
    "\n ",
    "\\[",
    "\\[\n\n",
    "\\(",
    "\\begin{a}",
    "$$ ",
    "$a ",
    "```\n",
    ". ",
    "1. ",
    "x = ",
]
HOSTILE += ["#> ", "\\", "1,", "- ", "Step 1: "]


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_takes_linear_time(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    started = time.process_time()
    for by in WAYS:
        assert "".join(Split(by=by)(text)) == text
    mathematical_part(text)
    assert time.process_time() - started < 20


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        ("We have 5 apples + 3 apples = 8 apples.", "5 apples + 3 apples = 8"),
        ("Thus a 48/2 = 24 a day, and (x = 4).", "48/2 = 24\n(x = 4)"),
        (
            "So $y=2$, \\(z\\) and\n\\[\na = b\n\\]\nas x^2 <= 9 says",
            "$y=2$\n\\(z\\)\n\\[\na = b\n\\]\nx^2 <= 9",
        ),
        ("Hence \\frac{1}{2} + x = 3, well-known as it is.", "\\frac{1}{2} + x = 3"),
        ("It costs $5 and then $6 for I - or a cat.", ""),
        ("The answer is 4.", ""),
        ("So x = 2 and the answer is \\boxed{\\frac{1}{2}}.", "x = 2\n\\boxed{\\frac{1}{2}}"),
        ("Run\n```\nprint(1)\n```\nto see", "```\nprint(1)\n```"),
    ],
)
def test_the_mathematical_part_of_a_step(step: str, kept: str) -> None:
    assert mathematical_part(step) == kept
