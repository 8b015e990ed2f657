"""Who does what to whom, where and when, as far as the order of a sentence's words shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from gristmill.verifiers.grounding import lexicon
from gristmill.verifiers.grounding.clauses import Fragment, Statement, is_number, meaning

_JOINS = frozenset(("and", "or", "but", "becaus", "while", "if"))
_STOPS = lexicon.PREPOSITIONS | lexicon.RELATIVE | _JOINS
_APART = lexicon.PREPOSITIONS - {"of", "than", "as"} | lexicon.RELATIVE
_NONE = frozenset[str]()


class Frame(NamedTuple):
    """A verb with its slots: ``actor``, ``patient``, and a preposition's own name for what follows it.

    ``beside`` are the words of a phrase within the subject ("the doctor near the actor").
    """

    verb: str
    slots: Mapping[str, frozenset[str]]
    beside: frozenset[str]
    passive: bool

    @property
    def subject(self) -> frozenset[str]:
        """What stands before the verb."""
        return self.slots.get("patient" if self.passive else "actor", _NONE)


def swapped_roles(claim: Statement, said: Statement) -> str:
    """How ``claim`` gives a verb of ``said`` other parts than ``said`` does; empty if it does not."""
    verbs = (claim.content & said.content) - claim.names - lexicon.SYMMETRIC
    there = [
        (fragment, frame) for fragment in said.fragments for frame in _frames(fragment, verbs, said.verbs)
    ]
    for fragment in claim.fragments:
        for mine in _frames(fragment, verbs, claim.verbs):
            same = [(other, frame) for other, frame in there if frame.verb == mine.verb]
            if any(fragment.negated != other.negated for other, _ in same):
                continue
            if same and all(_crossed(mine, frame) for _, frame in same):
                return f"turns round the parts of {mine.verb!r}"
            if not same or mine.verb not in claim.verbs | said.verbs:
                continue
            shown = mine.verb in claim.verbs & said.verbs
            if shown and all(_beside(mine, frame) for _, frame in same):
                return f"gives {mine.verb!r} to what only stands beside the one that it is said of"
            displaced = [_displaced(mine, fragment, frame, other, said) for other, frame in same]
            if all(displaced):
                return displaced[0]
    return ""


def _crossed(mine: Frame, other: Frame) -> bool:
    """Whether two parts have changed places: what acts and what is acted on, from and to."""
    slots = [slot for slot in mine.slots if slot in other.slots]
    for at, one in enumerate(slots):
        for two in slots[at + 1 :]:
            crossed = mine.slots[one] & other.slots[two] and mine.slots[two] & other.slots[one]
            straight = mine.slots[one] & other.slots[one] or mine.slots[two] & other.slots[two]
            if crossed and not straight:
                return True
    return False


def _beside(mine: Frame, other: Frame) -> bool:
    alone = bool(mine.subject) and not mine.beside and mine.subject <= other.beside
    return alone and 1 <= len(other.subject) <= 2 and not mine.subject & other.subject


def _displaced(mine: Frame, fragment: Fragment, other: Frame, there: Fragment, said: Statement) -> str:
    """Whether one part alone is another one, which the same sentence has in another place."""
    elsewhere = [p.own for p in said.fragments if p is not there]
    slots = [slot for slot in mine.slots if slot in other.slots]
    differ = [slot for slot in slots if not mine.slots[slot] & other.slots[slot]]
    if len(differ) != 1 or not mine.subject or (len(slots) == 1 and other.subject):
        return ""
    [slot] = differ
    own, given = mine.slots[slot], other.slots[slot]
    home = frozenset[str]().union(*(words for words in elsewhere if own & words))
    # What the claim shares with the other place alone shows that it means that place.
    meant = home & fragment.content - own - there.content
    if own <= home and not meant and not own & there.content and not given & fragment.content:
        return f"has {_listed(own)} with {mine.verb!r}, the passage {_listed(given)}"
    return ""


def _listed(words: frozenset[str]) -> str:
    return repr(" ".join(sorted(words)))


def _frames(fragment: Fragment, verbs: frozenset[str], shown: frozenset[str]) -> Iterator[Frame]:
    words = fragment.words
    for at in range(len(words)):
        if words[at] not in verbs or is_number(words[at]):
            continue
        first = at
        while first and words[first - 1] in lexicon.AUXILIARIES:
            first -= 1
        passive = not lexicon.FORMS_OF_BE.isdisjoint(words[first:at])
        subject, beside = _subject(words[:first])
        slots = dict(_parts(words[at + 1 :], passive, shown))
        slots["patient" if passive else "actor"] = subject
        yield Frame(words[at], {slot: held for slot, held in slots.items() if held}, beside, passive)


def _subject(before: Sequence[str]) -> tuple[frozenset[str], frozenset[str]]:
    """The words of the subject, and those of a phrase beside it ("the doctor near the actor")."""
    while before and before[0] in _JOINS:
        before = before[1:]
    if not before:
        return _NONE, _NONE
    if before[0] in lexicon.PREPOSITIONS:  # "In autumn the workers": only the last word is sure
        single = lexicon.PREPOSITIONS.isdisjoint(before[1:])
        return meaning(tuple(before[-1:])) if single else _NONE, _NONE
    if not lexicon.AUXILIARIES.isdisjoint(before):  # another verb stands between
        return _NONE, _NONE
    cut = next((i for i, w in enumerate(before) if w in _STOPS), len(before))
    apart = next((i for i, w in enumerate(before) if w in _APART), len(before))
    return meaning(tuple(before[:cut])), meaning(tuple(before[apart:]))


def _parts(
    after: Sequence[str], passive: bool, shown: frozenset[str]
) -> Iterator[tuple[str, frozenset[str]]]:
    """What follows a verb, by the preposition before it, up to the next verb; a second phrase with the same
    preposition adds to the first."""
    slot = "" if passive else "patient"
    found: dict[str, set[str]] = {}
    for at, word in enumerate(after):
        if word in lexicon.PARTICLES and after[at + 1 : at + 2] == ("of",):
            slot = word
        elif word in lexicon.RELATIVE or word in _JOINS or word in shown or word == "than":
            break
        if word in lexicon.PREPOSITIONS:
            if word != "of":
                slot = "actor" if passive and word == "by" else word
        elif word not in lexicon.AUXILIARIES and slot:
            found.setdefault(slot, set()).update(meaning((word,)))
    yield from ((name, frozenset(words)) for name, words in found.items())
