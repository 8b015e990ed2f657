"""What an instruction asks for and a program can check: counts, keywords, casing, beginnings, JSON ..."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.base import Rewarding
from gristmill.verifiers.evidence import Check, all_of
from gristmill.verifiers.guard import failure, guarded
from gristmill.verifiers.rules.formats import (
    in_language,
    json_fault,
    known_language,
    of_some_text,
    within,
)
from gristmill.verifiers.rules.instructed import (
    FirstWord,
    Letters,
    Numbered,
    OneOf,
    Parts,
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
    """From ``min`` to ``max`` of something. Sections are Markdown headings, placeholders ``[name]``,
    highlights ``*so*`` or ``**so**``, and capital words have no small letter."""

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
    min: Whole | None = None
    max: Whole | None = None

    def __post_init__(self) -> None:
        bounded(self.min, self.max, f"count of {self.of}")

    def check(self, text: str) -> Check:
        """Whether the count lies between the bounds."""
        return within(f"count of {self.of}", len(_COUNTED[self.of](text)), self.min, self.max)


class Keywords(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="keywords"
):
    """Words or phrases that must stand there as a whole, in any case, and ones that must not."""

    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        stated(bool(self.present or self.absent), "keywords", "present or absent")

    def check(self, text: str) -> Check:
        """Whether all and none of them are there."""
        missing = [w for w in self.present if not occurrences(text, w)]
        extra = [w for w in self.absent if occurrences(text, w)]
        why = [f"{w!r} is missing" for w in missing] + [f"{w!r} is there" for w in extra]
        return Check("keywords", not why, ", ".join(why))


class Frequency(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="frequency"
):
    """A word or phrase that stands there as a whole from ``min`` to ``max`` times."""

    word: str
    min: Whole | None = None
    max: Whole | None = None

    def __post_init__(self) -> None:
        bounded(self.min, self.max, f"frequency of {self.word!r}")

    def check(self, text: str) -> Check:
        """Whether it is there often enough and not too often."""
        return within(f"frequency of {self.word!r}", occurrences(text, self.word), self.min, self.max)


class Case(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="case"):
    """All letters that have a case are ``upper`` or ``lower``, and there is one at least."""

    of: Literal["upper", "lower"]

    def check(self, text: str) -> Check:
        """Whether the casing is that."""
        return Check(f"case {self.of}", text.isupper() if self.of == "upper" else text.islower(), "it is not")


class Affix(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="affix"):
    """The text, without blanks around it, starts with ``start`` and ends with ``end``, to the letter; the
    kinds of quotation marks and of accents do not matter."""

    start: str = ""
    end: str = ""

    def __post_init__(self) -> None:
        stated(bool(self.start or self.end), "affix", "start or end")

    def check(self, text: str) -> Check:
        """Whether it starts and ends so."""
        body = plain(text).strip()
        why = (
            [] if body.startswith(plain(self.start)) else [f"it starts with {body[: len(self.start)][:60]!r}"]
        )
        if not body.endswith(plain(self.end)):
            why.append(f"it ends with {body[-len(self.end) :][-60:]!r}")
        return Check("affix", not why, ", ".join(why))


class Without(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="without"
):
    """None of these characters, such as ``","``."""

    characters: Annotated[str, Meta(min_length=1)]

    def check(self, text: str) -> Check:
        """Whether none of them is there."""
        there = sorted(set(self.characters) & set(text))
        return Check("without", not there, f"{''.join(there)!r} is there")


class Quoted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="quoted"):
    """The whole text stands between double quotation marks."""

    def check(self, text: str) -> Check:
        """Whether it does."""
        body = text.strip()
        quoted = any(len(body) > 1 and body.startswith(a) and body.endswith(b) for a, b in _QUOTES)
        return Check("quoted", quoted, "it is not")


class Json(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="json"):
    """The whole text, or the only fenced block in it, is JSON."""

    def check(self, text: str) -> Check:
        """Whether it is."""
        why = json_fault(text)
        return Check("json", not why, why)


class Language(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="language"
):
    """The text is in the language ``code``; see ``text.language`` for what can be told."""

    code: str

    def __post_init__(self) -> None:
        known_language(self.code, "constraints")

    def check(self, text: str) -> Check:
        """Whether it is; undecided where that cannot be told."""
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
    | Parts
    | Numbered
    | OneOf
)


class Constraints(Rewarding, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Judge a completion by a list of checks: ``{check: count, of: words, max: 100}`` and the like.

    The checks are those of ``checks``, or if there are none, those that the reference holds as a JSON list.
    ``correct`` if all are satisfied; the score is the share that is. A text without a word in it satisfies
    none. A language that cannot be told leaves
    the verdict ``unparseable`` unless something else fails. A reference that is no list of checks is
    an ``error``.
    """

    checks: tuple[Constraint, ...] = ()

    def __call__(self, completion: str, reference: str = "") -> Verdict:
        """Judge ``completion``."""
        return guarded(self._verify, completion, reference)

    def _verify(self, completion: str, reference: str) -> Verdict:
        checks = self.checks
        if not checks:
            try:
                checks = msgspec.json.decode(reference, type=tuple[Constraint, ...])
            except (ValueError, RecursionError, RecipeError) as error:
                return failure("reference unparseable", f"no list of checks: {error}")
        if not checks:
            return failure("reference unparseable", "the list of checks is empty")
        return all_of(of_some_text(completion, [c.check(completion) for c in checks]))


def occurrences(text: str, phrase: str) -> int:
    """How often ``phrase`` stands in ``text`` as whole words, in any case, with any blanks between them.

    Accents may be characters of their own, quotation marks of any kind, and Markdown's marks stand at the
    words. In scripts that are written without spaces a phrase need not stand apart.
    """
    inner = r"\s+".join(map(re.escape, folded(phrase).split()))
    return len(re.findall(rf"{_BEFORE}{inner}{_AFTER}", folded(text))) if inner else 0
