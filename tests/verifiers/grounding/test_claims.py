"""What an answer claims: its sentences, their places, what they cite and state."""

from __future__ import annotations

import pytest

from gristmill.verifiers.grounding.claims import facts, split


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Paris is big.[2] It is old [1, 3]. So.", ["Paris is big.[2]", "It is old [1, 3].", "So."]),
        ("It fell. [2] Then it rose. [1]", ["It fell. [2]", "Then it rose. [1]"]),
        ("Dr. Smith et al. [2] found it.", ["Dr. Smith et al. [2] found it."]),
        (
            "It rose by 3.5 percent, e.g. in the U.S. Navy.",
            ["It rose by 3.5 percent, e.g. in the U.S. Navy."],
        ),
        ("Call `a.b[2]. C` now. Then stop.", ["Call `a.b[2]. C` now.", "Then stop."]),
        ("1. One here.\n2. Two\n- Three", ["One here.", "Two", "Three"]),
        ("Text\n```py\nx = a[1]. B\n```\nEnd.", ["Text", "```py\nx = a[1]. B\n```", "End."]),
        ("```\nunclosed. Code", ["```\nunclosed. Code"]),
        ("One line\ngoes on. Two", ["One line\ngoes on.", "Two"]),
        ("It fell to 1.3. The U.S. Navy left.", ["It fell to 1.3.", "The U.S. Navy left."]),
        ("", []),
        (" \n\n ", []),
    ],
)
def test_sentences_stand_where_they_are_said_to(text: str, parts: list[str]) -> None:
    assert [text[s.start : s.end] for s in split(text)] == parts


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("It is [2].", ["2"]),
        ("It is.[2][3] So", ["2", "3"]),
        ("It is [1, 3-4].", ["1, 3-4"]),
        ("See [doc.a].", ["doc.a"]),
        ("In `x[2]` it is, in [1999] too.", []),
    ],
)
def test_citations_are_read_outside_code(text: str, cited: list[str]) -> None:
    first = split(text, ["doc.a"])[0]
    assert list(first.cited) == cited
    assert not cited or "[" not in first.text


def test_facts_of_a_sentence() -> None:
    found = facts('However, NASA paid Marie Curie 3.5 million in 1969, one of the "very large prizes".')
    assert found.numbers == ("3500000", "1969")
    assert found.names == ("NASA", "Marie", "Curie")
    assert found.quotes == ("very large prizes",)
    assert facts("London is big, however small.").possible == ("London",)
    assert facts("I'm sure that one of the two first.").numbers == ("2",)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Did you know that the tower is tall?", "claim"),
        ("The tower is tall, isn't it?", "claim"),
        ("How tall is the tower?", "no claim"),
        ("# The tower is very tall", "claim"),
        ("# The Eiffel Tower", "no claim"),
        ("**The tower was painted red**", "claim"),
        ("**Height**", "no claim"),
        ("The passages do not say it.", "abstention"),
    ],
)
def test_questions_headings_and_bold_lines_may_claim_something(text: str, kind: str) -> None:
    assert [s.kind for s in split(text)] == [kind]


def test_each_row_of_a_table_is_a_sentence_of_its_own() -> None:
    rows = split("| tower | 330 |\n| museum | 12 |")
    assert [row.text.strip(" |") for row in rows] == ["tower | 330", "museum | 12"]
