"""``leaked``: prompts that give their answer away."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

from gristmill.filters.quality.base import RowFacts, TextCheck, excerpt

_CUE = r"(?:\b(?:answer|solution|result)\b\W{0,3}(?:is|was|are|:|=|->|→)|####|=>)\W{0,6}"
_OPTION = re.compile(r"^\W*(?:\(?[A-Za-z0-9][.):]|[-*•])\s", re.MULTILINE)


class LeakedAnswer(TextCheck, frozen=True, kw_only=True):
    r"""Rows whose prompt says the reference answer: behind "the answer is", ``####`` or in ``\boxed``, or,
    if it has at least ``words`` words, anywhere.

    A short answer that only occurs among the facts of a problem does not count, nor does one that is offered
    as a choice.
    """

    words: Annotated[int, Meta(ge=1)] = 6
    """Words of an answer from which its mere occurrence is a leak."""

    def find(self, text: str, told: RowFacts) -> str | None:
        """Where the prompt says it."""
        prompt, answer = told.prompt, (told.answer or "").strip()
        if not prompt or not answer:
            return None
        said = r"\s+".join(map(re.escape, answer.split()))
        whole = rf"(?<![\w.]){said}(?![\w]|[.,]\d)"
        boxed = rf"\\boxed\s*\{{\s*{said}\s*\}}"
        found = re.search(rf"{_CUE}{whole}|{boxed}", prompt, re.IGNORECASE)
        if found is None and len(answer.split()) >= self.words:
            found = re.search(whole, prompt, re.IGNORECASE)
            if found is not None and _OPTION.match(prompt, prompt.rfind("\n", 0, found.start()) + 1):
                found = None
        if found is None:
            return None
        return f"the prompt says {excerpt(prompt, max(0, found.start() - 10), found.end() + 10)}"
