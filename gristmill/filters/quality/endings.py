"""``truncation`` and ``length``: texts that were cut off, and those that are too short or too long."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

from gristmill.core.errors import RecipeError
from gristmill.filters.quality.base import RowFacts, TextCheck, excerpt

_CUT = re.compile(
    r"(?:\w,|[(\[{=+*/&]|\s[-–—]|(?<!\\)\\|\b(?:an?|the|and|or|but|because|if|than|our|its|their|your|into))\Z",
    re.IGNORECASE,
)
"""What no text ends with."""
_STOPPED = re.compile(r"[.!?。！？…:][\"'”’)\]}*_`$]*\Z")
_SENTENCE = re.compile(r"[\w$)}\]][.!?][\"'”’)$]*\s+[\"'“(]?[A-Z$\\]")
_WORD_LAST = re.compile(r"[^\W_]\Z")
_AFTER_STOP = re.compile(r".*[.!?:][\"'”’)\]}$]*\s+", re.DOTALL)


class Truncation(TextCheck, frozen=True, kw_only=True):
    """Texts that end before they are finished.

    Sure signs are ``finish_reason: length`` and an end that no text has: a comma, an open bracket, an
    operator, a word such as "the". With ``sentences`` a text of three sentences or more whose last one ends
    without a stop is cut off too.
    """

    sentences: bool = True
    """Whether the last sentence of a text in sentences must end with a stop. One of fewer than ``least``
    words, with a formula at its end or in a list is always let pass. Texts that leave out the last stop by
    their style need ``false``."""
    least: Annotated[int, Meta(ge=1)] = 6
    """Words of a last sentence from which it counts as prose."""

    def find(self, text: str, told: RowFacts) -> str | None:
        """How it ends."""
        if told.finish_reason == "length":
            return f"finish_reason is 'length'; it ends {_end(text)}"
        said = text.rstrip()
        if not said:
            return None
        if said.endswith("```"):
            return None
        if len(said.split()) > 3 and _CUT.search(said):
            return f"it ends {_end(said)}"
        if not self.sentences or _STOPPED.search(said) or len(_SENTENCE.findall(said)) < 2:
            return None
        line = said.splitlines()[-1].strip()
        last = _AFTER_STOP.sub("", line)
        prose = _WORD_LAST.search(last) and not re.match(r"[-*+•|#>]|\d+[.)]", line)
        if prose and len(last.split()) >= self.least and not re.search(r"[=\\]|\$", last.split()[-1]):
            return f"the last sentence has no end: {_end(said)}"
        return None


def _end(text: str) -> str:
    return excerpt(text.rstrip()[-60:])


class LengthLimits(TextCheck, frozen=True, kw_only=True):
    """Texts with fewer or more characters or words than wanted."""

    min_chars: Annotated[int, Meta(ge=0)] | None = None
    """The fewest characters; ``null``: no limit. White space at both ends does not count."""
    max_chars: Annotated[int, Meta(ge=0)] | None = None
    """The most characters."""
    min_words: Annotated[int, Meta(ge=0)] | None = None
    """The fewest words, as white space separates them."""
    max_words: Annotated[int, Meta(ge=0)] | None = None
    """The most words."""

    def __post_init__(self) -> None:
        if all(getattr(self, name) is None for name in self.__struct_fields__):
            raise RecipeError(
                "quality: length: there is no limit.",
                remedy="Set min_chars, max_chars, min_words or max_words.",
            )

    def find(self, text: str, told: RowFacts) -> str | None:
        """The length, and the limit."""
        said = text.strip()
        for unit, low, high in (
            ("characters", self.min_chars, self.max_chars),
            ("words", self.min_words, self.max_words),
        ):
            if low is None and high is None:
                continue
            size = len(said) if unit == "characters" else len(said.split())
            if low is not None and size < low:
                return f"{size} {unit}, fewer than {low}: {excerpt(said)}"
            if high is not None and size > high:
                return f"{size} {unit}, more than {high}: {excerpt(said)}"
        return None
