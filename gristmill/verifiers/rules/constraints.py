"""Requirements of an instruction that a program can check: counts, keywords, casing, beginnings, JSON ..."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.evidence import Check, all_of
from gristmill.verifiers.guard import failure, guarded
from gristmill.verifiers.rules.formats import in_language, json_fault, known_language, within
from gristmill.verifiers.text import words as t

Whole = Annotated[int, Meta(ge=0)]
_PLACEHOLDER = re.compile(r"\[[^\[\]\n]{1,100}\]")
_QUOTES = (('"', '"'), ("“", "”"), ("«", "»"), ("„", "“"))
_COUNTED: dict[str, Callable[[str], Sequence[object]]] = {
    "chars": lambda text: text,
    "words": t.words,
    "sentences": t.sentences,
    "paragraphs": t.paragraphs,
    "lines": t.lines,
    "bullets": t.bullets,
    "sections": t.headings,
    "placeholders": _PLACEHOLDER.findall,
}


class Count(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="count"):
    """There are from ``min`` to ``max`` of something."""

    of: Literal["chars", "words", "sentences", "paragraphs", "lines", "bullets", "sections", "placeholders"]
    """What is counted. Sections are Markdown headings, placeholders have the form ``[name]``."""
    min: Whole | None = None
    """The lowest number allowed; ``null`` for no limit."""
    max: Whole | None = None
    """The highest number allowed; ``null`` for no limit."""

    def __post_init__(self) -> None:
        _bounded(self.min, self.max, f"count of {self.of}")

    def check(self, text: str) -> Check:
        """Whether the count lies between the bounds."""
        return within(f"count of {self.of}", len(_COUNTED[self.of](text)), self.min, self.max)


class Keywords(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="keywords"
):
    """Words or phrases that must occur, and others that must not, as whole words and in any case."""

    present: tuple[str, ...] = ()
    """Those that must all occur."""
    absent: tuple[str, ...] = ()
    """Those that must not occur."""

    def __post_init__(self) -> None:
        _stated(bool(self.present or self.absent), "keywords", "present or absent")

    def check(self, text: str) -> Check:
        """Whether all of ``present`` and none of ``absent`` occur."""
        missing = [w for w in self.present if not occurrences(text, w)]
        extra = [w for w in self.absent if occurrences(text, w)]
        why = [f"{w!r} is missing" for w in missing] + [f"{w!r} is there" for w in extra]
        return Check("keywords", not why, ", ".join(why))


class Frequency(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="frequency"
):
    """A word or phrase occurs from ``min`` to ``max`` times, as whole words and in any case."""

    word: str
    """The word or phrase."""
    min: Whole | None = None
    """The lowest number allowed; ``null`` for no limit."""
    max: Whole | None = None
    """The highest number allowed; ``null`` for no limit."""

    def __post_init__(self) -> None:
        _bounded(self.min, self.max, f"frequency of {self.word!r}")

    def check(self, text: str) -> Check:
        """Whether the number of times is within the bounds."""
        return within(f"frequency of {self.word!r}", occurrences(text, self.word), self.min, self.max)


class Case(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="case"):
    """All letters that have a case are of one case, and there is at least one."""

    of: Literal["upper", "lower"]
    """The case."""

    def check(self, text: str) -> Check:
        """Whether all letters have that case."""
        return Check(f"case {self.of}", text.isupper() if self.of == "upper" else text.islower(), "it is not")


class Affix(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="affix"):
    """The text, without white space around it, starts and ends with given texts, compared exactly."""

    start: str = ""
    """The text that it must start with; empty for any."""
    end: str = ""
    """The text that it must end with; empty for any."""

    def __post_init__(self) -> None:
        _stated(bool(self.start or self.end), "affix", "start or end")

    def check(self, text: str) -> Check:
        """Whether it starts and ends with these texts."""
        body = text.strip()
        why = [] if body.startswith(self.start) else [f"it starts with {body[: len(self.start)][:60]!r}"]
        if not body.endswith(self.end):
            why.append(f"it ends with {body[-len(self.end) :][-60:]!r}")
        return Check("affix", not why, ", ".join(why))


class Without(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="without"
):
    """None of certain characters occurs."""

    characters: Annotated[str, Meta(min_length=1)]
    """The characters, such as ``","``; at least one."""

    def check(self, text: str) -> Check:
        """Whether none of them occurs."""
        there = sorted(set(self.characters) & set(text))
        return Check("without", not there, f"{''.join(there)!r} is there")


class Quoted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="quoted"):
    """The whole text is enclosed in double quotation marks."""

    def check(self, text: str) -> Check:
        """Whether it is enclosed."""
        body = text.strip()
        quoted = any(len(body) > 1 and body.startswith(a) and body.endswith(b) for a, b in _QUOTES)
        return Check("quoted", quoted, "it is not")


class Json(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="json"):
    """The whole text, or the only fenced block in it, is JSON."""

    def check(self, text: str) -> Check:
        """Whether it is JSON."""
        why = json_fault(text)
        return Check("json", not why, why)


class Language(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="language"
):
    """The text is in a certain language."""

    code: str
    """The language's code, one of ``text.LANGUAGES``."""

    def __post_init__(self) -> None:
        known_language(self.code, "constraints")

    def check(self, text: str) -> Check:
        """Whether it is in that language; undecided if the language cannot be recognised."""
        return in_language(text, self.code)


Constraint = Count | Keywords | Frequency | Case | Affix | Without | Quoted | Json | Language


class Constraints(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Judge a completion by a list of checks such as ``{check: count, of: words, max: 100}``.

    ``correct`` if all pass; the score is the share that passes. A language that cannot be recognised makes
    the verdict ``unparseable`` unless another check fails. A reference that is not a list of checks is an
    ``error``.
    """

    checks: tuple[Constraint, ...] = ()
    """The checks; if there are none, those of the reference, which is then a JSON list of checks."""

    def __call__(self, completion: str, reference: str = "") -> Verdict:
        """Judge ``completion``."""
        return guarded(self._verify, completion, reference)

    def _verify(self, completion: str, reference: str) -> Verdict:
        checks = self.checks
        if not checks:
            try:
                checks = msgspec.json.decode(reference, type=tuple[Constraint, ...])
            except (ValueError, RecursionError, RecipeError) as error:
                return failure("reference unparseable", f"the reference is not a list of checks: {error}")
        if not checks:
            return failure("reference unparseable", "the list of checks is empty")
        return all_of([c.check(completion) for c in checks])


def occurrences(text: str, phrase: str) -> int:
    """How often ``phrase`` occurs in ``text`` as whole words, in any case, with any white space in
    between."""
    inner = r"\s+".join(map(re.escape, phrase.split()))
    return len(re.findall(rf"(?<!\w){inner}(?!\w)", text, re.IGNORECASE)) if inner else 0


def _bounded(low: int | None, high: int | None, what: str) -> None:
    _stated(low is not None or high is not None, what, "min or max")
    if low is not None and high is not None and low > high:
        raise RecipeError(f"constraints: {what}: min {low} is greater than max {high}.", remedy="Swap them.")


def _stated(given: bool, what: str, fields: str) -> None:
    if not given:
        raise RecipeError(f"constraints: {what} has nothing to check.", remedy=f"Give {fields}.")
