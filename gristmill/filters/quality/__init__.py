"""Texts at fault: repetition, truncation, other languages, personal data ...; stages to reject or redact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.filters.quality.base import RowFacts, TextCheck
    from gristmill.filters.quality.endings import LengthLimits, Truncation
    from gristmill.filters.quality.language import LanguageCheck, language_of
    from gristmill.filters.quality.leak import LeakedAnswer
    from gristmill.filters.quality.pairing import Unbalanced
    from gristmill.filters.quality.personal import PersonalData, personal_data
    from gristmill.filters.quality.phrases import Boilerplate, Listed, RefusalCheck
    from gristmill.filters.quality.presidio import Presidio
    from gristmill.filters.quality.redact import Redact
    from gristmill.filters.quality.repetition import Repetition
    from gristmill.filters.quality.stage import Quality

__all__ = [
    "Boilerplate",
    "LanguageCheck",
    "LeakedAnswer",
    "LengthLimits",
    "Listed",
    "PersonalData",
    "Presidio",
    "Quality",
    "Redact",
    "RefusalCheck",
    "Repetition",
    "RowFacts",
    "TextCheck",
    "Truncation",
    "Unbalanced",
    "language_of",
    "personal_data",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Boilerplate": ".phrases",
        "LanguageCheck": ".language",
        "LeakedAnswer": ".leak",
        "LengthLimits": ".endings",
        "Listed": ".phrases",
        "PersonalData": ".personal",
        "Presidio": ".presidio",
        "Quality": ".stage",
        "Redact": ".redact",
        "RefusalCheck": ".phrases",
        "Repetition": ".repetition",
        "TextCheck": ".base",
        "RowFacts": ".base",
        "Truncation": ".endings",
        "Unbalanced": ".pairing",
        "language_of": ".language",
        "personal_data": ".personal",
    },
)
