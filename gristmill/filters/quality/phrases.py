"""``boilerplate``, ``refusal`` and ``listed``: texts that are told by their phrases."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from msgspec import field

from gristmill.core.errors import RecipeError
from gristmill.filters.quality.base import RowFacts, TextCheck, excerpt
from gristmill.verifiers.rules.formats import is_refusal

_BOILERPLATE = (
    r"lorem ipsum dolor",
    r"\b(?:we|this (?:web)?site|our (?:web)?site) uses? cookies\b",
    r"\baccept (?:all )?cookies\b",
    r"\bcookie (?:policy|settings|preferences)\b",
    r"\ball rights reserved\b",
    r"(?:©|\(c\)|copyright) ?(?:19|20)\d\d\b",
    r"\bsubscribe to (?:our|my|the) (?:newsletter|channel|mailing list)\b",
    r"\bsign up for (?:our|the) newsletter\b",
    r"\bclick here to\b",
    r"\bskip to (?:main )?content\b",
    r"\benable javascript\b",
    r"\bread more\s*(?:»|>>|→)",
    r"\bshare (?:this )?on (?:facebook|twitter|linkedin|whatsapp)\b",
    r"\bterms of (?:service|use) (?:and|&|\|) privacy policy\b",
    r"\bprivacy policy (?:and|&|\|) terms of (?:service|use)\b",
    r"</?(?:div|span|table|tbody|nav|script|style|iframe)\b[^>\n]{0,200}>",
    r"<\|(?:im_start|im_end|endoftext|eot_id|start_header_id|end_header_id|assistant|user|system)\|>",
    r"\[/?INST\]|<</?SYS>>",
)

STARTING_LIST = (
    "kill yourself",
    "piece of shit",
    "shut the fuck up",
    "fuck you",
    "you idiot",
    "you moron",
    "stupid bitch",
    "subhuman",
    "vermin like you",
)
"""Insults and threats that are aimed at someone; no names of groups, which texts about them name too."""


class Boilerplate(TextCheck, frozen=True, kw_only=True):
    """What is not said by anyone: cookie notices, navigation, markup, chat templates' own tokens.

    Fenced code and text in back quotes is left out, in which markup is meant.
    """

    phrases: list[str] = field(default_factory=list)
    """Further phrases, as they are written, in any case."""

    def find(self, text: str, told: RowFacts) -> str | None:
        """The phrase."""
        return _phrase(without_code(text), _all(_BOILERPLATE, tuple(self.phrases)))


class RefusalCheck(TextCheck, frozen=True, kw_only=True):
    """Answers that decline to answer, by the verifier ``format``'s rules, which prefer to miss one: only the
    first 400 characters count."""

    suspect = r"(?i)\bI\W|\bmy |\bour "

    def find(self, text: str, told: RowFacts) -> str | None:
        """How it begins."""
        return f"it declines: {excerpt(text)}" if is_refusal(text) else None


class Listed(TextCheck, frozen=True, kw_only=True):
    """Texts that hold words of a list: hints at toxicity, names of competitors, whatever the list is of.

    A hint is not a judgement: texts that quote or discuss a word are met as well.
    """

    words: list[str] = field(default_factory=lambda: list(STARTING_LIST))
    """Words and phrases, in any case, found only as whole words. By default a short list of insults and
    threats."""
    file: str | None = None
    """A text file with further ones, one on each line."""

    def __post_init__(self) -> None:
        if self.file is not None and not Path(self.file).is_file():
            raise RecipeError(
                f"quality: listed: the file {self.file!r} does not exist.",
                remedy="Give a text file with one word or phrase on each line.",
            )

    def find(self, text: str, told: RowFacts) -> str | None:
        """The word, in its place."""
        listed = tuple(self.words) + (() if self.file is None else _read(self.file))
        return _phrase(text, _all((), listed)) if listed else None


@lru_cache(maxsize=8)
def _read(path: str) -> tuple[str, ...]:
    return tuple(line for raw in Path(path).read_text("utf-8").splitlines() if (line := raw.strip()))


@lru_cache(maxsize=32)
def _all(patterns: tuple[str, ...], phrases: tuple[str, ...]) -> re.Pattern[str]:
    said = [rf"(?<!\w){re.escape(p)}(?!\w)".replace(r"\ ", r"\s+") for p in phrases]
    return re.compile("|".join([*patterns, *said]), re.IGNORECASE)


def _phrase(text: str, pattern: re.Pattern[str]) -> str | None:
    found = pattern.search(text)
    if found is None:
        return None
    around = excerpt(text, max(0, found.start() - 20), found.end() + 30)
    return f"{excerpt(found[0])} in {around}"


def without_code(text: str) -> str:
    """The text without fenced code and what is in back quotes."""
    if "`" not in text:
        return text
    text = re.sub(r"^[ \t]*```.*?(?:^[ \t]*```[ \t]*$|\Z)", " ", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", " ", text)
