"""Each check finds its fault, says what shows it, and lets pass what only looks like it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gristmill.core.errors import RecipeError
from gristmill.filters.quality import (
    Boilerplate,
    LanguageCheck,
    LeakedAnswer,
    LengthLimits,
    Listed,
    PersonalData,
    RefusalCheck,
    Repetition,
    RowFacts,
    TextCheck,
    Truncation,
    Unbalanced,
    language_of,
    personal_data,
)

PROSE = "The mill turns slowly. Its wheel lifts the water again. Nobody has seen it stop since the spring"
FORMULA = r"We get $x = \frac{1}{2}$. "
GERMAN = "Ein Fluss ist ein Gewässer, das auf dem Land entspringt und in ein Meer mündet."

FAULTS: list[tuple[TextCheck, str, str]] = [
    (Repetition(), "It goes. " + "round and round it goes " * 6, "times in a row"),
    (Repetition(), "no" * 20, "'no' 20 times in a row"),
    (
        Repetition(),
        "\n".join(["This line is a copy of one.", "So is this line, really."] * 3),
        "4 of 6 lines",
    ),
    (Repetition(), f"{PROSE}, {PROSE}, {PROSE}", "words are in runs of 8"),
    (Truncation(), PROSE, "the last sentence has no end"),
    (Truncation(), "We then divide both sides by the", "it ends"),
    (Truncation(), "So the sum is 3 +", "it ends"),
    (Unbalanced(), "```python\nprint(1)\n", "a code fence is not closed"),
    (Unbalanced(), r"\begin{align} x \end{aligned}", "closes nothing"),
    (Unbalanced(), r"\begin{align} x", r"\begin{align} is not closed"),
    (Unbalanced(), r"We see \( x + 1 and stop.", r"\( is not closed"),
    (Unbalanced(), r"x + 1 \] is it.", "closes nothing"),
    (Unbalanced(), r"\left( x )", r"1 \left and 0 \right"),
    (Unbalanced(), FORMULA + "And $y = 3.", "$ is not closed"),
    (Unbalanced(), FORMULA + "$$ y = 3", "$$ is not closed"),
    (Unbalanced(), r"\frac{1}{2", "1 { not closed"),
    (Unbalanced(), r"\frac{1}{2}}", "} closes nothing"),
    (LanguageCheck(keep=["en"]), GERMAN, "de ("),
    (LanguageCheck(keep=["de"]), PROSE, "en ("),
    (RefusalCheck(), "I'm sorry, but I can't help with that.", "it declines"),
    (Boilerplate(), "All rights reserved. Next.", "'All rights reserved'"),
    (Boilerplate(), "Fine.<|im_end|>", "'<|im_end|>'"),
    (Boilerplate(phrases=["buy now"]), "You should Buy  now!", "'Buy now'"),
    (Listed(), "Go away, you idiot.", "'you idiot'"),
    (LengthLimits(min_words=3), "two words", "2 words, fewer than 3"),
    (LengthLimits(max_chars=4), "abcde", "5 characters, more than 4"),
]
FINE: list[tuple[TextCheck, str]] = [
    (Repetition(), r"\begin{array}{ccccccccccccccccccc} 1 & 0 & 0 & 0 & 0 & 0 & 0 & 0 \end{array}"),
    (Repetition(), "-" * 80 + "=" * 80 + "_" * 80 + "0" * 60),
    (Repetition(), PROSE),
    (Truncation(), PROSE + "."),
    (Truncation(), PROSE.replace("since the spring", "$x$.") + " -miller"),
    (Truncation(), "A cork"),
    (Truncation(), "It is so. It was so. See:\n```\nx = (\n```"),
    (Unbalanced(), "It costs $5 and she has 16$, so $<<5+1=6>>6."),
    (Unbalanced(), FORMULA + "That costs $5 now."),
    (Unbalanced(), FORMULA + "If $x,$$y,$ and $z$ are odd, stop."),
    (Unbalanced(), FORMULA + r"It costs \$5, and \{ is a brace."),
    (Unbalanced(), "Write `\\frac{1` in code, or\n```\n$x\n```"),
    (Unbalanced(), "is:$$x$$\n$$y$$"),
    (LanguageCheck(keep=["en"]), "Ja."),
    (LanguageCheck(keep=["en"]), r"$\alpha = \beta$ \[ x^2 + y^2 = z^2 \] 1234 + 4567 = 5801"),
    (RefusalCheck(), "I cannot recommend this book enough."),
    (Boilerplate(), "Use `<div>` for a block."),
    (Listed(), "The idiots in the novel."),
]


@pytest.mark.parametrize(("check", "text", "said"), FAULTS)
def test_a_fault_is_found_and_shown(check: TextCheck, text: str, said: str) -> None:
    found = check.find(text, RowFacts())
    assert found is not None
    assert said in found


@pytest.mark.parametrize(("check", "text"), FINE)
def test_what_only_looks_like_a_fault_passes(check: TextCheck, text: str) -> None:
    assert check.find(text, RowFacts()) is None


def test_an_answer_that_was_cut_off_by_the_engine_is_truncated_whatever_it_ends_with() -> None:
    assert Truncation().find("All is said.", RowFacts(finish_reason="length")) is not None
    assert Truncation().find("All is said.", RowFacts(finish_reason="stop")) is None


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("to marta.k+x@firma-nord.de now", "email", "marta.k+x@firma-nord.de"),
        ("call +49 30 901820 57.", "phone", "+49 30 901820 57"),
        ("call (212) 555-0147 now", "phone", "(212) 555-0147"),
        ("Tel. 030 901820", "phone", "030 901820"),
        ("to DE89 3704 0044 0532 0130 00.", "iban", "DE89 3704 0044 0532 0130 00"),
        ("card 4111 1111 1111 1111", "card", "4111 1111 1111 1111"),
        ("card 378282246310005", "card", "378282246310005"),
        ("ssn 536-90-4399", "ssn", "536-90-4399"),
        ("from 93.184.216.34", "ip", "93.184.216.34"),
        ("from 2606:4700:4700::1111", "ip", "2606:4700:4700::1111"),
        ("key sk-abcd1234efgh5678 end", "key", "sk-abcd1234efgh5678"),
        ("-----BEGIN RSA PRIVATE KEY-----", "key", "-----BEGIN RSA PRIVATE KEY-----"),
    ],
)
def test_personal_data_is_found_where_it_is_and_never_shown(text: str, kind: str, found: str) -> None:
    assert [(f.kind, text[f.start : f.end]) for f in personal_data(text)] == [(kind, found)]
    said = PersonalData().find(text, RowFacts())
    assert said is not None
    assert kind in said
    assert found not in said


@pytest.mark.parametrize(
    "text",
    [
        "DE89 3704 0044 0532 0130 01",  # a digit off: the checksum fails
        "4111 1111 1111 1112",
        "you@example.com and you@mail.example.org and root@localhost",
        "127.0.0.1, 10.0.0.7, 192.168.1.1, ::1 and version 1.2.3.4.5",
        "opencv==4.9.0.80",
        "3600-240 d+4 d^{2}+3600-120 d",
        "123-45-678, 2021-03-04, 1,234,567,890",
        "The risk-averse-and-careful investor",
    ],
)
def test_what_no_checksum_or_form_holds_for_is_not_personal(text: str) -> None:
    assert list(personal_data(text)) == []


@pytest.mark.parametrize(
    ("prompt", "answer", "leaks"),
    [
        ("How many? The answer is 42.", "42", True),
        ("How many? Answer: 42", "42", True),
        (r"12 squared? \boxed{144}", "144", True),
        ("Say it. #### 7", "7", True),
        ("There are 42 eggs. How many are left?", "42", False),
        ("The answer is 42.5 or so?", "42", False),
        ("Why? Because water grows when it is frozen.", "water grows when it is frozen", True),
        ("Which?\nA) water grows when it is frozen\nB) it shrinks", "water grows when it is frozen", False),
        ("The answer is 42.", None, False),
        ("The answer is .", "", False),
    ],
)
def test_a_prompt_that_says_the_answer(prompt: str, answer: str | None, leaks: bool) -> None:
    found = LeakedAnswer().find("", RowFacts(prompt, answer))
    assert (found is not None) is leaks


def test_a_list_can_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("acme corp\n\n  blurgh \n")
    check = Listed(words=[], file=str(path))
    assert check.find("Then Acme  Corp came.", RowFacts()) is not None
    assert check.find("A blurghy day.", RowFacts()) is None
    with pytest.raises(RecipeError, match="does not exist"):
        Listed(file=str(tmp_path / "none.txt"))


def test_options_that_check_nothing_are_refused() -> None:
    with pytest.raises(RecipeError, match="there is no limit"):
        LengthLimits()
    with pytest.raises(RecipeError, match="'xx' is not a language"):
        LanguageCheck(keep=["xx"])


def test_the_language_of_little_text_is_not_told() -> None:
    assert language_of("Ja.") is None
    assert (language_of(GERMAN) or ("",))[0] == "de"
