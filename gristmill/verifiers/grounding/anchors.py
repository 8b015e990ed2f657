"""Which number or name belongs to what in the passages, and which numbers can be worked out from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gristmill.verifiers.grounding import lexicon
from gristmill.verifiers.grounding.clauses import Anchor, Clash, Fragment, Statement, is_number, is_year


def misplaced_number(claim: Statement, near: Sequence[Statement]) -> Clash | None:
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
    there = [(int(n), nouns) for s in statements for n, nouns in _counted(s) if n.isdecimal()]
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
        if not number.isdecimal():  # "the first year" has an ordinal number, which is no sum of others
            continue
        whole = int(number)
        if "year" in nouns and any(abs(one - two) == whole for one in years for two in years):
            found.add(number)
        alike = {n for n, others in there if not others or set(nouns) & set(others)}
        if any({abs(whole - n), whole + n} & (alike - {n}) for n in alike):
            found.add(number)
    return found


def misplaced_anchor(claim: Statement, near: Sequence[Statement]) -> Clash | None:
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
