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
from typing import NamedTuple

from gristmill.verifiers.grounding import lexicon
from gristmill.verifiers.grounding.clauses import (
    Anchor,
    Clause,
    Fragment,
    Statement,
    is_number,
    is_year,
    meaning,
)
from gristmill.verifiers.grounding.frames import swapped_roles
from gristmill.verifiers.grounding.order import swapped_order

NEAR = 0.75
"""The least share of a claim's words that a passage's clause must have for the two to be compared."""

_MOST = 40
"""How many sentences of the passages a claim is compared with: those with most of its words."""
_MAY = re.compile(r"\bmay\b")  # the month has a capital


class Clash(NamedTuple):
    """What kind of clash, how the claim differs, and the passage's sentence that says otherwise."""

    kind: str
    why: str
    statement: Statement


def find_clash(claim: Statement, statements: Sequence[Statement]) -> Clash | None:
    """The first clash of ``claim`` with ``statements``, or ``None``.

    A clash with one sentence counts only if no other sentence that is as near says the same without one.
    """
    # A row of a table is no sentence: its words do not show what belongs to what.
    near = [s for s in statements if len(s.content & claim.content) >= 2 and "|" not in s.text]
    near = nlargest(_MOST, near, key=lambda s: _share(claim.content, s.content))
    for find in (_misplaced_number, _misplaced_anchor, _shared_noun, _rank):
        if clash := find(claim, near):
            return clash
    if near:
        best = _share(claim.content, near[0].content)
        as_near = [s for s in near if _share(claim.content, s.content) >= max(NEAR - 0.15, best - 0.1)]
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
        if len(known) > 1:
            rated += [
                (_share(known, said | _reversed(said)), statement, c)
                for c, said in _understood(statement)
                if not known.isdisjoint(c.content)
            ]
    best = max((score for score, _, _ in rated), default=0.0)
    if best < NEAR:
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
            return Clash("rank", f"has {place} {word!r}, the passage {there[0][0]}".strip(), there[0][1])
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


def _misplaced_number(claim: Statement, near: Sequence[Statement]) -> Clash | None:
    """A number of the passages, with a noun that they give another number."""
    stated = list(_counted(claim))
    mine = {number for number, _ in stated}
    for number, nouns in stated:
        if not nouns:
            continue
        there = [others for s in near for n, others in _counted(s) if n == number]
        meant = set(nouns[:1] if nouns[0] in lexicon.UNITS else nouns)
        if not there or any(not others or meant & set(others) for others in there):
            continue
        unit = lexicon.UNITS.get(nouns[0])
        if unit is not None and all(lexicon.UNITS.get(others[0]) == unit for others in there):
            [statement, *_] = [s for s in near if any(n == number for n, _ in _counted(s))]
            if len(claim.content & statement.content) >= 3:
                return Clash(
                    "number", f"has {number} with {nouns[0]!r}, the passage with {there[0][0]!r}", statement
                )
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
    for fragment in statement.fragments:
        for at, word in enumerate(fragment.words):
            if not is_number(word) or is_year(word):
                continue
            nouns = []
            for after in fragment.words[at + 1 : at + 5]:
                if after in fragment.content and not is_number(after):
                    nouns.append(after)
                elif after != "of":
                    break
            yield word, tuple(nouns[:2])


def worked_out(claim: Statement, statements: Sequence[Statement]) -> frozenset[str]:
    """The whole numbers of ``claim`` that are sums or differences of two in one passage, of the same thing:
    "two years later", "nine members, four of them". They are neither there nor missing."""
    passages = {s.passage for s in statements}
    return frozenset().union(*(_sums(claim, [s for s in statements if s.passage == p]) for p in passages))


def _sums(claim: Statement, statements: Sequence[Statement]) -> set[str]:
    there = [(int(n), nouns) for s in statements for n, nouns in _counted(s) if n.isdigit()]
    years = {int(w) for s in statements for w in s.words if is_year(w)}
    spans = {n for n, nouns in there if "year" in nouns}
    found = {w for w in claim.words if is_year(w) and any(abs(int(w) - y) in spans for y in years)}
    # "One in ten" is a share, which the passages may have as a percentage.
    found |= {
        c
        for a, b, c in zip(claim.words, claim.words[1:], claim.words[2:], strict=False)
        if (a, b) == ("1", "in")
    }
    for number, nouns in _counted(claim):
        if "year" in nouns and any(abs(one - two) == int(number) for one in years for two in years):
            found.add(number)
        alike = {n for n, others in there if not others or set(nouns) & set(others)}
        if number.isdigit() and any({abs(int(number) - n), int(number) + n} & (alike - {n}) for n in alike):
            found.add(number)
    return found


def _misplaced_anchor(claim: Statement, near: Sequence[Statement]) -> Clash | None:
    """A name or number, said of what the passages say of another one."""
    fragments = [(s, fragment) for s in near for fragment in s.fragments]
    for mine in claim.fragments:
        inside = {anchor.words for anchor in mine.anchors}
        for anchor in mine.anchors:
            whole = mine.content.difference(anchor.words)
            home = [whole & fragment.content for _, fragment in fragments if _has(fragment, anchor)]
            for statement, fragment in fragments:
                if fragment.negated != mine.negated or not _belongs(whole, home, claim, statement, fragment):
                    continue
                if rival := _rival(anchor, fragment, inside):
                    kind = "number" if anchor.kind in ("year", "nth") else anchor.kind
                    why = f"has {' '.join(anchor.words)!r} where the passage has {' '.join(rival.words)!r}"
                    return Clash(kind, why, statement)
    return None


def _belongs(
    whole: frozenset[str],
    home: Sequence[frozenset[str]],
    claim: Statement,
    statement: Statement,
    fragment: Fragment,
) -> bool:
    """Whether the words beside an anchor, ``whole``, are those of ``fragment``, and not of the fragments that
    have the anchor, which share ``home`` of them."""
    # What the sentence says of all its fragments, and a name that it may have as a pronoun, tell nothing.
    beside = statement.content - fragment.content - frozenset[str]().union(*home)
    rest = whole - (claim.names - statement.content) - beside
    # What the claim shares with the anchor's own place alone shows that it means that place.
    if any(words - fragment.content for words in home):
        return False
    common, at_home = rest & fragment.content, max((len(words & rest) for words in home), default=0)
    if common == rest:
        return len(rest) >= 2 and len(rest) > at_home
    return len(common) >= max(2, 0.5 * len(rest), at_home + (2 if at_home else 1))


def _has(fragment: Fragment, anchor: Anchor) -> bool:
    return fragment.content.issuperset(anchor.words)


def _rival(anchor: Anchor, fragment: Fragment, inside: set[tuple[str, ...]]) -> Anchor | None:
    """The anchor of ``fragment`` that has the place of ``anchor``, which is not in it."""
    if not fragment.content.isdisjoint(anchor.words):
        return None
    taken = frozenset[str]().union(*inside)
    for other in fragment.anchors:
        if other.kind == anchor.kind and other.slot == anchor.slot and taken.isdisjoint(other.words):
            return other
    return None
