"""``language``: texts in other languages than those wanted."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any

from msgspec import Meta

from gristmill.core.errors import RecipeError
from gristmill.core.registry import suggest
from gristmill.filters.quality.base import RowFacts, TextCheck, excerpt
from gristmill.filters.quality.phrases import without_code

_NOT_WORDS = re.compile(
    r"\$\$.*?\$\$|\$[^$\n]*\$|\\\(.*?\\\)|\\\[.*?\\\]|\[asy\].*?\[/asy\]|\\[a-zA-Z]+|https?://\S+|[\d_{}\\^=+*/<>|#]",
    re.DOTALL,
)
_LETTER = re.compile(r"[^\W\d_]")
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_SAMPLE = 5_000


class LanguageCheck(TextCheck, frozen=True, kw_only=True):
    """Texts whose language, by the package py3langid, is not among those to keep.

    Formulas, code and addresses are left out first. A text that has little else is kept, as is one whose
    language is not sure.
    """

    keep: Annotated[list[str], Meta(min_length=1)]
    """The languages to keep, by their codes of ISO 639-1: ``[en, de]``."""
    sure: Annotated[float, Meta(ge=0, le=1)] = 0.9
    """The probability from which another language rejects a text."""
    least: Annotated[int, Meta(ge=1)] = 40
    """Letters that a text must have to be judged; one of Chinese, Japanese or Korean counts as four."""

    def __post_init__(self) -> None:
        known = _identifier().labels
        for code in self.keep:
            if code not in known:
                raise RecipeError(
                    f"quality: language: {code!r} is not a language that can be recognised.",
                    remedy=f"{suggest(code, known)} They are: {', '.join(sorted(known))}.",
                )

    def find(self, text: str, told: RowFacts) -> str | None:
        """The language, and how sure it is."""
        found = language_of(text, self.least)
        if found is None or found[0] in self.keep or found[1] < self.sure:
            return None
        return f"{found[0]} ({found[1]:.2f}): {excerpt(text)}"


def language_of(text: str, least: int = 40) -> tuple[str, float] | None:
    """The language of the text's words and its probability in [0, 1]; ``None`` for fewer than ``least``
    letters."""
    words = re.sub(r"\s+", " ", _NOT_WORDS.sub(" ", without_code(text[:_SAMPLE])))
    if len(_LETTER.findall(words)) + 3 * len(_WIDE.findall(words)) < least:
        return None
    language, probability = _identifier().classify(words)
    return str(language), float(probability)


class _Identifier:
    """py3langid's model with probabilities; loaded once."""

    def __init__(self) -> None:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

        self._model: Any = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        self.labels = frozenset(map(str, self._model.nb_classes))

    def classify(self, text: str) -> tuple[str, float]:
        found: tuple[str, float] = self._model.classify(text)
        return found


@lru_cache(maxsize=1)
def _identifier() -> _Identifier:
    return _Identifier()
