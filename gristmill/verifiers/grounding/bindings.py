"""Whether a passage says something else with a claim's words.

A claim is compared with the sentences of the passages that have most of its words. Each comparison looks for
one kind of clash: who did what to whom, which number or name belongs to what, what came first, how sure, how
many, and whether at all. A clash is found only where the two sentences are close enough that the difference
is the point; everything else is left open.

Own code, since parsers (spaCy, Stanza) need models that are loaded from elsewhere, and take milliseconds a
sentence; the price is that only near sentences are compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import nlargest
from itertools import pairwise

from gristmill.verifiers.grounding import lexicon
from gristmill.verifiers.grounding.anchors import misplaced_anchor, misplaced_number
from gristmill.verifiers.grounding.clauses import Clash, Clause, Statement, is_number, meaning
from gristmill.verifiers.grounding.frames import swapped_roles
from gristmill.verifiers.grounding.order import swapped_order

_CLOSE = 0.75
"""The least share of a claim's words that a passage's clause must have for the two to be compared."""

_MOST = 40
"""How many sentences of the passages a claim is compared with: those with most of its words."""
_MAY = re.compile(r"\bmay\b")  # the month has a capital


def find_clash(claim: Statement, statements: Sequence[Statement]) -> Clash | None:
    """The first clash of ``claim`` with ``statements``, or ``None``.

    A clash with one sentence counts only if no other sentence that is as near says the same without one.
    """
    # A row of a table is no sentence: its words do not show what belongs to what.
    near = [s for s in statements if len(s.content & claim.content) >= 2 and "|" not in s.text]
    near = nlargest(_MOST, near, key=lambda s: _share(claim.content, s.content))
    for find in (misplaced_number, misplaced_anchor, _shared_noun, _rank):
        if clash := find(claim, near):
            return clash
    if near:
        best = _share(claim.content, near[0].content)
        as_near = [s for s in near if _share(claim.content, s.content) >= max(_CLOSE - 0.15, best - 0.1)]
        for kind, look in (("roles", swapped_roles), ("order", swapped_order)):
            said = [look(claim, s) for s in as_near]
            if said and all(said):
                return Clash(kind, said[0], as_near[0])
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
        if len(known) > 1:
            rated += [
                (_share(known, said | _reversed(said)), statement, c)
                for c, said in _understood(statement)
                if not known.isdisjoint(c.content)
            ]
    best = max((score for score, _, _ in rated), default=0.0)
    if best < _CLOSE:
        return None
    nearest = [(s, c) for score, s, c in rated if score >= best - 0.1]
    for kind, look in _BY_CLAUSE.items():
        said = [look(clause, other) for _, other in nearest]
        if kind == "negation" and any(_spread(clause, other, statement) for statement, other in nearest):
            continue
        if all(said):
            return Clash(kind, said[0], nearest[0][0])
    said = [_unconditional(claim, statement, other) for statement, other in nearest]
    return Clash("modality", said[0], nearest[0][0]) if all(said) else None


def _understood(statement: Statement) -> Iterator[tuple[Clause, frozenset[str]]]:
    """The clauses of a sentence with their words, and those of the clauses before it for a pronoun."""
    before = frozenset[str]()
    for clause in statement.clauses:
        again = not lexicon.PRONOUNS.isdisjoint(clause.words)
        yield clause, clause.content | before if again else clause.content
        before |= clause.content


def _reversed(words: frozenset[str]) -> frozenset[str]:
    return frozenset().union(*(lexicon.OPPOSITES[w] for w in words if w in lexicon.OPPOSITES))


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
    left, right = meaning(tuple(claim[:at])), meaning(tuple(claim[at + 1 :]))
    before, after = meaning(tuple(other[:there])), meaning(tuple(other[there + 1 :]))
    return bool((left - right) & (after - before)) and bool((right - left) & (before - after))


def _modality(claim: Clause, other: Clause) -> str:
    hedges = (other.all & lexicon.HEDGES) - claim.all
    if hedges and not claim.all & (lexicon.HEDGES | lexicon.CONDITIONS | lexicon.PERMITS):
        return f"is stated as a fact, but the passage has {min(hedges)!r}"
    if _MAY.search(other.text) and not claim.all & (lexicon.PERMITS | lexicon.HEDGES) and not claim.negations:
        return "is stated as a fact, but the passage has 'may'"
    if claim.all & lexicon.OBLIGES and other.all & lexicon.ADVISES and not other.all & lexicon.OBLIGES:
        same = (claim.negations + other.negations) % 2 == 0
        return "is an obligation that the passage does not state" if same else ""
    return ""


def _spread(claim: Clause, other: Clause, statement: Statement) -> bool:
    """Whether what ``other`` lacks of the claim is in another clause: "Bees see it, which people cannot"."""
    if not lexicon.PRONOUNS.isdisjoint(other.words):
        return False
    left = claim.content - other.content
    return not left.isdisjoint(statement.content - other.content)


def _unconditional(claim: Statement, statement: Statement, other: Clause) -> str:
    """A claim that states only what the passage has as a condition."""
    condition = other.all & lexicon.CONDITIONS
    if not condition or not lexicon.CONDITIONS.isdisjoint(claim.words):
        return ""
    if claim.content & (statement.content - other.content):
        return ""
    return f"is stated as a fact, but the passage has {min(condition)!r}"


def _quantity(claim: Clause, other: Clause) -> str:
    return _compare_amounts(_amounts(claim.words), _amounts(other.words))


def _compare_amounts(
    mine: Mapping[str, tuple[int, str]], theirs: Mapping[str, tuple[int, str]], *, same_noun: bool = False
) -> str:
    """Whether a claim speaks of more of the same noun than the passage, or of few instead of many."""
    for noun, (amount, word) in mine.items():
        found = theirs.get(noun)
        if found is None and not same_noun and len(mine) == len(theirs) == 1:
            found = next(iter(theirs.values()))
        if found is None:
            continue
        more = amount > found[0] and (amount >= 4 or amount - found[0] > 1)
        if more or (amount == 1 and found[0] >= 3):
            return f"speaks of {word!r}, the passage of {found[1]!r}"
    return ""


def _amounts(words: Sequence[str]) -> dict[str, tuple[int, str]]:
    """The quantifiers among the words, each by the noun after it; "two of the four" is one of them."""
    found: dict[str, tuple[int, str]] = {}
    for at, word in enumerate(words):
        counted = is_number(word) and words[at + 1 : at + 2] == ("of",)
        amount = 2 if counted else lexicon.AMOUNTS.get(word)
        if amount is None or words[max(0, at - 1) : at] == ("not",):
            continue
        noun = next((w for w in words[at + 1 : at + 5] if w in meaning((w,)) and not is_number(w)), "")
        found.setdefault(noun, (amount, word))
    return found


def _shared_noun(claim: Statement, near: Sequence[Statement]) -> Clash | None:
    """A quantifier of a noun that the passages have with a weaker one, in a sentence of the same words."""
    mine = {noun: held for noun, held in _amounts(claim.words).items() if noun}
    alike = [s for s in near if _share(claim.content - claim.names, s.content) >= 0.6] if mine else []
    for statement in alike:
        if why := _compare_amounts(mine, _amounts(statement.words), same_noun=True):
            return Clash("quantity", why, statement)
    return None


def _rank(claim: Statement, near: Sequence[Statement]) -> Clash | None:
    """A superlative that the passages have only with another place: "the largest", "the second largest"."""
    for place, word in _superlatives(claim.words):
        there = [(p, s) for s in near for p, w in _superlatives(s.words) if w == word]
        if there and all(other != place for other, _ in there):
            own, other = (" ".join(part for part in (p, word) if part != "1th") for p in (place, there[0][0]))
            return Clash("rank", f"has {own!r}, the passage {other!r}", there[0][1])
    return None


def _superlatives(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for before, word in pairwise(("", *words)):
        if word in lexicon.SUPERLATIVES:
            yield (before if is_number(before) else "1th"), word


def _bound(claim: Clause, other: Clause) -> str:
    mine, theirs = _limits(claim.words), _limits(other.words)
    for number in mine.keys() & theirs.keys():
        if mine[number].isdisjoint(theirs[number]):
            return f"turns the limit of {number} round"
    return ""


def _limits(words: Sequence[str]) -> dict[str, set[str]]:
    """For each number whether it is a lower or an upper limit."""
    found: dict[str, set[str]] = {}
    for at, word in enumerate(words):
        before = " ".join(words[max(0, at - 2) : at])
        if is_number(word) and before.endswith(lexicon.AT_LEAST):
            found.setdefault(word, set()).add("at least")
        elif is_number(word) and before.endswith(lexicon.AT_MOST):
            found.setdefault(word, set()).add("at most")
    return found


_BY_CLAUSE: dict[str, Callable[[Clause, Clause], str]] = {
    "negation": _negation,
    "opposite": _opposite,
    "modality": _modality,
    "quantity": _quantity,
    "limit": _bound,
}
