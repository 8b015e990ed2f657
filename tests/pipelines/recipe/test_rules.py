"""How the rules that a recipe breaks are told."""

from __future__ import annotations

from typing import Any

import pytest

from gristmill.core.errors import RecipeError
from gristmill.pipelines.recipe.recipe import from_dict


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "a/b"}, "name: 'a/b' is refused: it must be up to 64 letters, digits, '_', '-' and '.'"),
        ({"source": {"path": "a", "answers": "all"}}, "it must be one of 'strict', 'text'"),
        (
            {"engine": {"kind": "openai", "base_url": "ftp://h", "model": "m"}},
            "engine.base_url: 'ftp://h' is refused: it must be a URL that begins with http:// or https://",
        ),
        (
            {"engine": {"kind": "openai", "base_url": "http://h", "model": "m", "abilities": ["fly"]}},
            "engine.abilities[0]: 'fly' is refused: it must be one of 'chat', 'continue',",
        ),
        ({"verifiers": {"a.b": {}}}, "verifiers: the name 'a.b' is refused. Take up to 64 letters,"),
    ],
    ids=["name", "literal", "url", "list", "key"],
)
def test_errors_list_what_is_allowed_and_show_no_regular_expression(changes: Any, said: str) -> None:
    engine = {"kind": "scripted", "replies": [{"texts": ["a"]}]}
    base = {"name": "x", "source": {"path": "a"}, "engine": engine, "stages": [{"stage": "sample"}]}
    with pytest.raises(RecipeError) as caught:
        from_dict(base | changes)
    assert said in str(caught.value)
    assert "regex" not in str(caught.value) and "^" not in str(caught.value)
