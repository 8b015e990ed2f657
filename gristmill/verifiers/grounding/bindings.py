"""Whether a passage says something else with a claim's words.

A claim is compared with the sentences of the passages that have most of its words. Each comparison looks for
one kind of clash: who did what to whom, which number or name belongs to what, what came first, how sure, how
many, and whether at all. A clash is found only where the two sentences are close enough that the difference
is the point; everything else is left open.

Own code, since parsers (spaCy, Stanza) need models that are loaded from elsewhere, and take milliseconds a
sentence; the price is that only near sentences are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from gristmill.verifiers.grounding import lexicon
from gristmill.verifiers.grounding.clauses import (
    Anchor,
    Clause,
    Piece,
    Statement,
    is_number,
    is_year,
    meaning,
)
from gristmill.verifiers.grounding.frames import swapped_roles
from gristmill.verifiers.grounding.order import swapped_order

NEAR = 0.75
"""The least share of a claim's words that a passage's clause must have for the two to be compared."""


class Clash(NamedTuple):
    """What kind of clash, how the claim differs, and the passage's sentence that says otherwise."""

    kind: str
    why: str
    statement: Statement


def find_clash(claim: Statement, statements: Sequence[Statement]) -> Clash | None:
    """The first clash of ``claim`` with ``statements``, or ``None``.

    A clash with one sentence counts only if no other sentence that is as near says the same without one.
    """
    near = [s for s in statements if len(s.content & claim.content) >= 2]
    for clash in (_misplaced_number(claim, near), _misplaced_anchor(claim, near)):
        if clash:
            return clash
    whole = sorted(near, key=lambda s: -_share(claim.content, s.content))
    if whole:
        best = _share(claim.content, whole[0].content)
        as_near = [s for s in whole if _share(claim.content, s.content) >= max(NEAR - 0.15, best - 0.1)]
        for look in (swapped_roles, swapped_order):
            said = [look(claim, s) for s in as_near]
            if said and all(said):
                return Clash(look.__name__.removeprefix("swapped_"), said[0], as_near[0])
    for clause in claim.clauses:
        if clash := _clause_clash(clause, claim, near):
            return clash
    return None


def _share(part: frozenset[str], whole: frozenset[str]) -> float:
    return len(part & whole) / len(part) if part else 0.0


def _clause_clash(clause: Clause, claim: Statement, near: Sequence[Statement]) -> Clash | None:
    """A clash of one clause with all clauses of the passages that are nearest to it."""
    if len(clause.content) < 2:
        return None
    rated: list[tuple[float, Statement, Clause]] = []
    for statement in near:
        # Names of the claim that the passage may have as a pronoun do not count.
        known = clause.content - (claim.names - statement.content)
        rated += [(_share(known, c.content), statement, c) for c in statement.clauses if len(known) > 1]
    best = max((score for score, _, _ in rated), default=0.0)
    if best < NEAR:
        return None
    nearest = [(s, c) for score, s, c in rated if score >= best - 0.1]
    for kind, look in _BY_CLAUSE.items():
        said = [look(clause, other) for _, other in nearest]
        if all(said):
            return Clash(kind, said[0], nearest[0][0])
    return None


def _opposites(claim: Clause, other: Clause) -> Iterator[tuple[str, str]]:
    for word in claim.all - other.all:
        for opposite in lexicon.OPPOSITES.get(word, frozenset()) & (other.all - claim.all):
            yield word, opposite


def _negation(claim: Clause, other: Clause) -> str:
    if (claim.negations + other.negations) % 2 == 0 or any(_opposites(claim, other)):
        return ""
    if (claim.all ^ other.all) & lexicon.DENYING or any(_prefixed(claim.content, other.content)):
        return ""
    return "is denied there" if claim.negations else "stands there with a negation"


def _prefixed(claim: frozenset[str], other: frozenset[str]) -> Iterator[str]:
    for word in claim ^ other:
        for prefix in ("un", "in", "im", "dis", "non", "ir", "il"):
            if prefix + word in claim or prefix + word in other:
                yield word


def _opposite(claim: Clause, other: Clause) -> str:
    pairs = list(_opposites(claim, other))
    if not pairs or (claim.negations + other.negations) % 2 or len(pairs) > 1:
        return ""
    (word, opposite) = pairs[0]
    # "A is larger than B" and "B is smaller than A" say the same.
    if _turned_about(claim.words, word, other.words, opposite):
        return ""
    return f"has {word!r} where the passage has {opposite!r}"


def _turned_about(claim: Sequence[str], word: str, other: Sequence[str], opposite: str) -> bool:
    at, there = claim.index(word), other.index(opposite)
    left, right = set(meaning(tuple(claim[:at]))), set(meaning(tuple(claim[at + 1 :])))
    before, after = set(meaning(tuple(other[:there]))), set(meaning(tuple(other[there + 1 :])))
    return len(left & after) + len(right & before) > len(left & before) + len(right & after)


def _modality(claim: Clause, other: Clause) -> str:
    hedges = (other.all & (lexicon.HEDGES | lexicon.CONDITIONS)) - claim.all
    if hedges and not claim.all & (lexicon.HEDGES | lexicon.CONDITIONS | lexicon.PERMITS):
        return f"is stated as a fact, but the passage has {min(hedges)!r}"
    if "may" in other.all and not claim.all & (lexicon.PERMITS | lexicon.HEDGES) and not claim.negations:
        return "is stated as a fact, but the passage has 'may'"
    if claim.all & lexicon.OBLIGES and other.all & lexicon.ADVISES and not other.all & lexicon.OBLIGES:
        same = (claim.negations + other.negations) % 2 == 0
        return "is an obligation that the passage does not state" if same else ""
    return ""


def _quantity(claim: Clause, other: Clause) -> str:
    mine, theirs = _amounts(claim), _amounts(other)
    for noun, (amount, word) in mine.items():
        found = theirs.get(noun)
        if found is None and len(mine) == len(theirs) == 1:
            found = next(iter(theirs.values()))
        if found is not None and (amount - found[0] > 1 or (amount > found[0] and amount >= 4)):
            return f"speaks of {word!r}, the passage of {found[1]!r}"
    return ""


def _amounts(clause: Clause) -> dict[str, tuple[int, str]]:
    """The quantifiers of a clause by the noun after each."""
    found = {}
    for at, word in enumerate(clause.words):
        if word in lexicon.AMOUNTS:
            noun = next((w for w in clause.words[at + 1 : at + 4] if w in clause.content), "")
            found[noun] = (lexicon.AMOUNTS[word], word)
    return found


def _bound(claim: Clause, other: Clause) -> str:
    mine, theirs = _limits(claim.words), _limits(other.words)
    for number in mine.keys() & theirs.keys():
        if mine[number] * theirs[number] < 0:
            return f"turns the limit of {number} round"
    return ""


def _limits(words: Sequence[str]) -> dict[str, int]:
    """For each number whether it is a lower (1) or an upper (-1) limit."""
    found = {}
    for at, word in enumerate(words):
        if is_number(word):
            before = " ".join(words[max(0, at - 2) : at])
            if before.endswith(("at least", "more than", "over", "minimum of", "no less than", "above")):
                found[word] = 1
            elif before.endswith(
                ("at most", "up to", "less than", "under", "maximum of", "below", "fewer than")
            ):
                found[word] = -1
    return found


_BY_CLAUSE: dict[str, Callable[[Clause, Clause], str]] = {
    "negation": _negation,
    "opposite": _opposite,
    "modality": _modality,
    "quantity": _quantity,
    "limit": _bound,
}


def _misplaced_number(claim: Statement, near: Sequence[Statement]) -> Clash | None:
    """A number of the passages, with a noun that they give another number."""
    stated = list(_counted(claim))
    mine = {number for number, _ in stated}
    for number, nouns in stated:
        if not nouns:
            continue
        there = [others for s in near for n, others in _counted(s) if n == number]
        if not there or any(not others or set(nouns) & set(others) for others in there):
            continue
        for statement in near:
            for other, others in _counted(statement):
                if other in mine or is_year(other) or nouns[0] not in others:
                    continue
                if len(claim.content & statement.content) > 1 + (number in statement.content):
                    why = f"has {number} with {nouns[0]!r}, for which the passage has {other}"
                    return Clash("number", why, statement)
    return None


def _counted(statement: Statement) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each number of a sentence with the one or two words of meaning that it counts."""
    for piece in statement.pieces:
        for at, word in enumerate(piece.words):
            if not is_number(word) or is_year(word):
                continue
            nouns = []
            for after in piece.words[at + 1 : at + 5]:
                if after in piece.content and not is_number(after):
                    nouns.append(after)
                elif after != "of":
                    break
            yield word, tuple(nouns[:2])


def _misplaced_anchor(claim: Statement, near: Sequence[Statement]) -> Clash | None:
    """A name or number, said of what the passages say of another one."""
    pieces = [(s, piece) for s in near for piece in s.pieces]
    for mine in claim.pieces:
        inside = {anchor.words for anchor in mine.anchors}
        for anchor in mine.anchors:
            rest = mine.content.difference(anchor.words)
            if len(rest) < 2:
                continue
            home = [rest & p.content for _, p in pieces if _has(p, anchor)]
            at_home = max(map(len, home), default=0)
            for statement, piece in pieces:
                common = rest & piece.content
                enough = len(common) >= max(2, 0.6 * len(rest), at_home + (2 if at_home else 1))
                # What the claim shares with the anchor's own place shows that it means that place.
                if not enough or any(words - piece.content for words in home):
                    continue
                rival = _rival(anchor, piece, inside)
                if rival is None:
                    continue
                why = f"has {' '.join(anchor.words)!r} where the passage has {' '.join(rival.words)!r}"
                return Clash("name" if anchor.kind == "name" else "number", why, statement)
    return None


def _has(piece: Piece, anchor: Anchor) -> bool:
    return piece.content.issuperset(anchor.words)


def _rival(anchor: Anchor, piece: Piece, inside: set[tuple[str, ...]]) -> Anchor | None:
    """The anchor of ``piece`` that has the place of ``anchor``, which is not in it."""
    if not piece.content.isdisjoint(anchor.words):
        return None
    taken = frozenset[str]().union(*inside)
    for other in piece.anchors:
        if other.kind == anchor.kind and other.slot == anchor.slot and taken.isdisjoint(other.words):
            return other
    return None
