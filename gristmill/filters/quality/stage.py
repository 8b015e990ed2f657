"""``quality``: rows whose text is at fault by any of the checks that are named."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from gristmill.core.errors import RecipeError
from gristmill.core.stages import REJECTED_DETAIL, REJECTED_REASON, Filter
from gristmill.filters.quality.base import RowFacts, TextCheck
from gristmill.filters.quality.endings import LengthLimits, Truncation
from gristmill.filters.quality.language import LanguageCheck
from gristmill.filters.quality.leak import LeakedAnswer
from gristmill.filters.quality.pairing import Unbalanced
from gristmill.filters.quality.personal import PersonalData
from gristmill.filters.quality.phrases import Boilerplate, Listed, RefusalCheck
from gristmill.filters.quality.repetition import Repetition
from gristmill.filters.tables import CONVERSATION, compared, key_column

if TYPE_CHECKING:
    import polars as pl

_ROWS = 2_000
"""Texts that are in Python at a time."""


class Quality(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reject the rows whose text fails a check. Only checks that are named are made, with ``{}`` as they are.

    The reason is the first check that fails, in the order of the options below; the detail says what was
    found and names further checks that fail. Each row is judged by itself. Which of these rules raise the
    quality of a model that is trained on the rest is another matter: a large study of reasoning data
    (arXiv 2506.04178) found that the choice of questions by difficulty and by the length of answers helped,
    and that none of its filters of answers did.
    """

    marks_only: ClassVar[bool] = True
    row_by_row: ClassVar[bool] = True

    text: str = CONVERSATION
    """What is checked: ``problem``, ``completion``, ``conversation`` (all messages and the completion) or any
    column of text. Rows where it is null are kept, except by ``length``, for which they are empty."""
    prompt: str = "problem"
    """The column in which ``leaked`` looks for the answer."""
    answer: str = "answer"
    """The column with the answer that ``leaked`` looks for."""
    length: LengthLimits | None = None
    """Texts that are too short or too long."""
    repetition: Repetition | None = None
    """Loops, copied lines, repeated runs of words."""
    truncation: Truncation | None = None
    """Texts that were cut off."""
    unbalanced: Unbalanced | None = None
    """LaTeX and code fences without their other half."""
    language: LanguageCheck | None = None
    """Texts in other languages than those wanted."""
    refusal: RefusalCheck | None = None
    """Answers that decline to answer."""
    boilerplate: Boilerplate | None = None
    """Cookie notices, navigation, markup, tokens of chat templates."""
    personal: PersonalData | None = None
    """E-mail addresses, phone numbers, bank and card numbers, IP addresses, keys."""
    leaked: LeakedAnswer | None = None
    """Rows whose prompt says the answer."""
    listed: Listed | None = None
    """Words of a list, such as hints at toxicity."""

    def __post_init__(self) -> None:
        if not self._checks():
            raise RecipeError(
                "quality: no check is named.",
                remedy=f"Name at least one, as in repetition: {{}}. There are: {', '.join(_CHECKS)}.",
            )

    def _checks(self) -> dict[str, TextCheck]:
        return {name: check for name in _CHECKS if (check := getattr(self, name)) is not None}

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        """All rows, with the check as the reason and what it found as the detail for each to reject."""
        import polars as pl

        schema, checks = frame.collect_schema(), self._checks()
        columns = {"text": compared(schema, self.text, "quality")}
        for field, name in (("prompt", self.prompt), ("answer", self.answer)):
            if self.leaked is not None:
                found = key_column(schema, name, f"quality: {field}", keyword=False)
                columns[field] = pl.col(found).cast(pl.String)
        if "finish_reason" in schema and self.truncation is not None:
            columns["finish_reason"] = pl.col("finish_reason")
        rows = frame.select(**columns).collect()
        details = [dict[str, str]() for _ in range(rows.height)]
        for name, check in checks.items():
            for at, found in _found(rows, check):
                details[at][name] = found
        reasons = [f"quality: {next(iter(one))}" if one else None for one in details]
        said = pl.LazyFrame(
            {
                REJECTED_REASON: pl.Series(reasons, dtype=pl.String),
                REJECTED_DETAIL: pl.Series([_told(one) for one in details], dtype=pl.String),
            }
        )
        return pl.concat([frame, said], how="horizontal")


_CHECKS = tuple(n for n in Quality.__struct_fields__ if n not in ("text", "prompt", "answer"))


def _told(found: dict[str, str]) -> str | None:
    if not found:
        return None
    first, *further = found
    return found[first] + (f" (also: {', '.join(further)})" if further else "")


def _found(rows: pl.DataFrame, check: TextCheck) -> list[tuple[int, str]]:
    """The places of the rows at fault, with what is wrong; only those that may be are read."""
    import polars as pl

    text = pl.col("text").fill_null("") if isinstance(check, LengthLimits) else pl.col("text")
    looked = rows.with_columns(text).with_row_index("\x1fat").drop_nulls("text")
    if check.suspect is not None:
        looked = looked.filter(pl.col("text").str.contains(check.suspect))
    columns = [name for name in RowFacts._fields if name in looked.columns]
    found = []
    for piece in looked.iter_slices(_ROWS):
        told = [RowFacts(**row) for row in piece.select(columns).to_dicts()] or [RowFacts()] * piece.height
        for at, said, rest in zip(piece["\x1fat"].to_list(), piece["text"].to_list(), told, strict=True):
            if (fault := check.find(said, rest)) is not None:
                found.append((at, fault))
    return found
