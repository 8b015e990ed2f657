"""Sentences changed so that a passage no longer supports them: hard negatives for a grounding encoder.

Each change is small and of one kind, in the words of the sentence itself or of its passage, so that what is
learned is the claim and not its style. English only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

from gristmill.verifiers.grounding.claims import facts

Label = Literal["supported", "unsupported", "contradicted"]

_NUMBER = re.compile(r"(?<![\w.,$£€-])[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?(?![\w-]|[.,:/][0-9])")
_YEAR = re.compile(r"1[0-9]{3}|20[0-9]{2}")
_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_WORD = re.compile(r"[^\W\d_][\w-]*")
_SPELLED = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b", re.IGNORECASE)
_BOUND = re.compile(
    r"(?:at (?:most|least)|up to|over|under|above|below|more than|less than|fewer than|within|about|around"
    r"|some|nearly|almost|minimum of|maximum of|not|between|or|to|and)\s+[$£€]?\Z",
    re.IGNORECASE,
)
"""Before these a number of another size may be as true: at most thirty are at most forty."""
_ORDER = (("before", "after"), ("earlier", "later"))
_MODALS = (
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
_DENIED = re.compile(r"\b(is|are|was|were|has|have|had|will|do|does|did) not\b")
_OPPOSITES = (
    ("north", "south"), ("east", "west"), ("northern", "southern"), ("eastern", "western"),
    ("largest", "smallest"), ("highest", "lowest"), ("longest", "shortest"), ("oldest", "youngest"),
    ("summer", "winter"), ("allowed", "forbidden"), ("maximum", "minimum"), ("increased", "decreased"),
    ("increases", "decreases"), ("accepted", "rejected"), ("approved", "rejected"), ("higher", "lower"),
    ("faster", "slower"), ("all", "none"), ("always", "never"), ("opened", "closed"), ("first", "last"),
)  # fmt: skip
_SCOPE = re.compile(
    r"\b(?:not|no|never|only|neither|nor|none|nothing|without|unless|if|whether)\b", re.IGNORECASE
)
"""Beside these words a change may leave the claim as true as it was."""
_LIST = re.compile(r"\s*(?:,|and|or|,\s*and)\s*")


class Change(NamedTuple):
    """A changed sentence: the kind of change, and what the sentence's own passage makes of it."""

    kind: str
    label: Label
    text: str


def changes(sentence: str, passage: str) -> Iterator[Change]:
    """All changes of ``sentence``, which stands in ``passage``, in an order that follows its text alone."""
    yield from _numbers(sentence, passage)
    yield from _names(sentence, passage)
    if _SCOPE.search(sentence) is None:
        yield from _pairs("order", _ORDER, sentence)
        yield from _pairs("opposite", _OPPOSITES, sentence)
        for match in list(_NEGATABLE.finditer(sentence))[:1]:
            yield Change(
                "negation", "contradicted", f"{sentence[: match.end()]} not{sentence[match.end() :]}"
            )
    elif len(denied := list(_DENIED.finditer(sentence))) == 1 and len(_SCOPE.findall(sentence)) == 1:
        [match] = denied
        if match[1] in ("is", "are", "was", "were", "will"):
            yield Change("negation", "contradicted", _put(sentence, match.start(), match.end(), match[1]))
    for said, instead, label in _MODALS:
        found = list(re.finditer(rf"\b{said}\b", sentence))
        if len(found) == 1:
            [match] = found
            yield Change("modality", label, _put(sentence, match.start(), match.end(), instead))  # type: ignore[arg-type]
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
    own = [(name, _places(name, sentence)) for name in _whole_names(sentence)]
    for (one, (first,)), (other, (second,)) in combinations([(n, at) for n, at in own if len(at) == 1], 2):
        (a, b), (left, right) = (
            ((first, second), (one, other)) if first < second else ((second, first), (other, one))
        )
        between = sentence[a + len(left) : b]
        if a + len(left) > b or _LIST.fullmatch(between):
            continue
        text = f"{sentence[:a]}{right}{between}{left}{sentence[b + len(right) :]}"
        yield Change("roles", "contradicted", text)
    others = [n for n in _whole_names(passage) if not _places(n, sentence)]
    mine = {word for name, _ in own for word in name.split()}
    others = [n for n in others if mine.isdisjoint(n.split())]
    for name, (at, *more) in own:
        if others and not more:
            yield Change("name", "unsupported", _put(sentence, at, at + len(name), others[0]))


def _whole_names(text: str) -> list[str]:
    """The names of a text, each with all of its words, once and in order."""
    sure = frozenset(facts(text).names)
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
            found = list(re.finditer(rf"\b{word}\b", sentence))
            if len(found) == 1 and not re.search(rf"\b{instead}\b", sentence):
                yield Change(kind, "contradicted", _put(sentence, *found[0].span(), instead))


def _put(sentence: str, start: int, end: int, text: str) -> str:
    return sentence[:start] + text + sentence[end:]
