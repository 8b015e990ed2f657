"""Which of two events comes first, which causes the other, and which of two things is more."""

from __future__ import annotations

import re
from typing import NamedTuple

from gristmill.verifiers.grounding import lexicon
from gristmill.verifiers.grounding.claims import stems
from gristmill.verifiers.grounding.clauses import Statement, meaning

# Each connective, with the kind of relation and whether what follows it is the earlier, or the cause.
_CONNECTIVES = {
    "before": ("time", False),
    "prior to": ("time", False),
    "ahead of": ("time", False),
    "and then": ("time", False),
    "followed by": ("time", False),
    "after": ("time", True),
    "as soon as": ("time", True),
    "because of": ("cause", True),
    "because": ("cause", True),
    "due to": ("cause", True),
    "owing to": ("cause", True),
    "as a result of": ("cause", True),
    "caused by": ("cause", True),
    "thanks to": ("cause", True),
    "leads to": ("cause", False),
    "led to": ("cause", False),
    "resulted in": ("cause", False),
    "results in": ("cause", False),
    "caused": ("cause", False),
    "causes": ("cause", False),
    "which is why": ("cause", False),
    "therefore": ("cause", False),
    "so that": ("cause", False),
    "than": ("degree", False),
}
_WORDS = re.compile(rf"\b(?:{'|'.join(sorted(_CONNECTIVES, key=len, reverse=True))})\b", re.IGNORECASE)
_SAYS = {"time": "what came first", "cause": "cause and effect", "degree": "what is compared with what"}


class EventOrder(NamedTuple):
    """The words of what is earlier, or the cause, or more, and of what is later, or the effect, or less."""

    kind: str
    first: frozenset[str]
    second: frozenset[str]


def swapped_order(claim: Statement, said: Statement) -> str:
    """How ``claim`` turns round an order of events, or cause and effect, in ``said``; empty if not at all."""
    mine, other = _order(claim.text), _order(said.text)
    if mine is None or other is None or mine.kind != other.kind:
        return ""
    if any(
        lexicon.OPPOSITES.get(w, frozenset()) & set(said.words) for w in set(claim.words) - set(said.words)
    ):
        return ""
    crossed = mine.first & other.second and mine.second & other.first
    straight = mine.second & other.second or (mine.kind != "degree" and mine.first & other.first)
    return "" if straight or not crossed else f"turns round {_SAYS[mine.kind]}"


def _order(text: str) -> EventOrder | None:
    found = list(_WORDS.finditer(text))
    if len(found) != 1:
        return None
    kind, follows = _CONNECTIVES[found[0][0].lower()]
    left, right = text[: found[0].start()], text[found[0].end() :]
    if not re.search(r"\w", left):  # "Before the war, the mill made bottles."
        right, comma, left = right.partition(",")
        if not comma:
            return None
    if not re.search(r"\w", right):
        return None
    one, two = meaning(stems(left)), meaning(stems(right))
    one, two = one - two, two - one
    return EventOrder(kind, two, one) if follows else EventOrder(kind, one, two)
