"""``repetition``: texts that say the same over and over."""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Annotated

from msgspec import Meta

from gristmill.filters.quality.base import RowFacts, TextCheck, excerpt

Part = Annotated[float, Meta(ge=0, le=1)]

_GLUED = re.compile(r"([^\W\d_])\1{39,}|([^\W_]\S{1,19}?)\2{14,}")
"""A letter 40 times in a row (the columns of a LaTeX array are fewer), or 15 times a unit without spaces."""
_PLAIN = re.compile(r"[^\W\d_]{2,}[.,;:!?]?")
_SIZE = 3


class Repetition(TextCheck, frozen=True, kw_only=True):
    """Loops, copied lines and repeated runs of words.

    Shares of duplicate lines and n-grams are those of Gopher's quality rules (arXiv 2112.11446, table A1) in
    kind, not in number: those were set for web pages, and reject worked solutions, whose formulas repeat.
    """

    lines: Part = 0.4
    """The largest share of lines (of those that are not blank, of at least 20 characters) that may repeat an
    earlier one. A single such repeat is always let pass."""
    ngram: Annotated[int, Meta(ge=2, le=50)] = 8
    """Words in a row that ``ngrams`` counts."""
    ngrams: Part = 0.45
    """The largest share of a text's words that may be in a run of ``ngram`` words that was there before.
    Runs of which less than half are plain words are left out: formulas repeat. Texts of fewer than 40 words
    pass."""
    loops: Annotated[int, Meta(ge=2)] = 5
    """So many times in a row the same words make a loop, if they are 15 words or more together."""

    def find(self, text: str, told: RowFacts) -> str | None:
        """The loop, the line or the run."""
        return self._loop(text) or self._lines(text) or self._ngrams(text)

    def _loop(self, text: str) -> str | None:
        if glued := _GLUED.search(text):
            unit = glued[1] or glued[2]
            if any(c.isalpha() for c in unit):
                return f"{excerpt(unit)} {len(glued[0]) // len(unit)} times in a row"
        words = text.split()
        last: dict[tuple[str, ...], int] = {}
        apart = length = 0
        for at, gram in enumerate(zip(*(words[i:] for i in range(_SIZE)), strict=False)):
            distance = at - last.get(gram, -at - len(words))
            last[gram] = at
            length = length + 1 if distance == apart else 1
            apart = distance
            if distance > len(words):
                continue
            covered = length + apart + _SIZE - 1
            if length >= apart * (self.loops - 1) - _SIZE + 1 and covered >= 15:
                unit = " ".join(words[at - apart + 1 : at + 1])
                if re.search(r"[^\W\d_]{2}", unit):
                    return f"{excerpt(unit)} {self.loops} times in a row or more"
        return None

    def _lines(self, text: str) -> str | None:
        lines = [line for raw in text.splitlines() if len(line := raw.strip()) >= 20]
        seen: set[str] = set()
        again = [line for line in lines if line in seen or seen.add(line)]  # type: ignore[func-returns-value]
        if len(again) < 2 or len(again) <= self.lines * len(lines):
            return None
        return f"{len(again)} of {len(lines)} lines repeat an earlier one, such as {excerpt(again[0])}"

    def _ngrams(self, text: str) -> str | None:
        words = text.lower().split()
        if len(words) < 40:
            return None
        plain = list(accumulate((_PLAIN.fullmatch(word) is not None for word in words), initial=0))
        seen: set[tuple[str, ...]] = set()
        covered, until, first = 0, 0, -1
        for at in range(len(words) - self.ngram + 1):
            gram = tuple(words[at : at + self.ngram])
            if gram in seen and 2 * (plain[at + self.ngram] - plain[at]) >= self.ngram:
                first = at if first < 0 else first
                covered += at + self.ngram - max(until, at)
                until = at + self.ngram
            seen.add(gram)
        if covered <= self.ngrams * len(words):
            return None
        run = excerpt(" ".join(words[first : first + self.ngram]))
        return f"{covered} of {len(words)} words are in runs of {self.ngram} that repeat, such as {run}"
