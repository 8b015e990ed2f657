"""What stands for ``${...}`` in a loop's texts."""

from __future__ import annotations

import pytest

from gristmill.core.errors import RecipeError
from gristmill.pipelines.loops.places import Places


def test_a_place_is_packed_only_where_it_is_a_model() -> None:
    places = Places({"model": "m", "made": "runs/made"}, frozenset({"model"}), lambda model: f"{model}!")
    assert places.fill({"a": ["${model.gguf}", "{problem}", 3]}) == {"a": ["m!", "{problem}", 3]}
    for text in ("${made.gguf}", "${model or made.gguf}"):
        with pytest.raises(RecipeError, match="'made' is not a model"):
            places.fill(text)


def test_of_several_names_the_first_that_is_known_counts() -> None:
    places = Places({"x": 0.5, "m": "dir"}, frozenset(), str, coming=frozenset({"previous.x"}))
    assert places.fill(["${previous.x or x}", "at ${x or 2}", "${m}", "${previous.x or 3}"]) == [
        0.5,
        "at 0.5",
        "dir",
        3,
    ]
    with pytest.raises(RecipeError, match=r"not known in this round.*\$\{previous.x or base\}"):
        places.fill("${previous.x}")
    with pytest.raises(RecipeError, match=r"not known here.*'previous.x'"):
        places.fill("${m or previus.x}")
    with pytest.raises(RecipeError, match="'1e' is not a number"):
        places.fill("${previous.x or 1e}")
