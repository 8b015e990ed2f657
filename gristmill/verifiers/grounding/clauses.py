"""Sentences cut into clauses and fragments, with what a comparison of two of them needs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

from gristmill.verifiers.grounding import lexicon
from gristmill.verifiers.grounding.claims import IRREGULAR, NEGATIONS, STOP, facts, stems

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
_PIECE = re.compile(
    r",\s+|[()]|\s+(?=(?:and|or|but|while|who|which|that|where|when|after|before|until|since)\b)"
)
_JOINS = frozenset(("and", "or", "but", "while", "wherea"))
_SPELLED = re.compile(r"\w[\w.,'’-]*\w|\w")
_QUOTED = re.compile(r"(?<!\w)'[^']+'")
_LETTERS = re.compile(r"[^\W\d_]+")
_BEFORE_VERBS = lexicon.MODALS | frozenset(("to", "who", "he", "she", "it", "they", "we", "you"))
_AFTER_VERBS = frozenset(
    ("the", "a", "an", "its", "their", "his", "her", "on", "in", "at", "to", "from", "by")
)
_BEFORE_NOUNS = (
    lexicon.PREPOSITIONS
    | lexicon.SMALL_NUMBERS
    | {"the", "a", "an", "its", "their", "his", "her", "and", "or"}
)
_TWO_NAMES = re.compile(r"[A-Z]\w*\s+(?:and|or)\s+[A-Z].*", re.DOTALL)
_OWN_SUBJECT = re.compile(r"\s*\w+\s+(?:(?:the|an?|its|his|her|their|it|he|she|they|this|these)\b|[A-Z])")
_YEAR = re.compile(r"1[0-9]{3}|20[0-9]{2}")
_IDIOMS = re.compile(rf"\b(?:{lexicon.NEGATIVE_IDIOMS})\b", re.IGNORECASE)


class Anchor(NamedTuple):
    """A name or number with its place: the preposition before it, else ``start`` or ``after``."""

    words: tuple[str, ...]
    kind: str
    slot: str


class Fragment:
    """A run of words without a comma or conjunction: the smallest unit in which words belong together."""

    def __init__(self, text: str, names: frozenset[str], subject: frozenset[str]) -> None:
        self.text = text.strip()
        self.words = stems(self.text)
        self.own = meaning(self.words)
        # "(The basic plan costs $8) and includes two users": the subject is said once.
        self.content = self.own | subject
        self._names = names

    @cached_property
    def negated(self) -> bool:
        """Whether it has an odd number of negations."""
        return sum(word in NEGATIONS for word in self.words) % 2 == 1

    @cached_property
    def anchors(self) -> tuple[Anchor, ...]:
        """Its names and numbers, in order."""
        return tuple(_anchors(self.words, self._names, self.text))


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

    def __init__(
        self, text: str, passage: int = -1, start: int = 0, end: int = 0, known: frozenset[str] = frozenset()
    ) -> None:
        self.text, self.passage, self.start, self.end = text, passage, start, end
        self._known = known
        self.words = stems(text)
        self.content = meaning(self.words)

    @cached_property
    def names(self) -> frozenset[str]:
        """The stems of the words in its names; of one where any word has a capital, if it is ``known``."""
        sure, possible = named(self.text)
        return sure | possible & self._known

    @cached_property
    def verbs(self) -> frozenset[str]:
        """The stems of the words whose form or place shows that they are verbs: "ran", "to open"."""
        words = _LETTERS.findall(self.text)
        found: set[str] = set()
        for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
            after_one = before.lower() in _BEFORE_VERBS and word.islower()
            ends = (
                word.endswith("s")
                and word.islower()
                and after in _AFTER_VERBS
                and before not in _BEFORE_NOUNS
            )
            if word.endswith("ed") or word.lower() in IRREGULAR or after_one or ends:
                found.update(stems(word))
        return meaning(tuple(found))

    @cached_property
    def clauses(self) -> tuple[Clause, ...]:
        """Its clauses, without those that have no word of meaning."""
        return tuple(c for c in map(Clause, _clauses(self.text)) if c.content)

    @cached_property
    def fragments(self) -> tuple[Fragment, ...]:
        """The fragments of its clauses; a name, a single word or a phrase is left with what it follows."""
        found: list[Fragment] = []
        subject = frozenset[str]()
        for clause in _clauses(self.text):
            texts: list[str] = []
            for part in _PIECE.split(clause):
                if not re.search(r"\w", part):
                    continue
                said, words = meaning(stems(part)), stems(part)
                joined = words[0] in _JOINS or words[0] in lexicon.RELATIVE
                first = next((w for w in words if w not in _JOINS and w not in NEGATIONS), "")
                parallel = joined and len(words) > 2 and first in lexicon.PREPOSITIONS
                alone = len(said) < 2 or said <= self.names or self._adverbial(words)
                # "Corland and Vess" is one phrase.
                both = (
                    bool(texts)
                    and _TWO_NAMES.fullmatch(f"{texts[-1].split()[-1]} {part.lstrip()}") is not None
                )
                if texts and (both or (alone and not parallel)):
                    texts[-1] += f"{'' if both else ','} {part.strip()}"
                else:
                    texts.append(part)
            for text in texts:
                joined = stems(text)[0] in ("and", "or", "but") and not _OWN_SUBJECT.match(text)
                found.append(Fragment(text, self.names, subject if joined else frozenset()))
                subject = subject if joined else _heading(found[-1].words, self.verbs)
        return tuple(found)

    def _adverbial(self, words: Sequence[str]) -> bool:
        """Whether they begin with a preposition, and not as "after the bridge had opened" does."""
        event = words[0] in ("after", "before", "until", "since") and not self.verbs.isdisjoint(words)
        return words[0] in lexicon.PREPOSITIONS and not event


class Clash(NamedTuple):
    """What kind of clash, how the claim differs, and the passage's sentence that says otherwise."""

    kind: str
    why: str
    statement: Statement

    def explained(self, claim: Statement) -> str:
        """``why``, with the words as the claim or the passage has them instead of their stems."""
        spelled: dict[str, str] = {}
        for word in _SPELLED.findall(f"{claim.text} {self.statement.text}"):
            for stem in stems(word):
                spelled.setdefault(stem, word)
        return _QUOTED.sub(
            lambda m: repr(" ".join(spelled.get(w, w) for w in m[0].strip("'").split())), self.why
        )


def named(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """The stems of the words in names, and of those that have a capital where any word would."""
    found = facts(text)
    sure, possible = (
        frozenset(w for n in names for w in stems(n)) for names in (found.names, found.possible)
    )
    return sure, possible


def _heading(words: Sequence[str], verbs: frozenset[str]) -> frozenset[str]:
    """The words of meaning before the first verb that shows, or number."""
    stop = lexicon.AUXILIARIES | verbs
    start = next((i for i, w in enumerate(words) if w not in _JOINS), 0)
    end = next((i for i, w in enumerate(words) if i >= start and (w in stop or is_number(w))), len(words))
    return meaning(tuple(words[start:end]))


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


def _anchors(words: Sequence[str], names: frozenset[str], text: str) -> Iterator[Anchor]:
    at = 0
    while at < len(words):
        end = at + 1
        if is_number(words[at]):
            dated = is_year(words[at]) and (not at or words[at - 1] in lexicon.TIMES) and words[at] in text
            kind = "year" if dated else "nth" if words[at].endswith("th") else "number"
        elif words[at] in names:
            kind = "name"
            while end < len(words) and words[end] in names:
                end += 1
        elif words[at] in lexicon.COLOURS:
            kind = "colour"
        else:
            at = end
            continue
        # Which preposition stands before a year says little: "in 1953", "the flood of 1953".
        before = "in" if kind == "year" and at else words[at - 1] if at else ""
        slot = (
            before if before in lexicon.PREPOSITIONS else "after" if meaning(tuple(words[:at])) else "start"
        )
        yield Anchor(tuple(words[at:end]), kind, slot)
        at = end
