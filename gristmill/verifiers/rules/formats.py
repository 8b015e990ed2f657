"""The form of a text: patterns, JSON Schema, sections, length, language, repetition, refusals."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gristmill.core.errors import MissingExtraError, RecipeError
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.base import Rewarding
from gristmill.verifiers.evidence import Check, all_of
from gristmill.verifiers.guard import guarded
from gristmill.verifiers.text import words as t

Band = tuple[Annotated[int, Meta(ge=0)] | None, Annotated[int, Meta(ge=0)] | None]
"""The least and the most, each included; ``None`` (``null``) for no limit on that side."""
Share = Annotated[float, Meta(ge=0, le=1)]

# At the start of a line, so that an opening mark that is never closed is met once.
_FENCE = re.compile(r"^[ \t]*+```[a-zA-Z]{0,10}[ \t]*+\n(.*?)\n[ \t]*+```", re.DOTALL | re.MULTILINE)
_REFUSAL_SPAN = 400
"""A refusal is looked for in so many first characters."""
_HELP = (
    r"(?:help|assist|comply|fulfill?|answer (?:that|this)|provide|do that|discuss|engage|generate|create"
    r"|write|share"
    r"|continue|participate|support|offer|give (?:you|advice|instructions)|complete (?:this|that|your)"
    r"|process (?:this|that|your)|carry out|accommodate|answer your)"
)
_UNABLE = (
    r"(?:can['’]?t|cannot|can not|am unable to|['’]m unable to|am not able to|['’]m not able to|won['’]t"
)
_UNABLE += r"|will not|must decline to|am not allowed to|['’]m not allowed to|am not permitted to|refuse to)"
_REFUSAL = re.compile(
    rf"(?:\A|[.!\n,;:]\s*|\b(?:but|and|however|therefore|so),?\s+)I\s*{_UNABLE}\s+(?:\w+\s+)?{_HELP}\b"
    rf"|\A\W*(?:I['’]m|I am)? ?(?:very |so |truly )?(?:sorry|afraid)\b[^.!?\n]{{0,60}}\bI\s*{_UNABLE}\b"
    r"|\bas an? (?:AI|artificial intelligence|(?:large )?language model)\b[^.!?\n]{0,60}\bI\s+"
    r"(?:can['’]?t|cannot|am unable|am not able|do not have|don['’]t have|must decline|won['’]t)"
    r"|\A\W*I (?:must|have to|need to|will have to|respectfully) (?:respectfully )?(?:decline|refuse)\b"
    r"|\A\W*(?:sorry|apologies|unfortunately)\b[^.!?\n]{0,40}\bI\s*"
    rf"{_UNABLE}\s+(?:\w+\s+)?{_HELP}\b"
    r"|\b(?:against|violates?) (?:my|our) (?:guidelines|programming|policy|policies|principles)\b",
    re.IGNORECASE,
)


class Format(Rewarding, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Judge the form of a completion; the reference is not read. ``correct`` if every check given passes.

    - ``pattern``: a regular expression (Python's ``re``) that is found in the text, or with ``whole`` covers
      all of it; ``forbidden_pattern``: one that is not found. Nothing here keeps a catastrophic expression
      (``(a+)+$``) from running on: run the verifier in ``isolation.Pool``, whose deadline kills it.
    - ``json_schema``: the text, or its only fenced block, is JSON that the schema admits. References to
      other documents are not followed.
    - ``sections``: titles that must stand as headings (``## Title``, ``**Title**``, ``Title:``), in any
      case, and with ``ordered`` in this order.
    - ``chars``, ``words``, ``lines`` (not blank): bands, as ``[10, 200]`` or ``[null, 200]``.
    - ``language``: one of ``text.LANGUAGES``. A text whose language cannot be told is ``unparseable``
      unless another check fails.
    - ``repeated_ngrams``, ``repeated_lines``: the largest share of n-grams (of ``ngram`` words) and lines
      that may be repeats of earlier ones.
    - ``refusal``: ``forbidden`` or ``required``; see ``is_refusal``.

    An empty text passes none. The score is the share of checks passed; ``detail`` names every one that
    failed and why.
    """

    pattern: str | None = None
    whole: bool = False
    forbidden_pattern: str | None = None
    json_schema: dict[str, Any] | None = None
    sections: tuple[str, ...] = ()
    ordered: bool = False
    chars: Band | None = None
    words: Band | None = None
    lines: Band | None = None
    language: str | None = None
    ngram: Annotated[int, Meta(ge=1, le=50)] = 4
    repeated_ngrams: Share | None = None
    repeated_lines: Share | None = None
    refusal: Literal["forbidden", "required"] | None = None

    def __post_init__(self) -> None:
        for name in ("pattern", "forbidden_pattern"):
            compiled(getattr(self, name) or "", f"format: {name}")
        known_language(self.language or "en", "format")
        if self.json_schema is not None:
            schema_validator(self.json_schema)
        if all(getattr(self, name) in (None, ()) for name in _CHECKED):
            raise RecipeError("format: no check is given.", remedy=f"Give some of {', '.join(_CHECKED)}.")

    def __call__(self, completion: str, reference: str = "") -> Verdict:
        """Judge ``completion``."""
        return guarded(lambda: all_of(of_some_text(completion, list(self._checks(completion)))))

    def _checks(self, text: str) -> Iterator[Check]:
        if self.pattern is not None:
            find = re.fullmatch if self.whole else re.search
            yield Check("pattern", find(self.pattern, text) is not None, f"{self.pattern!r} does not match")
        if self.forbidden_pattern is not None:
            hit = re.search(self.forbidden_pattern, text)
            yield Check("forbidden_pattern", hit is None, f"{hit[0][:60]!r} matches" if hit else "")
        if self.json_schema is not None:
            why = json_fault(text, self._validator)
            yield Check("json_schema", not why, why)
        if self.sections:
            why = _sections_fault(text, self.sections, self.ordered)
            yield Check("sections", not why, why)
        for name, count in (("chars", len), ("words", _n_words), ("lines", _n_lines)):
            if (band := getattr(self, name)) is not None:
                yield within(name, count(text), *band)
        if self.language is not None:
            yield in_language(text, self.language)
        yield from self._repetition(text)
        if self.refusal is not None:
            refused = is_refusal(text)
            why = "the text refuses" if refused else "the text does not refuse"
            yield Check("refusal", refused == (self.refusal == "required"), why)

    def _repetition(self, text: str) -> Iterator[Check]:
        if self.repeated_ngrams is not None:
            share = t.repetition([w.lower() for w in t.words(text)], self.ngram)
            why = f"{share:.2f} of {self.ngram}-grams are repeats, over {self.repeated_ngrams:g}"
            yield Check("repeated_ngrams", share <= self.repeated_ngrams, why)
        if self.repeated_lines is not None:
            share = t.repetition(t.lines(text))
            why = f"{share:.2f} of lines are repeats, over {self.repeated_lines:g}"
            yield Check("repeated_lines", share <= self.repeated_lines, why)

    @cached_property
    def _validator(self) -> Any:
        return schema_validator(self.json_schema or {})


_CHECKED = tuple(name for name in Format.__struct_fields__ if name not in ("whole", "ordered", "ngram"))


def is_refusal(text: str) -> bool:
    """Whether ``text`` declines to answer, by the phrases that models decline with, in English only.

    Looked for in the first 400 characters, where refusals stand. It is made to be precise: a refusal in
    other words is missed, an "I cannot recommend this book enough" is not taken for one.
    """
    return _REFUSAL.search(text[:_REFUSAL_SPAN]) is not None


def read_json(text: str) -> Any:
    """The JSON value of ``text``, or of the only fenced block in it. ``ValueError`` if there is none."""
    fenced = _FENCE.findall(text) if "```" in text else []
    source = fenced[0] if len(fenced) == 1 else text
    try:
        return msgspec.json.decode(source)
    except RecursionError:
        raise ValueError("nested too deep") from None


def json_fault(text: str, validator: Any = None) -> str:
    """What keeps ``text`` from being JSON (of the validator's schema); empty if nothing does."""
    try:
        value = read_json(text)
    except ValueError as error:
        return f"not JSON: {error}"
    fault = next(validator.iter_errors(value), None) if validator else None
    return f"{fault.json_path}: {fault.message[:200]}" if fault else ""


def schema_validator(schema: dict[str, Any]) -> Any:
    """A validator of ``schema`` (draft 2020-12 unless it says another) that never fetches anything.

    ``RecipeError`` for a schema that is none.
    """
    try:
        import jsonschema
        import referencing
    except ImportError:
        raise MissingExtraError("jsonschema", install="pip install 'gristmill[verifiers]'") from None
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise RecipeError(
            f"json_schema is no JSON Schema: {error.json_path}: {error.message}",
            remedy="Correct the schema; https://json-schema.org explains its keywords.",
        ) from None
    return kind(schema, registry=referencing.Registry())


def compiled(pattern: str, where: str) -> re.Pattern[str]:
    """``pattern`` compiled; ``RecipeError`` if it is no regular expression."""
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise RecipeError(
            f"{where} {pattern!r} is no regular expression: {error}.",
            remedy="See the syntax of Python's re module.",
        ) from None


def known_language(code: str, where: str) -> None:
    """``RecipeError`` unless the language can be told."""
    if code not in t.LANGUAGES:
        raise RecipeError(
            f"{where}: the language {code!r} cannot be told.", remedy=f"Known: {', '.join(t.LANGUAGES)}."
        )


def in_language(text: str, code: str) -> Check:
    """Whether ``text`` is in the language ``code``; undecided where its language cannot be told."""
    found = t.language(text)
    if found is None:
        return Check("language", None, "the language of the text cannot be told")
    return Check("language", found == code, f"{found}, not {code}")


def of_some_text(text: str, checks: Sequence[Check]) -> list[Check]:
    """``checks`` as they are, or all failed where ``text`` has nothing but blanks in it."""
    if text.strip():
        return list(checks)
    return [Check(check.name, False, "the text is empty") for check in checks]


def within(name: str, count: int, low: int | None, high: int | None) -> Check:
    """Whether ``count`` is neither under ``low`` nor over ``high``."""
    if low is not None and count < low:
        return Check(name, False, f"{count}, under {low}")
    if high is not None and count > high:
        return Check(name, False, f"{count}, over {high}")
    return Check(name, True)


def _n_words(text: str) -> int:
    return len(t.words(text))


def _n_lines(text: str) -> int:
    return len(t.lines(text))


def _sections_fault(text: str, wanted: tuple[str, ...], ordered: bool) -> str:
    there = [title.casefold() for title in t.sections(text)]
    missing = [title for title in wanted if title.casefold() not in there]
    if missing:
        return f"missing {', '.join(map(repr, missing))}"
    rest = iter(there)
    if ordered and not all(title.casefold() in rest for title in wanted):
        return f"not in the order {', '.join(map(repr, wanted))}"
    return ""
