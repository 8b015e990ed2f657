"""Whether a text holds an item of a reference set, and in which way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import compress, zip_longest
from math import log2
from operator import not_
from typing import Any, Literal, NamedTuple

from gristmill.core.verdicts import Outcome
from gristmill.filters.contamination.reference import ReferenceItem, answer_hash, bare
from gristmill.filters.contamination.tokens import SIZE, TokenPiece
from gristmill.verifiers.math import verify

Way = Literal["verbatim", "embedded", "short", "renumbered", "reworded"]
SHORT = 13
"""An item of fewer words is looked for as a whole."""
_BACKGROUND = 1000
"""Rarity is counted as if there were at least so many items, so that few items make no word common."""
_ROOM = 1.5
"""The stretch of a text that is compared is at most so many times as long as the item, and six words."""


class TextWords(NamedTuple):
    """The words of one text, the n-grams at each place, and its answer, if it is known."""

    words: list[int]
    numbers: list[bool]
    grams: list[int]
    answer: str | None = None

    def part(self, start: int, end: int) -> TextWords:
        """The text between two of its words."""
        start = max(start, 0)
        return TextWords(self.words[start:end], self.numbers[start:end], self.grams[start:end], self.answer)


class Evidence(NamedTuple):
    """How much of an item a stretch of a text holds, each a share weighted by rarity in [0, 1]."""

    grams: float
    """Of the item's n-grams with any numbers."""
    words: float
    """Of the item's words."""
    all: float
    """Of the item's words and numbers together."""
    only: float
    """Of the words and numbers of the stretch, those that are the item's."""
    numbers: float
    """Of the item's numbers, each as often as it occurs; 1 where it has none."""
    figures: float
    """The numbers that both have, of those that either has; 1 where there is none."""
    bits: float
    """The rarity of all that is shared, in bits."""
    things: float
    """The part of that which is in words, not in numbers."""


class ItemWeights(NamedTuple):
    """The weights in bits of all n-grams, of all words and of all numbers of an item."""

    grams: float
    words: float
    numbers: float


class Index:
    """Items with the rarity of what they are made of."""

    def __init__(self, items: Sequence[ReferenceItem]) -> None:
        import numpy as np

        self.items = items
        self.total = max(len(items), _BACKGROUND)
        self.words = self._rarity(item.words for item in items)
        self.numbers = self._rarity(set(item.numbers) for item in items)
        self.grams = self._rarity(item.grams for item in items)
        for item in items:
            for word in item.function:
                self.words[word] = 0.5
        self.unknown = log2(self.total)
        # By the identity of an item, which is held here: to hash what it holds would take longer than to sum.
        whole = [self._weights(item) for item in items]
        self._whole = {id(item): own for item, own in zip(items, whole, strict=True)}
        self._total = np.array([own.words + own.numbers for own in whole])
        self._length = np.array([item.length for item in items])
        self._several = np.array([len(item.numbers) > 1 for item in items], bool)

    def _weights(self, item: ReferenceItem) -> ItemWeights:
        return ItemWeights(
            sum(self.grams[g] for g in item.grams),
            sum(self.words[w] for w in item.words),
            sum(self.numbers[n] for n in set(item.numbers)),
        )

    def _rarity(self, sets: Iterable[Iterable[int]]) -> dict[int, float]:
        df = Counter(value for one in sets for value in one)
        return {value: max(log2(self.total / n), 0.5) for value, n in df.items()}

    def evidence(self, text: TextWords, item: ReferenceItem) -> Evidence:
        """The most that a stretch of ``text`` holds of ``item``, one of ``items``."""
        whole = self._whole[id(item)]
        start, end = self._stretch(text, item)
        grams = set(text.grams[start : max(end - SIZE + 1, start)])
        stretch, is_number = text.words[start:end], text.numbers[start:end]
        numbers = Counter(compress(stretch, is_number))
        words = set(compress(stretch, map(not_, is_number)))
        shared = item.words & words
        known = sum(map(self.words.__getitem__, shared))
        said = sum(self.words.get(w, self.unknown) for w in words)
        own = Counter(item.numbers)
        same = own & numbers
        figures = sum(self.numbers[n] for n in same)
        things = known
        known, said = known + figures, said + sum(self.numbers.get(n, self.unknown) for n in numbers)
        total = whole.words + whole.numbers
        return Evidence(
            sum(map(self.grams.__getitem__, item.grams & grams)) / whole.grams if whole.grams else 0.0,
            things / whole.words if whole.words else 0.0,
            known / total if total else 0.0,
            known / said if said else 0.0,
            same.total() / own.total() if own else 1.0,
            self._figures(same, own | numbers),
            known,
            things,
        )

    def possible(self, item: Any, length: Any, answered: Any, numbers: Any, all: Any) -> Any:
        """Which texts can be rewordings of items: no stretch of a text holds more of an item than all of it.

        Each is an array: the positions of the items, the words of the texts, whether they have an answer, and
        the shares of the item's numbers and of all that it is made of that they have.
        """
        import numpy as np

        several, long = self._several[item], length > _LONG * self._length[item]

        def least(part: Callable[[LeastShared], float]) -> Any:
            reworded = np.where(answered, part(REWORDED[True]), part(REWORDED[None]))
            asked = np.where(several, reworded, part(WORDLESS))
            return np.maximum(asked, np.where(long, part(INSIDE), 0))

        enough = (all >= least(lambda one: one.both)) & (
            all * self._total[item] >= least(lambda one: one.bits)
        )
        return enough & (~several | (numbers >= np.where(answered, 0.3, 0.5)))

    def _figures(self, same: Counter[int], either: Counter[int]) -> float:
        total = sum(self.numbers.get(n, self.unknown) * count for n, count in either.items())
        return sum(self.numbers[n] * count for n, count in same.items()) / total if total else 1.0

    def _stretch(self, text: TextWords, item: ReferenceItem) -> tuple[int, int]:
        """Where in the text most of the item is, by the rarity of its words, numbers and n-grams."""
        most = int(_ROOM * item.length) + 6
        if len(text.words) <= most:
            return 0, len(text.words)
        # Attributes are looked up once, not for every word of every text: this takes the most time of all.
        numbers, words, grams = set(item.numbers), item.words, item.grams
        found: list[tuple[int, tuple[str, int], float]] = []
        for at, (word, number, gram) in enumerate(zip_longest(text.words, text.numbers, text.grams)):
            if number:
                if word in numbers:
                    found.append((at, ("n", word), self.numbers[word]))
            elif word in words:
                found.append((at, ("w", word), self.words[word]))
            if gram in grams:
                found.append((at, ("g", gram), self.grams[gram]))
        inside: Counter[tuple[str, int]] = Counter()
        score, best, left, at_best = 0.0, -1.0, 0, (0, most)
        for at, key, weight in found:
            inside[key] += 1
            score += weight if inside[key] == 1 else 0.0
            while at - found[left][0] >= most:
                _, old, less = found[left]
                inside[old] -= 1
                score -= less if not inside[old] else 0.0
                left += 1
            if score > best + 1e-9:
                best, at_best = score, (found[left][0], at + SIZE)
        return at_best[0], min(at_best[1], len(text.words))


def same_answer(item: ReferenceItem, answer: str | None) -> bool | None:
    """Whether an answer is the item's: written alike, or equal under the verifier ``math``.

    ``None`` where either has none, and where the item came as hashes and is not written alike.
    """
    if not item.answer or not answer or not (said := answer_hash(answer)):
        return None
    if said == item.answer:
        return True
    if not item.gold:
        return None
    verdict = verify(f"\\boxed{{{bare(answer)}}}", bare(item.gold))
    return verdict.outcome == Outcome.CORRECT if verdict.decided else None


class LeastShared(NamedTuple):
    """What makes a rewording: least values of ``figures``, of ``bits``, and of ``all`` times ``only``."""

    figures: float
    bits: float
    both: float

    def met(self, found: Evidence) -> bool:
        """Whether the evidence is enough."""
        return (
            found.figures >= self.figures and found.bits >= self.bits and found.all * found.only >= self.both
        )


REWORDED = {
    True: LeastShared(0.4, 15, 0.1),
    None: LeastShared(0.7, 20, 0.13),
    False: LeastShared(0.8, 25, 0.35),
}
"""By whether the answer is the item's: a rewording keeps numbers and answer, and names most of the things."""
INSIDE = LeastShared(0.7, 28, 0.25)
"""Besides, in a text of more than ``_LONG`` times the item's words, where something like it is soon found."""
WORDLESS = LeastShared(1.0, 35, 0.4)
"""Of an item with fewer than two numbers, where these can say nothing."""
GRAMS = 0.6
"""The share of an item's n-grams from which its text is there."""
NUMBERS = 0.75
"""The share of its numbers below which they are other numbers."""
BITS = 18.0
"""What is shared must be this rare: many texts hold "What is the value of x?"."""
_LONG = 2.5


def way(found: Evidence, item: ReferenceItem, text: TextWords) -> Way | None:
    """How a text holds the item by this evidence; ``None`` where it does not."""
    length, short = len(text.words), item.length < SHORT
    whole = found.grams >= 0.99 and found.figures >= 0.99 and length <= item.length + 4
    if whole or (found.grams >= (0.99 if short else GRAMS) and found.bits >= BITS):
        if found.numbers < (1.0 if short else NUMBERS):
            fits = length <= _ROOM * item.length + 6 or not short
            return "renumbered" if fits and found.things >= BITS else None
        if short:
            return "short"
        return "verbatim" if length <= 1.25 * item.length + 3 else "embedded"
    bounds = [WORDLESS] if len(item.numbers) < 2 else [REWORDED[True]]
    if length > _LONG * item.length:
        bounds.append(INSIDE)
    if not all(bound.met(found) for bound in bounds):
        return None
    sure = len(item.numbers) < 2 or REWORDED[same_answer(item, text.answer)].met(found)
    return "reworded" if sure else None


def text_of(piece: TokenPiece, at: int, answer: str | None) -> TextWords:
    """One text of a piece."""
    own = piece.span(at)
    words, numbers, grams = piece.word[own], piece.number[own], piece.grams[piece.gram_span(at)]
    return TextWords(words.tolist(), numbers.tolist(), grams.tolist(), answer)
