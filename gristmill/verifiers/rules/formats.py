"""The form of a text: patterns, JSON Schema, sections, length, language, repetition, refusals."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gristmill.core.errors import MissingExtraError, RecipeError
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.evidence import Check, all_of
from gristmill.verifiers.guard import guarded
from gristmill.verifiers.text import words as t

Band = tuple[Annotated[int, Meta(ge=0)] | None, Annotated[int, Meta(ge=0)] | None]
"""The lowest and the highest value allowed; ``None`` (``null``) for no limit on that side."""
Share = Annotated[float, Meta(ge=0, le=1)]

# At the start of a line, so that an opening mark that is never closed is met once.
_FENCE = re.compile(r"^[ \t]*+```[a-zA-Z]{0,10}[ \t]*+\n(.*?)\n[ \t]*+```", re.DOTALL | re.MULTILINE)
_REFUSAL_SPAN = 400
"""A refusal is searched for in this many characters at the beginning."""
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


class Format(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Judge the form of a completion. The reference is not used.

    ``correct`` if all checks that are set pass. The score is the share of checks that pass; ``detail`` names
    every check that failed and why. A text whose language cannot be recognised is ``unparseable`` unless
    another check fails.

    An empty text passes no check. Some regular expressions (``(a+)+$``) can run almost forever and are not
    stopped here: run the verifier in a ``Pool``, which kills it at its deadline.
    """

    pattern: str | None = None
    """A regular expression (Python's ``re``) that must be found in the text."""
    whole: bool = False
    """Whether ``pattern`` must match the whole text."""
    forbidden_pattern: str | None = None
    """A regular expression that must not be found in the text."""
    json_schema: dict[str, Any] | None = None
    """The text, or its only fenced block, must be JSON that is valid under this schema. References to other
    documents are not followed."""
    sections: tuple[str, ...] = ()
    """Titles that must occur as headings (``## Title``, ``**Title**``, ``Title:``), in any case."""
    ordered: bool = False
    """Whether ``sections`` must occur in the given order."""
    chars: Band | None = None
    """The lowest and highest number of characters, as ``[10, 200]`` or ``[null, 200]``."""
    words: Band | None = None
    """The lowest and highest number of words."""
    lines: Band | None = None
    """The lowest and highest number of lines that are not blank."""
    language: str | None = None
    """The language of the text, one of ``text.LANGUAGES``."""
    ngram: Annotated[int, Meta(ge=1, le=50)] = 4
    """The number of words in an n-gram of ``repeated_ngrams``, 1 to 50."""
    repeated_ngrams: Share | None = None
    """The largest share of n-grams that may repeat an earlier one, 0 to 1."""
    repeated_lines: Share | None = None
    """The largest share of lines that may repeat an earlier one, 0 to 1."""
    refusal: Literal["forbidden", "required"] | None = None
    """Whether the text must not or must decline to answer; see ``is_refusal``."""

    def __post_init__(self) -> None:
        for name in ("pattern", "forbidden_pattern"):
            compiled(getattr(self, name) or "", f"format: {name}")
        known_language(self.language or "en", "format")
        if self.json_schema is not None:
            schema_validator(self.json_schema)
        if all(getattr(self, name) in (None, ()) for name in _CHECKED):
            raise RecipeError(
                "format: there is nothing to check.", remedy=f"Set any of {', '.join(_CHECKED)}."
            )

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
    """Whether ``text`` declines to answer, recognised by the English phrases with which models decline.

    Only the first 400 characters are searched. The phrases are chosen for precision: a refusal in other words
    is missed, but "I cannot recommend this book enough" is not mistaken for one.
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
    """Why ``text`` is not JSON (or not valid under the validator's schema); empty if it is."""
    try:
        value = read_json(text)
    except ValueError as error:
        return f"not JSON: {error}"
    fault = next(validator.iter_errors(value), None) if validator else None
    return f"{fault.json_path}: {fault.message[:200]}" if fault else ""


def schema_validator(schema: dict[str, Any]) -> Any:
    """A validator for ``schema`` (draft 2020-12 unless it names another) that never downloads anything.

    ``RecipeError`` for an invalid schema.
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
            f"json_schema is not a valid JSON Schema: {error.json_path}: {error.message}",
            remedy="Correct the schema; https://json-schema.org explains its keywords.",
        ) from None
    return kind(schema, registry=referencing.Registry())


def compiled(pattern: str, where: str) -> re.Pattern[str]:
    """``pattern`` compiled; ``RecipeError`` if it is not a valid regular expression."""
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise RecipeError(
            f"{where}: {pattern!r} is not a valid regular expression: {error}.",
            remedy="See the syntax of Python's re module.",
        ) from None


def known_language(code: str, where: str) -> None:
    """``RecipeError`` for a language that cannot be recognised."""
    if code not in t.LANGUAGES:
        raise RecipeError(
            f"{where}: the language {code!r} cannot be recognised.",
            remedy=f"Choose one of {', '.join(t.LANGUAGES)}.",
        )


def in_language(text: str, code: str) -> Check:
    """Whether ``text`` is in the language ``code``; undecided if its language cannot be recognised."""
    found = t.language(text)
    if found is None:
        return Check("language", None, "the language of the text cannot be recognised")
    return Check("language", found == code, f"{found}, not {code}")


def of_some_text(text: str, checks: Sequence[Check]) -> list[Check]:
    """``checks`` as they are, or all failed where ``text`` has nothing but blanks in it."""
    if text.strip():
        return list(checks)
    return [Check(check.name, False, "the text is empty") for check in checks]


def within(name: str, count: int, low: int | None, high: int | None) -> Check:
    """Whether ``count`` is at least ``low`` and at most ``high``."""
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
