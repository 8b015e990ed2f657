"""Near-duplicate texts: MinHash with banding finds candidates, exact similarity decides, in linear time.

MinHash: Broder 1997, "On the resemblance and containment of documents"; banding: Leskovec, Rajaraman and
Ullman, "Mining of Massive Datasets", section 3.4.

datasketch would replace the hashes and the buckets only: the weights by rarity, the exact comparison and the
bound on full buckets would remain, and it would bring numpy and scipy.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from gristmill.verifiers.rules.short_answer import tokens

if TYPE_CHECKING:
    import polars as pl

HASHES = 96
"""Hashes a text; their bands are as wide as the threshold allows."""
RECALL = 0.99
"""A pair at the threshold is a candidate with at least this probability (one further above, with more)."""
_COMPARED = 32
"""A text is compared with so many groups of its bucket, so that a full bucket costs linear time."""
_CHUNK = 20_000
"""Texts whose hashes are in memory at a time."""
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


def near_duplicates(texts: Sequence[str], threshold: float = 0.75, *, shingle: int = 1) -> list[int]:
    """For each text the index of the first in its group: groups of texts linked by near-duplicate pairs.

    Texts are compared as sets of shingles of ``shingle`` words (``answers.tokens``: case, articles and
    punctuation do not count); texts with no longer run of words are one shingle. Similarity is Jaccard's,
    with each shingle weighing as many bits as its rarity in ``texts`` tells (1 where most have it): two
    questions of one template about two people share only light words, two about one person the heavy one.
    So what is similar depends on the whole of ``texts``; among few texts an idle word is as rare as a name.

    Pairs of at least ``threshold``, in (0, 1], are linked. Equal texts always are; of the others a pair is
    missed with at most 1 % chance, as it would be on every run: no hash is drawn by a run's seed. A
    group may hold two texts that are less alike, linked through a third. ``ValueError`` for a threshold
    outside (0, 1] or a shingle below 1.
    """
    if not 0 < threshold <= 1 or shingle < 1:
        raise ValueError(f"threshold {threshold} must be in (0, 1] and shingle {shingle} at least 1")
    firsts: dict[frozenset[str], int] = {}
    same = [firsts.setdefault(_shingles(text, shingle), i) for i, text in enumerate(texts)]
    sets = list(firsts)
    spread = Counter(word for words in sets for word in words)
    # The length in bits of n / df is 1 for the most frequent and 1 + log2(n) for what stands once.
    weights = {word: (len(sets) // df).bit_length() for word, df in spread.items()}
    # Only equal sets have a similarity of 1.
    group = _linked(sets, weights, threshold) if threshold < 1 else range(len(sets))
    first = list(firsts.values())
    ends = {at: first[group[i]] for i, at in enumerate(first)}
    return [ends[at] for at in same]


def similarity(a: frozenset[str], b: frozenset[str], weights: dict[str, int]) -> float:
    """The weighted Jaccard similarity of two sets: common weight by all weight; 1 for two empty ones."""
    common = sum(weights[word] for word in a & b)
    union = sum(weights[word] for word in a) + sum(weights[word] for word in b) - common
    return common / union if union else 1.0


class Bands(NamedTuple):
    """``number`` bands of ``width`` hashes: equal in all hashes of one band makes a pair a candidate."""

    number: int
    width: int

    def recall(self, similarity: float) -> float:
        """The probability that a pair of that similarity is a candidate."""
        return 1 - (1 - similarity**self.width) ** self.number


def bands(threshold: float) -> Bands:
    """The widest bands of at most ``HASHES`` hashes that find a pair at the threshold by ``RECALL``."""
    fitting = (Bands(HASHES // width, width) for width in range(HASHES, 0, -1))
    return next((b for b in fitting if b.recall(threshold) >= RECALL), Bands(HASHES, 1))


def _shingles(text: str, size: int) -> frozenset[str]:
    words = tokens(text)
    if len(words) <= size:
        return frozenset((" ".join(words),))
    return frozenset(" ".join(words[i : i + size]) for i in range(len(words) - size + 1))


def _linked(sets: Sequence[frozenset[str]], weights: dict[str, int], threshold: float) -> list[int]:
    """For each set the first of its group. The first is always the root, so order of discovery has no say."""
    root = list(range(len(sets)))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for bucket in _buckets(sets, weights, bands(threshold)):
        groups: dict[int, int] = {}  # the root of each group of the bucket, and its member to compare with
        for i in bucket:
            if find(i) in {find(g) for g in groups}:
                continue
            for member in groups.values():
                if similarity(sets[i], sets[member], weights) >= threshold:
                    low, high = sorted((find(i), find(member)))
                    root[high] = low
                    break
            if len(groups) < _COMPARED:
                groups.setdefault(find(i), i)
    return [find(i) for i in range(len(sets))]


def _buckets(sets: Sequence[frozenset[str]], weights: dict[str, int], banding: Bands) -> Iterator[list[int]]:
    """Sets that agree in all hashes of a band, at least two at a time, each in order; band after band."""
    import polars as pl

    if not sets:
        return
    numbers = {word: n for n, word in enumerate(weights)}
    copies = _copies(weights)
    keys = pl.concat([_keys(piece, numbers, copies, banding) for piece in _pieces(sets)])
    for band in range(banding.number):
        shared = keys.group_by(f"band{band}", maintain_order=True).agg("text")
        yield from shared.filter(pl.col("text").list.len() > 1)["text"].to_list()


def _pieces(sets: Sequence[frozenset[str]]) -> Iterator[tuple[int, Sequence[frozenset[str]]]]:
    cuts = [*range(0, len(sets), _CHUNK), len(sets)]
    yield from ((start, sets[start:end]) for start, end in pairwise(cuts))


def _copies(weights: dict[str, int]) -> pl.DataFrame:
    """A hash for every unit of every word's weight: plain MinHash over the units is MinHash by weight."""
    import polars as pl

    digests = (hashlib.blake2b(w.encode("utf-8", "surrogatepass"), digest_size=8).digest() for w in weights)
    frame = pl.DataFrame(
        {
            "word": pl.Series(range(len(weights)), dtype=pl.UInt32),
            "unit": [list(range(weight)) for weight in weights.values()],
            "base": pl.Series([int.from_bytes(d, "big") for d in digests], dtype=pl.UInt64),
        }
    ).explode("unit")
    unit = pl.col("unit").cast(pl.UInt64) * _whole(_GOLDEN)
    return frame.select("word", hash=pl.col("base") + unit)


def _keys(
    piece: tuple[int, Sequence[frozenset[str]]], numbers: dict[str, int], copies: pl.DataFrame, banding: Bands
) -> pl.DataFrame:
    """Of each set its number and, for each band, one key made of the band's least hashes."""
    import polars as pl

    start, sets = piece
    frame = pl.DataFrame(
        {
            "text": pl.Series([start + i for i, s in enumerate(sets) for _ in s], dtype=pl.UInt32),
            "word": pl.Series([numbers[word] for s in sets for word in s], dtype=pl.UInt32),
        }
    )
    # Each word's least hash comes first: it is the same for all texts, of which most share their words.
    found = []
    for band in range(banding.number):
        names = [f"least{i}" for i in range(banding.width)]
        least = [_hash(band * banding.width + i).min().alias(name) for i, name in enumerate(names)]
        words = copies.group_by("word").agg(least)
        texts = frame.join(words, on="word").group_by("text").agg(pl.col(names).min()).sort("text")
        # Two keys may be equal by chance; their texts are compared all the same.
        mixed = pl.sum_horizontal(pl.col(n) * _whole((2 * i + 1) * _GOLDEN) for i, n in enumerate(names))
        found.append(texts.select(mixed.alias(f"band{band}")))
    return pl.concat([texts.select("text"), *found], how="horizontal")


def _hash(index: int) -> pl.Expr:
    """A unit's hash under permutation ``index`` of the 64-bit numbers: times an odd number, wrapping."""
    import polars as pl

    digest = hashlib.blake2b(f"minhash {index}".encode(), digest_size=16).digest()
    mask, factor = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")
    return (pl.col("hash") ^ _whole(mask)) * _whole(factor | 1)


def _whole(number: int) -> pl.Expr:
    import polars as pl

    return pl.lit(number & _MASK, dtype=pl.UInt64)
