"""Prompt templates."""

from __future__ import annotations

import pytest

from gristmill.core.engine import Message
from gristmill.core.errors import RecipeError
from gristmill.core.prompts import fill, fill_messages, require


def test_places_are_filled_in_one_pass_and_other_braces_stay() -> None:
    assert fill("{a} {b} {c} {{a}} {A} {}", a="{b}", b="2") == "{b} 2 {c} {{b}} {A} {}"
    assert fill_messages([Message("user", "{a}")], a="1") == (Message("user", "1"),)


def test_a_missing_place_is_named() -> None:
    messages = (Message("system", "{fence}"), Message("user", "{response}"))
    require("ask", messages, "fence", "response")
    with pytest.raises(RecipeError, match=r"'ask' has no place \{problem\}"):
        require("ask", messages, "response", "problem")
