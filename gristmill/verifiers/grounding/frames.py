"""Who does what to whom in a sentence, as far as the order of its words shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gristmill.verifiers.grounding import lexicon
from gristmill.verifiers.grounding.clauses import Piece, Statement, is_number, meaning

_STOPS = lexicon.PREPOSITIONS | lexicon.RELATIVE | {"and", "or", "but", "becaus", "while", "if"}
_APART = lexicon.PREPOSITIONS - {"of", "than", "as"} | lexicon.RELATIVE


class Frame(NamedTuple):
    """A verb with the words of what acts, of what is acted on, and of what stands beside what acts."""

    verb: str
    actor: frozenset[str]
    patient: frozenset[str]
    beside: frozenset[str]
    passive: bool


def swapped_roles(claim: Statement, said: Statement) -> str:
    """How ``claim`` turns round who does what in ``said``; empty if it does not."""
    verbs = (claim.content & said.content) - claim.names - lexicon.SYMMETRIC
    there = [frame for piece in said.pieces for frame in _frames(piece, verbs)]
    for piece in claim.pieces:
        for mine in _frames(piece, verbs):
            same = [frame for frame in there if frame.verb == mine.verb]
            if same and all(_turned(mine, frame) for frame in same):
                return f"turns round who is the one to {mine.verb!r}"
            if same and all(_beside(mine, frame) for frame in same):
                return f"gives {mine.verb!r} to what only stands beside the one that it is said of"
    return ""


def _turned(mine: Frame, other: Frame) -> bool:
    crossed = mine.actor & other.patient and mine.patient & other.actor
    return bool(crossed) and not mine.actor & other.actor and not mine.patient & other.patient


def _beside(mine: Frame, other: Frame) -> bool:
    subject, there = (f.patient if f.passive else f.actor for f in (mine, other))
    alone = bool(subject) and not mine.beside and subject <= other.beside
    return alone and 1 <= len(there) <= 2 and not subject & there


def _frames(piece: Piece, verbs: frozenset[str]) -> Iterator[Frame]:
    words = piece.words
    for at in range(1, len(words)):
        if words[at] not in verbs or is_number(words[at]):
            continue
        first = at
        while first and words[first - 1] in lexicon.AUXILIARIES:
            first -= 1
        passive = not lexicon.FORMS_OF_BE.isdisjoint(words[first:at])
        subject, beside = _subject(words[:first])
        behind, agent = _object(words[at + 1 :], passive)
        if passive and "than" not in words[at + 1 : at + 4]:
            yield Frame(words[at], agent, subject, beside, True)
        else:
            yield Frame(words[at], subject, behind, beside, False)


def _subject(before: Sequence[str]) -> tuple[frozenset[str], frozenset[str]]:
    """The words of the subject, and those of a phrase beside it ("the doctor near the actor")."""
    if not before:
        return frozenset(), frozenset()
    if before[0] in lexicon.PREPOSITIONS:  # "In autumn the workers": only the last word is sure
        single = lexicon.PREPOSITIONS.isdisjoint(before[1:])
        return meaning(tuple(before[-1:])) if single else frozenset(), frozenset()
    if not lexicon.AUXILIARIES.isdisjoint(before):  # another verb stands between
        return frozenset(), frozenset()
    cut = next((i for i, w in enumerate(before) if w in _STOPS), len(before))
    apart = next((i for i, w in enumerate(before) if w in _APART), len(before))
    return meaning(tuple(before[:cut])), meaning(tuple(before[apart:]))


def _object(after: Sequence[str], passive: bool) -> tuple[frozenset[str], frozenset[str]]:
    """The words of the object, and those after "by"."""
    at = 0
    while at < len(after) and after[at] in lexicon.AUXILIARIES | lexicon.PARTICLES:
        at += 1
    if at < len(after) and after[at] == "than":
        at += 1
    elif "than" in after[at : at + 3]:
        at += after[at : at + 3].index("than") + 1
    behind = meaning(tuple(_until_stop(after[at:])))
    agent: frozenset[str] = frozenset()
    if passive and "by" in after:
        agent = meaning(tuple(_until_stop(after[after.index("by") + 1 :])))
    return behind, agent


def _until_stop(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word in _STOPS or word in lexicon.AUXILIARIES:
            return
        yield word
