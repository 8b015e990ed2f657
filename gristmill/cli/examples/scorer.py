"""A scorer that counts words with which an answer hedges."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gristmill.core import Context, RowRejected, Score
from gristmill.synth.scorers import Answered, Scorer


class Hedges(Scorer, frozen=True, kw_only=True):
    """The share of an answer's words that are among ``words``."""

    words: tuple[str, ...] = ("maybe", "perhaps", "probably")
    """The words that are counted, in small letters."""

    async def __call__(self, answer: Answered, context: Context, score: str) -> Sequence[Score]:
        """The share, under the name that the stage gives."""
        said = re.findall(r"\w+", answer.completion.lower())
        if not said:
            raise RowRejected("no words")  # the row is kept, and its score says so
        return [Score(score, sum(word in self.words for word in said) / len(said))]
