"""The words of many texts at once, as numbers: what finding duplicates and contamination both begin with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}"
"""Scripts without spaces between words: each of their characters is a word."""
LETTERS = rf"[{UNSPACED}]|[\p{{L}}\p{{M}}--[{UNSPACED}]]+"
"""The pattern of a word of letters."""
CHUNK = 5_000
"""Texts of a piece, at most."""
BYTES = 1_000_000
"""Bytes of its texts, at most; one text may have more."""


class WordColumns(NamedTuple):
    """The words of some texts, in order: ``text`` and ``word`` are as long as there are words."""

    text: NDArray[np.int64]
    """Of each word the position of its text among those given, ascending."""
    word: NDArray[np.uint32]
    """Its place in ``vocabulary``."""
    vocabulary: list[str]


def series(texts: Sequence[str]) -> pl.Series:
    """Texts as a Polars column; a lone surrogate, which UTF-8 cannot hold, becomes "?"."""
    import polars as pl

    try:
        return pl.Series("text", texts, dtype=pl.String)
    except UnicodeEncodeError:
        whole = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        return pl.Series("text", whole, dtype=pl.String)


def lowered(texts: pl.Series) -> pl.Series:
    """The texts in lower case and NFC, which only what is not ASCII takes time for."""
    import numpy as np

    other = np.flatnonzero((texts.str.len_bytes() != texts.str.len_chars()).fill_null(False).to_numpy())
    if len(other):
        texts = texts.clone().scatter(other, texts.gather(other).str.normalize("NFC"))
    return texts.str.to_lowercase()


def pieces(texts: pl.Series) -> Iterator[pl.Series]:
    """The texts in order, so many at a time that what is made of them stays small."""
    import numpy as np

    ends = np.cumsum(texts.str.len_bytes().fill_null(0).to_numpy(), dtype=np.int64)
    start = 0
    while start < len(texts):
        before = int(ends[start - 1]) if start else 0
        end = int(np.searchsorted(ends, before + BYTES, side="right"))
        end = min(max(end, start + 1), start + CHUNK)
        yield texts.slice(start, end - start)
        start = end


def words(texts: pl.Series, pattern: str) -> Iterator[tuple[pl.Series, WordColumns]]:
    """What ``pattern`` finds in the lower-case texts (NFC), piece by piece.

    Each comes with its texts as they were; positions count from the first of them. None may be null.
    """
    import numpy as np
    import polars as pl

    for own in pieces(texts):
        found = lowered(own).str.extract_all(pattern)
        sizes = found.list.len().to_numpy()
        said = found.explode().drop_nulls()
        vocabulary = said.unique().sort()
        codes = said.cast(pl.Enum(vocabulary)).to_physical().to_numpy()
        text = np.repeat(np.arange(len(sizes)), sizes)
        yield own, WordColumns(text, codes.astype(np.uint32), vocabulary.to_list())


@lru_cache(maxsize=1 << 16)
def digest(word: str) -> bytes:
    """Eight bytes that stand for a word, the same on every machine; those of the latest words are kept."""
    return hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def hashes(texts: Iterable[str]) -> NDArray[np.uint64]:
    """A 64-bit hash of each text, the same on every machine."""
    import numpy as np

    return np.frombuffer(b"".join(map(digest, texts)), dtype="<u8").astype(np.uint64)


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each value mixed thoroughly (the finaliser of SplitMix64, Steele et al. 2014), as sums of them need."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def ascending(values: Any) -> Any:
    """Each of the values once, in order; several times as fast as ``numpy.unique``, which hashes them."""
    import numpy as np

    values = np.sort(values)
    return values[np.concatenate([[True], values[1:] != values[:-1]])] if len(values) else values


def spread(starts: Any, sizes: Any) -> Any:
    """The numbers ``starts[0], starts[0] + 1, ...`` (``sizes[0]`` of them), then those from the next."""
    import numpy as np

    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - (ends - sizes), sizes) + np.arange(total)


def grams(words: NDArray[np.uint64], texts: NDArray[np.int64], size: int) -> tuple[Any, Any]:
    """Runs of ``size`` words inside of one text: their hashes, and the place of the first word of each."""
    import numpy as np

    last = len(words) - size + 1
    if last <= 0:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    made = np.zeros(last, np.uint64)
    for step in range(size):
        made = mixed(made + words[step : step + last])
    inside = np.flatnonzero(texts[:last] == texts[size - 1 :])
    return made[inside], inside
