"""Sentences cut into clauses and pieces, with what a comparison of two of them needs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

from gristmill.verifiers.grounding import lexicon
from gristmill.verifiers.grounding.claims import NEGATIONS, STOP, facts, stems

_TURN = r"(?:but|while|whereas|although|though|because|since|so that|unless|if|whether)"
_CLAUSE = re.compile(
    rf"[;:—]\s+|\s[–-]\s|,\s+(?=(?:and|or|so|yet|{_TURN})\b)|\s+(?={_TURN}\b)|,\s+(?=(?:who|which|whose|as)\b)"
    r"|\s+(?=(?:and|or)\s+(?:nobody|no|none|nothing|never|not)\b)",
    re.IGNORECASE,
)
_FRONTED = re.compile(
    r"\W*(?:if|when|whenever|unless|although|though|while|because|since|once|as soon as|after|before|until)\b"
    r"[^,]*,\s+",
    re.IGNORECASE,
)
_PIECE = re.compile(r",\s+(?:and\s+|or\s+)?|[()]|\s+(?=(?:and|or|but|while|who|which|that|where|when)\b)")
_JOINS = frozenset(("and", "or", "but", "while"))
_YEAR = re.compile(r"1[0-9]{3}|20[0-9]{2}")
_IDIOMS = re.compile(rf"\b(?:{lexicon.NEGATIVE_IDIOMS})\b", re.IGNORECASE)


class Anchor(NamedTuple):
    """A name or number with its place: the preposition before it, else ``start`` or ``after``."""

    words: tuple[str, ...]
    kind: str
    slot: str


class Piece:
    """A run of words without a comma or conjunction: the smallest unit in which words belong together."""

    def __init__(self, text: str, names: frozenset[str]) -> None:
        self.text = text.strip()
        self.words = stems(self.text)
        self.content = meaning(self.words)
        self._names = names

    @cached_property
    def anchors(self) -> tuple[Anchor, ...]:
        """Its names and numbers, in order."""
        return tuple(_anchors(self.words, self._names))


class Clause:
    """A clause: what a negation, a modal verb or a quantifier in it applies to."""

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        self.words = stems(_IDIOMS.sub(" ", self.text))
        self.all = frozenset(self.words)
        self.content = meaning(self.words)

    @cached_property
    def negations(self) -> int:
        """How many words of negation it has."""
        return sum(word in NEGATIONS for word in self.words)


class Statement:
    """One sentence, characters ``start:end`` of passage number ``passage`` (from 0), or of an answer."""

    def __init__(self, text: str, passage: int = -1, start: int = 0, end: int = 0) -> None:
        self.text, self.passage, self.start, self.end = text, passage, start, end
        self.words = stems(text)
        self.content = meaning(self.words)

    @cached_property
    def names(self) -> frozenset[str]:
        """The stems of the words in its names."""
        found = facts(self.text)
        return frozenset(w for name in (*found.names, *found.possible) for w in stems(name))

    @cached_property
    def clauses(self) -> tuple[Clause, ...]:
        """Its clauses, without those that have no word of meaning."""
        return tuple(c for c in map(Clause, _clauses(self.text)) if c.content)

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The pieces of its clauses; a name, or a single word, is left with what it follows."""
        found: list[str] = []
        for clause in _clauses(self.text):
            first = True
            for part in _PIECE.split(clause):
                said = meaning(stems(part)) if part.strip() else frozenset()
                if not first and (len(said) < 2 or said <= self.names) and not _parallel(part):
                    found[-1] += f", {part.strip()}"
                elif part.strip():
                    found.append(part)
                    first = False
        return tuple(Piece(text, self.names) for text in found)


def _parallel(part: str) -> bool:
    """Whether ``part`` goes on with a preposition: "(at nine on weekdays) and at ten on Saturdays"."""
    words = [w for w in stems(part) if w not in _JOINS] if part.strip() else []
    return len(words) > 2 and words[0] in lexicon.PREPOSITIONS


def _clauses(text: str) -> Iterator[str]:
    fronted = _FRONTED.match(text)
    if fronted and fronted.end() < len(text):
        yield fronted[0]
        text = text[fronted.end() :]
    yield from (part for part in _CLAUSE.split(text) if part.strip())


@lru_cache(maxsize=4096)
def meaning(words: Sequence[str]) -> frozenset[str]:
    """Those of the stems that carry meaning."""
    return frozenset(w for w in words if w not in STOP and w not in NEGATIONS)


def is_number(word: str) -> bool:
    """Whether a stem is a number."""
    return word[:1].isdigit() or word[1:2].isdigit()


def is_year(word: str) -> bool:
    """Whether a stem may be a year."""
    return _YEAR.fullmatch(word) is not None


def _anchors(words: Sequence[str], names: frozenset[str]) -> Iterator[Anchor]:
    at = 0
    while at < len(words):
        end = at + 1
        if is_number(words[at]):
            kind = "year" if is_year(words[at]) else "nth" if words[at].endswith("th") else "number"
        elif words[at] in names:
            kind = "name"
            while end < len(words) and words[end] in names:
                end += 1
        else:
            at = end
            continue
        before = words[at - 1] if at else ""
        slot = (
            before if before in lexicon.PREPOSITIONS else "after" if meaning(tuple(words[:at])) else "start"
        )
        yield Anchor(tuple(words[at:end]), kind, slot)
        at = end
