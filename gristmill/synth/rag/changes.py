"""Sentences changed so that a passage no longer supports them: hard negatives for a grounding encoder.

Each change is small and of one kind, in the words of the sentence itself or of its passage, so that what is
learned is the claim and not its style. English only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

from gristmill.verifiers.grounding.claims import facts, split

Label = Literal["supported", "unsupported", "contradicted"]

_NUMBER = re.compile(r"(?<![\w.,$£€-])[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?(?![\w-]|[.,:/][0-9])")
_YEAR = re.compile(r"1[0-9]{3}|20[0-9]{2}")
_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_WORD = re.compile(r"[^\W\d_][\w-]*")
_SPELLED = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b", re.IGNORECASE)
_BOUND = re.compile(
    r"(?:at (?:most|least)|up to|over|under|above|below|more than|less than|fewer than|within|about|around"
    r"|some|nearly|almost|exceed(?:s|ed|ing)?|max(?:imum)?|min(?:imum)?|limit|not|between|or|to|and)"
    r"(?: of)?:?\s+[$£€]?\Z",
    re.IGNORECASE,
)
"""Before these a number of another size may be as true: at most thirty are at most forty."""
_ORDER = (("before", "after"), ("earlier", "later"))
_MODALS: tuple[tuple[str, str, Label], ...] = (
    ("must", "need not", "contradicted"),
    ("may not", "may", "contradicted"),
    ("cannot", "can", "contradicted"),
    ("can not", "can", "contradicted"),
    ("should", "must", "unsupported"),
    ("may", "must", "unsupported"),
    ("might", "will", "unsupported"),
    ("can", "must", "unsupported"),
)
_NEGATABLE = re.compile(r"\b(?:is|are|was|were|has been|have been|had been|will|can)\b(?! not\b|n['’]t\b)")
_DENIED = re.compile(r"\b(is|are|was|were|will) not\b")
_OPPOSITES = (
    ("north", "south"), ("east", "west"), ("northern", "southern"), ("eastern", "western"),
    ("largest", "smallest"), ("highest", "lowest"), ("longest", "shortest"), ("oldest", "youngest"),
    ("allowed", "forbidden"), ("maximum", "minimum"), ("increased", "decreased"), ("increases", "decreases"),
    ("higher", "lower"), ("faster", "slower"), ("always", "never"),
)  # fmt: skip
_SCOPE = re.compile(
    r"\b(?:not|cannot|no|never|only|neither|nor|none|nothing|without|unless|if|whether|than)\b|n['’]t\b",
    re.IGNORECASE,
)
"""Beside these words a change may leave the claim as true as it was."""
_UNDER = re.compile(
    r"\b(?:if|unless|whether|when|until|while|that|which|who|where|because|since|so|after|before)\b",
    re.IGNORECASE,
)
"""What follows one of these is not what the sentence claims."""
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_CALENDAR = frozenset(f"{_MONTHS}|{_DAYS}".split("|"))
_TOWARDS = re.compile(r"from\s+(?:the\s+)?\Z"), re.compile(r"\s+to\s+(?:the\s+)?")
_LISTED = re.compile(r",|\b(?:and|or|of)\b|-")


class Change(NamedTuple):
    """A changed sentence: the kind of change, and what the sentence's own passage makes of it."""

    kind: str
    label: Label
    text: str


def changes(sentence: str, passage: str) -> Iterator[Change]:
    """All changes of ``sentence``, a part of ``passage``, in an order that follows its text alone."""
    yield from _numbers(sentence, passage)
    yield from _names(sentence, passage)
    if _SCOPE.search(sentence) is None:
        yield from _pairs("order", _ORDER, sentence)
        yield from _pairs("opposite", _OPPOSITES, sentence)
    yield from _negated(sentence)
    yield from _modal(sentence)


def _negated(sentence: str) -> Iterator[Change]:
    """Its first auxiliary denied, or its only denial taken away."""
    for match in list((_NEGATABLE if _SCOPE.search(sentence) is None else _DENIED).finditer(sentence))[:1]:
        if _UNDER.search(sentence[: match.start()]) or len(_SCOPE.findall(sentence)) > 1:
            return
        plain = match[0].removesuffix(" not")
        instead = plain if plain != match[0] else f"{plain} not"
        yield Change("negation", "contradicted", _put(sentence, *match.span(), instead))


def _modal(sentence: str) -> Iterator[Change]:
    """What must be need not be, and what may be must be."""
    for said, instead, label in _MODALS:
        found = list(re.finditer(rf"\b{said}\b", sentence))
        if len(found) == 1 and not _UNDER.search(sentence[: found[0].start()]):
            yield Change("modality", label, _put(sentence, *found[0].span(), instead))
            return


def _numbers(sentence: str, passage: str) -> Iterator[Change]:
    """Another number in the place of one: of the passage where it has one of its form, else a near one."""
    there = [m[0] for m in _NUMBER.finditer(passage)]
    for match in _NUMBER.finditer(sentence):
        if _BOUND.search(sentence[: match.start()]):
            continue
        own, year = match[0], _YEAR.fullmatch(match[0]) is not None
        others = [
            n for n in there if n != own and (_YEAR.fullmatch(n) is not None) == year and n not in sentence
        ]
        yield Change(
            "number", "contradicted", _put(sentence, *match.span(), others[0] if others else _near(own))
        )
    for match in _SPELLED.finditer(sentence):
        if not _BOUND.search(sentence[: match.start()]):
            instead = _WORDS[(_WORDS.index(match[0].lower()) + 3) % len(_WORDS)]
            instead = instead.capitalize() if match[0][0].isupper() else instead
            yield Change("number", "contradicted", _put(sentence, *match.span(), instead))


def _near(number: str) -> str:
    """Another number of the same form."""
    at = next((i for i, c in enumerate(number) if c not in "0,."), None)
    at = len(number) - 1 if _YEAR.fullmatch(number) or at is None else at
    digit = str(int(number[at]) % 9 + 1)
    return number[:at] + digit + number[at + 1 :]


def _names(sentence: str, passage: str) -> Iterator[Change]:
    """Two names of the sentence in each other's place, and one of another sentence in the place of one."""
    own = [(name, at[0]) for name in _whole_names(sentence) if len(at := _places(name, sentence)) == 1]
    own.sort(key=lambda one: one[1])
    for (left, a), (right, b) in combinations(own, 2):
        between = sentence[a + len(left) : b]
        if _LISTED.search(between) or _LISTED.match(sentence[b + len(right) :].lstrip()):
            continue
        # Only "from here to there" says by itself that it was not the other way round.
        towards = _TOWARDS[0].search(sentence[:a]) and _TOWARDS[1].fullmatch(between)
        text = f"{sentence[:a]}{right}{between}{left}{sentence[b + len(right) :]}"
        yield Change("roles", "contradicted" if towards else "unsupported", text)
    said = [s.text for s in split(passage) if s.text != sentence]
    others = dict.fromkeys(name for text in said for name in _whole_names(text))
    taken = {word for name in _whole_names(sentence) for word in name.split()}
    for name, place in own:
        free = (o for o in others if taken.isdisjoint(o.split()) and o.isupper() == name.isupper())
        if (other := next(free, None)) is not None:
            yield Change("name", "unsupported", _put(sentence, place, place + len(name), other))


def _whole_names(text: str) -> list[str]:
    """The names of a text, each with all of its words, once and in order."""
    sure = frozenset(facts(text).names) - _CALENDAR
    found: list[str] = []
    end = -1
    for match in _WORD.finditer(text):
        if match[0] in sure:
            joined = found and text[end : match.start()] == " "
            found[-1:] = [f"{found[-1]} {match[0]}"] if joined else [*found[-1:], match[0]]
            end = match.end()
    return list(dict.fromkeys(found))


def _places(name: str, text: str) -> list[int]:
    return [m.start() for m in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text)]


def _pairs(kind: str, pairs: Sequence[tuple[str, str]], sentence: str) -> Iterator[Change]:
    """A word in the place of its opposite."""
    for pair in pairs:
        for word, instead in (pair, pair[::-1]):
            found = list(re.finditer(rf"\b{word}\b(?=\s)", sentence))
            if len(found) == 1 and not re.search(rf"\b{instead}\b", sentence):
                yield Change(kind, "contradicted", _put(sentence, *found[0].span(), instead))


def _put(sentence: str, start: int, end: int, text: str) -> str:
    return sentence[:start] + text + sentence[end:]
