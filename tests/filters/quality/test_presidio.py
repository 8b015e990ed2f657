"""Presidio's recognisers beside our own patterns, with a stand-in for the package."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import polars as pl
import pytest

from gristmill.core.errors import MissingExtraError, RecipeError
from gristmill.filters.quality import PersonalData, Redact, personal_data, presidio


def test_presidio_s_kinds_come_beside_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "mail a.b@firma-nord.de, passport 912803456"

    class Analyzer:
        def get_supported_entities(self, language: str) -> list[str]:
            return ["US_PASSPORT", "EMAIL_ADDRESS"]

        def analyze(self, text: str, **asked: object) -> list[SimpleNamespace]:
            assert asked == {"language": "en", "entities": ["US_PASSPORT"], "score_threshold": 0.4}
            return [
                SimpleNamespace(entity_type="US_PASSPORT", start=33, end=42),
                SimpleNamespace(entity_type="EMAIL_ADDRESS", start=5, end=22),
            ]

    monkeypatch.setattr(presidio, "_analyzer", lambda language, model: Analyzer())
    asked = presidio.Presidio(entities=("US_PASSPORT",))
    found = [(one.kind, text[one.start : one.end]) for one in personal_data(text, presidio=asked)]
    assert found == [("email", "a.b@firma-nord.de"), ("us_passport", "912803456")]
    rows = pl.LazyFrame({"id": ["1", "2"], "text": [text, "nothing"]})
    cleaned = Redact(columns=["text"], presidio=asked)([rows], 0).collect()["text"].to_list()
    assert cleaned[0] == "mail [EMAIL], passport [US_PASSPORT]"
    assert PersonalData().suspect is not None and PersonalData(presidio=asked).suspect is None
    with pytest.raises(RecipeError, match=r"'PERSON' is not a kind .* need a 'model'"):
        list(presidio.Presidio(entities=("PERSON",))(text))


def test_without_presidio_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(MissingExtraError, match="pip install presidio-analyzer"):
        list(presidio.Presidio(model="none")("x"))
