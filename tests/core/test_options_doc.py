from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gristmill.core.options_doc import descriptions, options, papers, summary


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(Struct):
    """Has a field."""

    depth: int = 0
    """How deep."""


class Below(Struct):
    """Comes first. Says more (arXiv 2502.19613, arXiv 2311.09677 and arXiv 2502.19613).

    A second paragraph.
    """

    plain: int
    """What it is,
    in two lines."""
    ranged: Annotated[float, Meta(gt=0, le=1)] = 0.5
    unsaid: str | None = None
    """Said."""
    many: tuple[Inner, ...] = ()
    named: dict[str, Annotated[int, Meta(ge=1)]] = msgspec.field(default_factory=dict, name="by-name")
    """By name."""
    choice: Literal["a", "b"] = "a"
    colour: Colour = Colour.RED
    function: Callable[[str], str] = str.upper


class Above(Below):
    ranged: Annotated[float, Meta(gt=0, le=1)] = 0.25
    """Another range."""
    more: Annotated[str, Meta(pattern="x", description="an x")] = "x"


def test_the_text_below_a_field_describes_it() -> None:
    assert descriptions(Below) == {
        "plain": "What it is, in two lines.",
        "unsaid": "Said.",
        "named": "By name.",
    }
    assert descriptions(Above) == {**descriptions(Below), "ranged": "Another range."}
    assert descriptions(msgspec.defstruct("Made", [("x", int)])) == {}


def test_options_have_types_ranges_and_defaults_in_words() -> None:
    assert [(o.name, o.type, o.default) for o in options(Above)] == [
        ("plain", "whole number", ""),
        ("ranged", "number, above 0, at most 1", "0.25"),
        ("unsaid", "text or null", "null"),
        ("many", "list of Inner", "[]"),
        ("by-name", "mapping of text to whole number, at least 1", "{}"),
        ("choice", "a | b", '"a"'),
        ("colour", "red | blue", '"red"'),
        ("function", "value", "<method 'upper' of 'str' objects>"),
        ("more", "text, matching x (an x)", '"x"'),
    ]
    assert options(len) == []


def test_a_part_is_summed_up_by_its_first_sentence_and_its_papers() -> None:
    assert summary(Below) == "Comes first."
    assert summary(Above) == ""
    assert papers(Below) == ["2502.19613", "2311.09677"]
    assert papers(Inner) == []
