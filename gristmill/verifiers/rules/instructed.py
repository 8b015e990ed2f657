"""Checks of what an instruction asks a text to be made of: titles, postscripts, highlights, parts, repeats.

The kinds are those of IFEval ("Instruction-Following Evaluation for Large Language Models",
arXiv 2311.07911) that ``constraints`` has not of its own. Where its checks pass what its instructions do not
ask for, the instruction counts: a title must have words, and two of several fixed answers are not one.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.verifiers.evidence import Check
from gristmill.verifiers.rules.formats import within
from gristmill.verifiers.text import words as t

Whole = Annotated[int, Meta(ge=0)]
Some = Annotated[int, Meta(ge=1)]
Text = Annotated[str, Meta(min_length=1)]
_HIGHLIGHT = re.compile(r"\*\*(?=\S)([^*\n]+)(?<=\S)\*\*|\*(?=\S)([^*\n]+)(?<=\S)\*")
_TITLE = re.compile(r"<<([^<>\n]+)>>")
_QUOTES = str.maketrans({"‘": "'", "’": "'", "‛": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"'})


class Letters(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="letters"
):
    """A letter that stands there from ``min`` to ``max`` times, in either case."""

    letter: Annotated[str, Meta(min_length=1, max_length=2)]
    """The letter; an accent may be a character of its own."""
    min: Whole | None = None
    """The least times."""
    max: Whole | None = None
    """The most times."""

    def __post_init__(self) -> None:
        bounded(self.min, self.max, f"letter {self.letter!r}")

    def check(self, text: str) -> Check:
        """Whether it is there often enough and not too often."""
        count = folded(text).count(folded(self.letter))
        return within(f"letter {self.letter!r}", count, self.min, self.max)


class Postscript(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="postscript"
):
    """A line that starts with ``marker`` and says something, with text before it."""

    marker: Text = "P.S."
    """What it starts with; spaces within it and the last full stop do not matter, nor does case."""

    def check(self, text: str) -> Check:
        """Whether there is one."""
        marker = r"\s?".join(re.escape(c) for c in folded(self.marker).rstrip(".") if not c.isspace())
        found = re.search(rf"^\W*{marker}\b\.?+[\s*:]*\S", folded(text), re.MULTILINE)
        before = found and folded(text)[: found.start()].strip()
        why = f"no line starts with {self.marker!r} and goes on"
        return Check("postscript", bool(before), "nothing stands before it" if found else why)


class Title(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="title"):
    """A title in double angle brackets, such as ``<<A day at sea>>``."""

    def check(self, text: str) -> Check:
        """Whether there is one with a word in it."""
        titled = any(t.words(title) for title in _TITLE.findall(text))
        return Check("title", titled, "there is no <<title>>")


class FirstWord(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="first_word"
):
    """The ``paragraph``-th paragraph starts with ``word``, in any case."""

    word: Text
    """The word, without marks."""
    paragraph: Some = 1
    """Which paragraph, from 1."""
    paragraphs: Some | None = None
    """How many there must be; any number if not given."""

    def __post_init__(self) -> None:
        if self.paragraphs is not None and self.paragraph > self.paragraphs:
            raise RecipeError(
                f"constraints: first_word: paragraph {self.paragraph} of {self.paragraphs} does not exist.",
                remedy="Give a smaller paragraph, or more paragraphs.",
            )

    def check(self, text: str) -> Check:
        """Whether it does, in a text of so many paragraphs."""
        found = t.paragraphs(text)
        if self.paragraphs is not None and len(found) != self.paragraphs:
            return Check("first_word", False, f"{len(found)} paragraphs, not {self.paragraphs}")
        if len(found) < self.paragraph:
            return Check("first_word", False, f"there are {len(found)} paragraphs")
        first = (t.words(found[self.paragraph - 1]) or [""])[0]
        same = folded(first) == folded(self.word)
        return Check("first_word", same, f"paragraph {self.paragraph} starts with {first!r}")


class Repeats(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="repeats"
):
    """The text begins with ``prompt``, word for word, and then goes on."""

    prompt: Text
    """What is to be repeated; case and the kinds of blanks and quotation marks do not matter."""

    def check(self, text: str) -> Check:
        """Whether it does."""
        said, asked = (" ".join(folded(one).split()) for one in (text, self.prompt))
        if not said.strip("*_\"'> ").startswith(asked.strip("*_\"'> ")):
            return Check("repeats", False, "it does not begin with the prompt")
        rest = said.strip("*_\"'> ")[len(asked.strip("*_\"'> ")) :]
        return Check("repeats", bool(t.words(rest)), "nothing follows the prompt")


class DividedParts(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="parts"
):
    """From ``min`` to ``max`` parts with text in them, divided by ``mark``, which may also stand at the ends.

    Two different responses are ``{check: parts, mark: "******", min: 2, max: 2, different: true}``.
    """

    mark: Text = "***"
    """What stands between the parts; a longer run of its last character is not it."""
    min: Whole | None = None
    """The fewest parts."""
    max: Whole | None = None
    """The most parts."""
    different: bool = False
    """Whether no two parts may have the same words."""

    def __post_init__(self) -> None:
        bounded(self.min, self.max, "parts")

    def check(self, text: str) -> Check:
        """Whether there are so many, none of them empty."""
        last = re.escape(self.mark[-1])
        parts = re.split(rf"(?<!{re.escape(self.mark[0])}){re.escape(self.mark)}(?!{last})", text)
        inner = [part for i, part in enumerate(parts) if t.words(part) or 0 < i < len(parts) - 1]
        if any(not t.words(part) for part in inner):
            return Check("parts", False, f"there is nothing between two {self.mark!r}")
        if self.different and len({tuple(t.words(folded(part))) for part in inner}) < len(inner):
            return Check("parts", False, "two parts are the same")
        return within("parts", len(inner), self.min, self.max)


class Numbered(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="numbered"
):
    """From ``min`` to ``max`` lines that begin with ``word`` and a number, as sections and days do."""

    word: Text = "Section"
    """The word, in the case that it must have."""
    min: Whole | None = None
    """The fewest."""
    max: Whole | None = None
    """The most."""

    def __post_init__(self) -> None:
        bounded(self.min, self.max, f"numbered {self.word!r}")

    def check(self, text: str) -> Check:
        """Whether there are so many, each number counted once."""
        word = r"\s+".join(map(re.escape, self.word.split()))
        found = set(re.findall(rf"^[\W_]*{word}\s?(\d{{1,9}})\b", text, re.MULTILINE))
        return within(f"numbered {self.word!r}", len(found), self.min, self.max)


class OneOf(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="check", tag="one_of"):
    """Exactly one of these texts stands there."""

    texts: Annotated[tuple[Text, ...], Meta(min_length=2)]
    """The texts, such as "My answer is yes." and "My answer is no."; case does not matter."""

    def check(self, text: str) -> Check:
        """Whether one does, and no other."""
        said = " ".join(folded(text).split())
        found = [one for one in self.texts if " ".join(folded(one).split()) in said]
        why = f"{', '.join(map(repr, found))} are there" if found else "none of the texts is there"
        return Check("one_of", len(found) == 1, why)


def highlights(text: str) -> list[str]:
    """The texts in Markdown emphasis, ``*so*`` or ``**so**``."""
    return [one or other for one, other in _HIGHLIGHT.findall(text)]


def capital_words(text: str) -> list[str]:
    """Words all of whose letters are capitals, "I" among them."""
    return [word for word in t.words(text) if word.isupper()]


def plain(text: str) -> str:
    """``text`` in one form of what looks the same: composed accents, straight quotation marks."""
    return unicodedata.normalize("NFC", text).translate(_QUOTES)


def folded(text: str) -> str:
    """``plain`` without regard to case."""
    return unicodedata.normalize("NFC", plain(text).casefold())


def bounded(low: int | None, high: int | None, what: str) -> None:
    """``RecipeError`` unless one bound is given at least, and none is over the other."""
    stated(low is not None or high is not None, what, "min or max")
    if low is not None and high is not None and low > high:
        raise RecipeError(f"constraints: {what}: min {low} is greater than max {high}.", remedy="Swap them.")


def stated(given: bool, what: str, fields: str) -> None:
    """``RecipeError`` for a check that asks for nothing."""
    if not given:
        raise RecipeError(f"constraints: {what} has nothing to check.", remedy=f"Give {fields}.")
