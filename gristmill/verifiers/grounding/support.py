"""Passages prepared for comparison, and how far they support one sentence."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain, dropwhile
from typing import NamedTuple

from msgspec import Struct

from gristmill.verifiers.grounding import lexicon
from gristmill.verifiers.grounding.anchors import worked_out
from gristmill.verifiers.grounding.bindings import find_clash
from gristmill.verifiers.grounding.claims import content, facts, negated, split, stems
from gristmill.verifiers.grounding.clauses import Statement, named
from gristmill.verifiers.grounding.entailment import Entails

_RANGE = re.compile(r"([0-9]{1,3})\s*[-–]\s*([0-9]{1,3})")
_RUN = re.compile(r"[^\W_]+")
# A "not" does not apply to what follows one of these words.
_CLAUSE = re.compile(r";\s+|,\s+(?=(?:and|but|or|so|yet|while|whereas|although|though|since|because)\b)")
_DEMONYMS = ("ian", "ean", "ese", "ish", "an", "n", "i")
# The people of a place, if the endings above do not connect them.
_PEOPLES = {
    "french": "france", "spanish": "spain", "british": "britain", "dutch": "netherlands", "danish": "denmark",
    "polish": "poland", "swiss": "switzerland", "greek": "greece", "welsh": "wales", "irish": "ireland",
    "scottish": "scotland", "swedish": "sweden", "turkish": "turkey", "finnish": "finland",
}  # fmt: skip


class GroundingPassage(Struct, frozen=True):
    """One passage. Its title counts as part of each of its sentences."""

    text: str
    id: str | int | None = None
    title: str = ""

    @property
    def heading(self) -> str:
        """The title on a line of its own, if there is one."""
        return f"{self.title}\n" if self.title else ""


class SupportEvidence(Struct, frozen=True):
    """Characters ``start:end`` of a ``passage`` (numbered from 1), and the share of the words found there."""

    passage: int
    start: int
    end: int
    score: float


class Levels(NamedTuple):
    """The lowest share of words and probability of entailment, sentences per window, windows to join."""

    lexical: float
    entailed: float
    window: int
    places: int


NEAR = 0.7
"""The least share of a sentence's words that a passage has which is about the same."""
_PREMISES = 6
"""How many windows an encoder reads for one sentence: those with most of its words."""


class Support(NamedTuple):
    """How far passages support a sentence. With ``open`` a judge should decide.

    ``near``: it is supported, or its words are there, which alone does not show that its claim is. ``clash``
    is the kind of difference to a passage, if there is one: ``roles``, ``order``, ``number``, ``name``,
    ``colour``, ``negation``, ``opposite``, ``modality``, ``quantity``, ``limit`` or ``rank``.
    """

    supported: bool
    by: str
    score: float
    why: str = ""
    missing: tuple[str, ...] = ()
    evidence: tuple[SupportEvidence, ...] = ()
    open: bool = False
    near: bool = False
    clash: str = ""


class _Window(NamedTuple):
    passage: int
    start: int
    end: int
    text: str
    words: frozenset[str]
    units: tuple[tuple[frozenset[str], bool], ...]
    """The words of each clause in it, and whether that is negated."""


class Passages:
    """Passages with their windows of neighbouring sentences and the rarity of their words."""

    def __init__(
        self, listed: Sequence[GroundingPassage], levels: Levels, entails: Entails | None = None
    ) -> None:
        self.listed = tuple(listed)
        self.levels = levels
        self.ids = tuple(str(p.id) for p in listed if p.id is not None)
        self._entails = entails
        self._places = {str(p.id): i for i, p in enumerate(listed) if p.id is not None}
        whole = [p.heading + p.text for p in listed]
        self._words = [stems(text) for text in whole]
        said = [(i, s) for i, p in enumerate(listed) for s in split(p.text)]
        self._named = frozenset[str]().union(*(named(s.text)[0] for _, s in said))
        self._said: list[list[Statement]] = [[] for _ in listed]
        for i, s in said:
            self._said[i].append(Statement(s.text, i, s.start, s.end, self._named))
        self._verbatim = [_letters(text) for text in whole]
        self._initials = [frozenset(_initials(text)) for text in whole]
        self._sets: dict[frozenset[int], frozenset[str]] = {}
        self._units: Counter[str] = Counter()
        self._sentences = 0
        self._windows = [w for i, p in enumerate(listed) for w in self._cut(i, p)]
        self._where: dict[str, list[int]] = defaultdict(list)
        for number, window in enumerate(self._windows):
            for word in window.words:
                self._where[word].append(number)

    def _cut(self, index: int, passage: GroundingPassage) -> Iterable[_Window]:
        title = frozenset(content(passage.title))
        # Brackets in a passage are not citations of ours, but reading them as such does no harm.
        found = split(passage.text)
        units = [[(frozenset(content(c)), negated(c)) for c in _CLAUSE.split(s.text)] for s in found]
        whole = [frozenset[str]().union(*(words for words, _ in clauses)) for clauses in units]
        for words in whole:
            self._units.update(words)
        self._sentences += len(units)
        width = self.levels.window
        for first in range(max(1, len(found) - width + 1) if found else 0):
            last = min(first + width, len(found))
            words = title.union(*whole[first:last])
            start, end = found[first].start, found[last - 1].end
            clauses = tuple(chain.from_iterable(units[first:last]))
            yield _Window(index, start, end, passage.text[start:end], words, clauses)

    def resolve(self, mark: str) -> list[tuple[str, int | None]]:
        """The passages that a citation names: as written, and by index (``None``: there is no such passage).

        An id takes precedence over a number.
        """
        if mark in self._places:
            return [(mark, self._places[mark])]
        found: list[tuple[str, int | None]] = []
        for part in re.split(r"\s*[,;]\s*", mark):
            ends = _RANGE.fullmatch(part)
            places = [part] if ends is None else map(str, range(int(ends[1]), int(ends[2]) + 1))
            found += [(place, self._place(place)) for place in places] or [(part, None)]
        return found

    def _place(self, mark: str) -> int | None:
        if mark in self._places:
            return self._places[mark]
        place = int(mark) - 1 if mark.isdigit() else -1
        return place if 0 <= place < len(self.listed) else None

    @cached_property
    def _everywhere(self) -> frozenset[int]:
        return frozenset(range(len(self.listed)))

    def against(self, sentence: str) -> Support | None:
        """What speaks against a sentence that states nothing by itself: a heading, a question.

        That is a number, name or quotation of no passage, or a clash. Where every long word has a capital, as
        in a title, names cannot be told and only numbers count.
        """
        titled = all(word[0].isupper() for word in re.findall(r"[^\W\d_]{4,}", sentence))
        if not titled:
            found = self.support(sentence)
            return found if found.by in ("facts", "clash") else None
        known = self._known(self._everywhere)
        missing = tuple(_writable(n) for n in facts(sentence).numbers if n not in known)
        return Support(False, "facts", 0.0, "facts of no passage", missing) if missing else None

    def stranger(self, sentence: str, names: Sequence[str], places: Sequence[SupportEvidence]) -> str:
        """The first of ``names`` (of the sentence before) that is not in the passage of ``places``, if
        ``sentence`` begins with a pronoun, which may mean it; else empty."""
        words = stems(sentence)
        if not words or words[0] not in lexicon.PRONOUNS or not places:
            return ""
        there = self._known(frozenset((places[0].passage - 1,)))
        return _writable(next((name for name in names if not there.issuperset(stems(name))), ""))

    def _known(self, of: frozenset[int]) -> frozenset[str]:
        if of not in self._sets:
            self._sets[of] = frozenset(w for i in of for w in self._words[i])
        return self._sets[of]

    def support(self, sentence: str, of: frozenset[int] | None = None) -> Support:
        """How far the passages (those whose indices are ``of``) support ``sentence``."""
        of = self._everywhere if of is None else of
        words = list(dict.fromkeys(content(sentence)))
        chosen = self._best(words, of)
        score = self._share(words, [w for w, _ in chosen])
        evidence = tuple(SupportEvidence(w.passage + 1, w.start, w.end, round(s, 4)) for w, s in chosen)
        missing, doubtful = self._missing(sentence, of)
        said = [statement for i in of for statement in self._said[i]]
        claim = Statement(sentence, known=self._named)
        derived = worked_out(claim, said).intersection(missing) if missing else frozenset[str]()
        missing = tuple(n for n in missing if n not in derived)
        if missing:
            return Support(False, "facts", score, "facts of no passage", missing, evidence)
        if not said:
            return Support(False, "facts", 0.0, "there is no passage")
        quoted = (s for s in said if claim.content <= s.content and _repeats(claim.words, s))
        if words and (found := next(quoted, None)):
            place = SupportEvidence(found.passage + 1, found.start, found.end, 1.0)
            return Support(True, "quote", 1.0, evidence=(place,), near=True)
        if not derived and (clash := find_clash(claim, said)):
            said_there = clash.statement
            against = SupportEvidence(
                said_there.passage + 1, said_there.start, said_there.end, round(score, 4)
            )
            why = _writable(f"{clash.explained(claim)}: {said_there.text!r}")
            return Support(False, "clash", score, why, evidence=(against,), clash=clash.kind)
        if self._entails and (read := self._read(sentence, words, of, self._entails)):
            return read
        windows = [w for w, _ in chosen]
        elsewhere = sum(self._missing(sentence, frozenset(w.passage for w in windows)), ()) if windows else ()
        near = False
        if derived:
            why = f"{min(derived)} may be worked out from the passages"
        elif doubtful:
            why = f"begins with {doubtful[0]!r}, a word of no passage"
        elif windows and _turned(sentence, words, windows):
            why = "a negation on one side only"
        elif elsewhere:
            why = f"{elsewhere[0]!r} is in another passage than the rest"
        else:
            near = score >= NEAR
            why = "only its words are there" if near else "few of its words are there"
        return Support(False, "lexical", score, why, evidence=evidence, open=True, near=near)

    def _weight(self, word: str) -> float:
        return 1 + math.log((self._sentences + 1) / (self._units[word] + 1))

    def _share(self, words: Sequence[str], windows: Sequence[_Window]) -> float:
        have = frozenset[str]().union(*(w.words for w in windows))
        whole = sum(map(self._weight, words))
        return sum(self._weight(w) for w in words if w in have) / whole if whole else 0.0

    def _best(self, words: Sequence[str], of: frozenset[int]) -> list[tuple[_Window, float]]:
        """The window with the most of ``words``; if that is too little, further windows that add the most."""
        chosen: list[tuple[_Window, float]] = []
        left = list(words)
        for _ in range(self.levels.places):
            held: dict[int, float] = defaultdict(float)
            for word in left:
                for number in self._where.get(word, ()):
                    if self._windows[number].passage in of:
                        held[number] += self._weight(word)
            if not held:
                break
            window = self._windows[max(held, key=lambda n: (held[n], -n))]
            chosen.append((window, self._share(words, [window])))
            if self._share(words, [w for w, _ in chosen]) >= NEAR:
                break
            left = [w for w in left if w not in window.words]
        return chosen

    def premises(self, sentence: str, most: int = _PREMISES) -> list[str]:
        """What an encoder is shown of the passages with ``sentence``: the windows with most of its words."""
        words = list(dict.fromkeys(content(sentence)))
        return [self._premise(w) for w in self._nearest(words, self._everywhere)[:most]]

    def _nearest(self, words: Sequence[str], of: frozenset[int]) -> list[_Window]:
        inside = [w for w in self._windows if w.passage in of]
        return sorted(inside, key=lambda w: -self._share(words, [w]))

    def _premise(self, window: _Window) -> str:
        return self.listed[window.passage].heading + window.text

    def _read(
        self, sentence: str, words: Sequence[str], of: frozenset[int], entails: Entails
    ) -> Support | None:
        """What the encoder decides by the windows with most of the words; ``None`` where it is not sure."""
        windows = self._nearest(words, of)[:_PREMISES]
        readings = entails([self._premise(w) for w in windows], sentence)
        least = self.levels.entailed
        for yes in (True, False):
            rated = [r.entailed if yes else r.contradicted for r in readings]
            if rated and (score := max(rated)) >= least:
                window = windows[rated.index(score)]
                place = SupportEvidence(window.passage + 1, window.start, window.end, round(score, 4))
                why = "" if yes else "the encoder reads a contradiction"
                return Support(yes, "encoder", score, why, evidence=(place,), near=yes)
        return None

    def _missing(self, sentence: str, of: frozenset[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The facts, and the possible names, of ``sentence`` that do not occur in these passages."""
        stated = facts(sentence)
        known = self._known(of)
        initials = frozenset[str]().union(*(self._initials[i] for i in of))
        spelled_out = {w for short, full in _runs(sentence) if short in known for w in full}

        def stands(name: str) -> bool:
            parts = stems(name)
            short = re.sub(r"\W", "", name).lower()
            return (
                all(p in known or _people(p, known) for p in parts)
                or short in known
                or short in initials
                or name in spelled_out
            )

        quotes = [q for q in stated.quotes if not any(_letters(q) in self._verbatim[i] for i in of)]
        lacking = [n for n in stated.numbers if n not in known] + [n for n in stated.names if not stands(n)]
        possible = [n for n in stated.possible if not stands(n)]
        return tuple(map(_writable, [*lacking, *quotes])), tuple(map(_writable, possible))


def _repeats(sentence: Sequence[str], said: Statement) -> bool:
    """Whether ``sentence`` is, word for word, some whole fragments of ``said``, and the rest does not
    take it back.

    "The actor resigned" is not said by "The doctors who met the actor resigned".
    """
    own = list(_bare(sentence))
    fragments = [fragment.words for fragment in said.fragments]
    for first in range(len(fragments)):
        for last in range(first + 1, len(fragments) + 1):
            if list(_bare(list(chain.from_iterable(fragments[first:last])))) == own:
                rest = chain.from_iterable(fragments[:first] + fragments[last:])
                return lexicon.DOUBTS.isdisjoint(rest)
    return False


def _bare(words: Sequence[str]) -> Iterable[str]:
    """``words`` without the adverbs and conjunctions before them."""
    return dropwhile(lexicon.LEADING.__contains__, words)


def _writable(text: str) -> str:
    """``text`` without lone surrogates, which JSON cannot represent."""
    return text.encode("utf-8", "replace").decode()


def _letters(text: str) -> str:
    """``text`` for verbatim comparison: lower-case letters and digits, single spaces, a space at both
    ends."""
    return f" {' '.join(_RUN.findall(text.casefold()))} "


def _runs(text: str) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Runs of two or more capitalised words ("World Health Organization", short words inside allowed), with
    their initials in lower case."""
    for run in re.finditer(r"[^\W\d_a-z]\w+(?:\s+(?:(?:of|the|and|for|in)\s+){0,2}[^\W\d_a-z]\w+)+", text):
        full = tuple(w for w in run[0].split() if w[0].isupper())
        yield "".join(w[0] for w in full).lower(), full


def _initials(text: str) -> Iterable[str]:
    return (short for short, _ in _runs(text))


def _people(name: str, known: frozenset[str]) -> bool:
    """Whether ``name`` is the people of a place in ``known``, or the place of a people in it."""
    forms = {name, _PEOPLES.get(name, name)} | {place for people, place in _PEOPLES.items() if people == name}
    forms |= {people for people, place in _PEOPLES.items() if place == name or place[:-1] == name}
    stem = _place(name)
    places = {_place(w) for w in known if w[:3] == name[:3]}
    return not known.isdisjoint(forms | {f.removesuffix("e") for f in forms}) or (
        len(stem) > 3 and stem in places
    )


def _place(word: str) -> str:
    for ending in _DEMONYMS:
        if word.endswith(ending) and len(word) - len(ending) > 3:
            return word[: -len(ending)].rstrip("aei")
    return word.rstrip("aei")


def _turned(sentence: str, words: Sequence[str], windows: Sequence[_Window]) -> bool:
    """Whether the sentence is negated and the nearest clause of the passages is not, or the reverse."""
    units = [unit for w in windows for unit in w.units]
    _, other = max(units, key=lambda unit: len(unit[0].intersection(words)))
    return negated(sentence) != other
