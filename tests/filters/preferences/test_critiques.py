"""Critiques that praise or blame, and scores that they contradict. The critiques here are made up."""

from __future__ import annotations

import json

import pytest
from pairs_of import scored, table
from table_rows import out, rejected

from gristmill.core.errors import RecipeError
from gristmill.filters.preferences import Contradictions, stance

BLAME = (
    "Your answer does not address the question. It is confusing and gives a false date. Try to be accurate."
)
PRAISE = "An accurate and thorough answer, with clear examples. You could mention the second theorem, too."


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        (BLAME, -1, -0.7),
        (PRAISE, 0.6, 1),
        ("It would be helpful to explain the steps. Make sure that the result is correct.", None, None),
        ("The proof has no errors and is not only correct, it is elegant.", 0.9, 1),
        ("It lacks a clear, helpful and accurate explanation.", -1, -0.9),
        ("The code is correct, but it ignores empty lists.", -0.4, 0.4),
        ("Critiques:\n1. Lack of depth: nothing is explained.\n2. Incorrect units.", -1, -0.9),
        ("Strengths: 1. Well structured.\n2. Overall, the response is excellent.", 0.9, 1),
        ("42", None, None),
        ("", None, None),
    ],
)
def test_how_a_critique_is_understood(text: str, least: float | None, most: float | None) -> None:
    found = stance(text)
    if least is None or most is None:
        assert found is None
    else:
        assert found is not None
        assert least <= found <= most


def test_a_high_score_with_blame_and_a_low_one_with_praise_are_rejected() -> None:
    def row(id: str, chosen: float, rejected: float, *critiques: object) -> object:
        keys = dict(zip(("chosen_critique", "rejected_critique"), critiques, strict=False))
        return scored(id, {"chosen": chosen, "rejected": rejected}, meta=json.dumps(keys))

    rows = table(
        row("ten for one", 10, 6, BLAME, PRAISE),  # type: ignore[arg-type]
        row("eight", 8, 6, BLAME, ""),  # type: ignore[arg-type]
        row("low", 8, 2, PRAISE, PRAISE),  # type: ignore[arg-type]
        row("right", 9, 2, PRAISE, BLAME),  # type: ignore[arg-type]
        row("middling", 6, 5, BLAME, PRAISE),  # type: ignore[arg-type]
        row("none", 10, 6),  # type: ignore[arg-type]
        row("not text", 10, 6, ["no"], None),  # type: ignore[arg-type]
    )
    assert rejected(Contradictions(), rows) == {
        "ten for one": "contradictions: the critique of the chosen side blames it, and its score is high",
        "eight": "contradictions: the critique of the chosen side blames it, and its score is high",
        "low": "contradictions: the critique of the rejected side praises it, and its score is low",
    }
    assert out(Contradictions(stance=0.95), rows).height == 7, "neither critique is that clear"
    with pytest.raises(RecipeError, match="not in order"):
        Contradictions(lowest=5, highest=1)
