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
from gristmill.verifiers.guard import answered, failure
from gristmill.verifiers.rules.formats import (
    in_language,
    json_fault,
    known_language,
    of_some_text,
    within,
)
from gristmill.verifiers.rules.instructed import (
    DividedParts,
    FirstWord,
    Letters,
    Numbered,
    OneOf,
    Postscript,
    Repeats,
    Title,
    Whole,
    bounded,
    capital_words,
    folded,
    highlights,
    plain,
    stated,
)
from gristmill.verifiers.text import words as t

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, kana and Han."""
_BEFORE = rf"(?:(?<![^\W_{_UNSPACED}])|(?=[{_UNSPACED}]))"
_AFTER = rf"(?:(?![^\W_{_UNSPACED}])|(?<=[{_UNSPACED}]))"
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
    "highlights": highlights,
    "capital_words": capital_words,
}


class Count(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="count"):
    """There are from ``min`` to ``max`` of something."""

    of: Literal[
        "chars",
        "words",
        "sentences",
        "paragraphs",
        "lines",
        "bullets",
        "sections",
        "placeholders",
        "highlights",
        "capital_words",
    ]
    """What is counted. Sections are Markdown headings, placeholders have the form ``[name]``, highlights are
    ``*so*`` or ``**so**``, and capital words have no lower-case letter."""
    min: Whole | None = None
    """The lowest number allowed; ``null`` for no limit."""
    max: Whole | None = None
    """The highest number allowed; ``null`` for no limit."""

    def __post_init__(self) -> None:
        bounded(self.min, self.max, f"count of {self.of}")

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
        stated(bool(self.present or self.absent), "keywords", "present or absent")

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
        bounded(self.min, self.max, f"frequency of {self.word!r}")

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
    """The text, without white space around it, starts and ends with given texts, compared exactly; only the
    kinds of quotation marks and of accents do not matter."""

    start: str = ""
    """The text that it must start with; empty for any."""
    end: str = ""
    """The text that it must end with; empty for any."""

    def __post_init__(self) -> None:
        stated(bool(self.start or self.end), "affix", "start or end")

    def check(self, text: str) -> Check:
        """Whether it starts and ends with these texts."""
        body, start, end = plain(text).strip(), plain(self.start), plain(self.end)
        why = [] if body.startswith(start) else [f"it starts with {body[: len(start)][:60]!r}"]
        if not body.endswith(end):
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


Constraint = (
    Count
    | Keywords
    | Frequency
    | Case
    | Affix
    | Without
    | Quoted
    | Json
    | Language
    | Letters
    | Postscript
    | Title
    | FirstWord
    | Repeats
    | DividedParts
    | Numbered
    | OneOf
)


class Constraints(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Judge a completion by a list of checks such as ``{check: count, of: words, max: 100}``.

    ``correct`` if all pass; the score is the share that passes. An empty text passes none. A language that
    cannot be recognised makes the verdict ``unparseable`` unless another check fails. A reference that is not
    a list of checks is an ``error``.
    """

    checks: tuple[Constraint, ...] = ()
    """The checks; if there are none, those of the reference, which is then a JSON list of checks."""

    def __call__(self, completion: str, reference: str = "") -> Verdict:
        """Judge ``completion``."""
        return answered(self._verify, completion, reference)

    def refuses(self, reference: str) -> str:
        """Why nothing can be judged by ``reference``; empty where it can."""
        told = self._told(reference)
        return told if isinstance(told, str) else ""

    def _told(self, reference: str) -> tuple[Constraint, ...] | str:
        """The checks, or what is wrong with the reference."""
        if self.checks:
            return self.checks
        try:
            checks = msgspec.json.decode(reference, type=tuple[Constraint, ...])
        except (ValueError, RecursionError, RecipeError) as error:
            return f"the reference is not a list of checks: {error}"
        return checks or "the list of checks is empty"

    def _verify(self, completion: str, reference: str) -> Verdict:
        checks = self._told(reference)
        if isinstance(checks, str):
            return failure("reference unparseable", checks)
        return all_of(of_some_text(completion, [c.check(completion) for c in checks]))


def occurrences(text: str, phrase: str) -> int:
    """How often ``phrase`` occurs in ``text`` as whole words, in any case, with any white space between them.

    Accents may be characters of their own, quotation marks of any kind, and Markdown's marks stand at the
    words. In scripts that are written without spaces a phrase need not stand apart.
    """
    inner = r"\s+".join(map(re.escape, folded(phrase).split()))
    return len(re.findall(rf"{_BEFORE}{inner}{_AFTER}", folded(text))) if inner else 0
