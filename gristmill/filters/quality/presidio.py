"""Presidio's recognisers as a further way to find personal data: names, passports, licences."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from gristmill.core.errors import MissingExtraError, RecipeError
from gristmill.core.registry import suggest

_ENTITIES = ("CRYPTO", "MAC_ADDRESS", "UK_NHS", "US_BANK_NUMBER", "US_ITIN", "US_PASSPORT")


class Presidio(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which of the recognisers of ``presidio-analyzer`` look for personal data, and how sure they must be.

    They look at every text, many times as slowly as our own patterns. Without a ``model`` only patterns and
    the words near them decide; names of people and places need one.
    """

    entities: tuple[Annotated[str, Meta(min_length=1)], ...] = _ENTITIES
    """The kinds, by Presidio's names; by default those that our own patterns lack and that mistake little
    else for them (``docs/quality.md``). For names add ``PERSON``, and give a ``model``. ``EMAIL_ADDRESS`` and
    ``URL`` fetch a list of domains over the network, once."""
    least: Annotated[float, Meta(ge=0, le=1)] = 0.4
    """How sure a recogniser must be. Patterns alone are at most 0.3 sure of a passport's or licence's number,
    and 0.4 or more where a word such as "passport" is near."""
    language: str = "en"
    """The language, by its two letters."""
    model: str | None = None
    """The name or folder of an installed spaCy model, such as ``en_core_web_sm``; never fetched by itself."""

    def __call__(self, text: str) -> Iterator[tuple[str, int, int]]:
        """The kind in lower case and the place ``start:end`` of all that is found.

        ``MissingExtraError`` without presidio-analyzer, ``RecipeError`` for a model or kind that it lacks.
        """
        analyzer = _analyzer(self.language, self.model)
        known = analyzer.get_supported_entities(self.language)
        for name in self.entities:
            if name not in known:
                named = "" if self.model else "Names of people and places need a 'model'. "
                raise RecipeError(
                    f"presidio: {name!r} is not a kind that it can find in the language {self.language!r}.",
                    remedy=named + suggest(name, known),
                )
        found = analyzer.analyze(
            text, language=self.language, entities=list(self.entities), score_threshold=self.least
        )
        yield from ((one.entity_type.lower(), one.start, one.end) for one in found)


@lru_cache(maxsize=4)
def _analyzer(language: str, model: str | None) -> Any:
    """An analyser for the language, with a model or with words as they are."""
    try:
        import spacy
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ImportError:
        raise MissingExtraError("presidio-analyzer", install="pip install presidio-analyzer") from None
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    if model is not None and not (spacy.util.is_package(model) or Path(model).is_dir()):
        raise RecipeError(
            f"presidio: {model!r} is not an installed spaCy model, and not a folder.",
            remedy=f"Install it (python -m spacy download {model}), or leave 'model' out for patterns alone.",
        )
    try:
        nlp = spacy.blank(language) if model is None else spacy.load(model)
    except (ImportError, OSError) as error:
        said = " ".join(str(error).split())
        raise RecipeError(
            f"presidio: spaCy cannot load {model or f'the language {language!r}'}: {said}.",
            remedy="Give a language's two letters, and a model of spaCy's version.",
        ) from error
    if model is None:
        cut = nlp.tokenizer

        def lowered(text: str) -> Any:
            words = cut(text)
            for word in words:
                word.lemma_ = word.lower_  # what Presidio compares with its words for a context
            return words

        nlp.tokenizer = lowered
    engine: Any = SpacyNlpEngine()
    engine.nlp = {language: nlp}
    analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=[language])
    if model is None:
        analyzer.registry.remove_recognizer("SpacyRecognizer")  # which would find no names, and not say so
    return analyzer
