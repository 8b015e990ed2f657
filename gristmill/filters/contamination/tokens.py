"""Texts as words in one notation: LaTeX, Unicode and plain writing of the same formula give the same words.

Only what carries content is left: words without their endings, variables and numbers. Signs, brackets and
units of money go: "\\\\frac{1}{2}" and "1/2" are both 1 and 2; "x²", "x^2" and "x squared" are x and 2.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from gristmill.filters.words import LETTERS, WordColumns, digest, grams, words

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

PATTERN = rf"\\[a-z]+|\d+(?:,\d\d\d)+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+|{LETTERS}|[¹²³½¼¾√∞°]"
SIZE = 3
"""Words of an n-gram."""
MASK = "#"
"""What stands for any number in n-grams."""

_SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen twenty"""
_TENS = "ten twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBERS = {word: str(value) for value, word in enumerate(_SMALL.split())}
_NUMBERS |= {word: str(10 * value) for value, word in enumerate(_TENS.split(), 1)}
_NUMBERS |= {"twice": "2", "double": "2", "thrice": "3", "triple": "3", "dozen": "12", "hundred": "100"}
_NUMBERS |= {"squared": "2", "cubed": "3", "¹": "1", "²": "2", "³": "3", "pair": "2", "couple": "2"}
_SAME = {"√": "sqrt", "∞": "infty", "infinity": "infty", "°": "circ", "degree": "circ", "degrees": "circ"}
_SAME |= {"every": "each", "per": "each", "daily": "day", "weekly": "week", "monthly": "month"}
_SAME |= {"hourly": "hour", "yearly": "year", "altogether": "total", "overall": "total", "½": "half"}
_SIGNS = """a
an the s dollar dollars percent cent cents frac dfrac tfrac left right cdot times div text mathrm
mathbf textbf textit mbox displaystyle quad qquad big bigl bigr bigg ldots dots cdots le leq ge geq
lt gt begin end array align aligned equals equal plus minus multiplied divided hspace vspace
operatorname mathbb mathcal overline hline label"""
_DROPPED = frozenset(_SIGNS.split())
_FUNCTION = """about
 above after all also am and any are as ask at be because been before being below between both
but by can could did do does doing down during each few find first for from further give given had
has have having he her here hers him his how i if in into is it its itself just let long many me
more most much my need no not now of off on only or other our out over own same she should so some
such than that their them then there these they this those through to total under until up us use
value want was we were what when where which while who why will with would you your determine
compute evaluate solve simplify calculate express answer number work out get make take amount follow
problem question suppose"""
FUNCTION_WORDS = frozenset(_FUNCTION.split())
"""Words that tell next to nothing of what a text is about, whatever the reference."""


def plain(word: str) -> tuple[str, bool]:
    """A word in the one notation, and whether it is a number; empty for a word that is left out."""
    word = word.removeprefix("\\")
    if not word or word in _DROPPED:
        return "", False
    if word in _NUMBERS:
        return _NUMBERS[word], True
    if word[0].isdigit() or (word[0] == "." and len(word) > 1):
        word = word.replace(",", "")
        whole, _, part = word.partition(".")
        part = part.rstrip("0")
        whole = whole.lstrip("0") or "0"
        return (f"{whole}.{part}" if part else whole), True
    return stem(_SAME.get(word, word)), False


def stem(word: str) -> str:
    """A word without the endings of plurals and tenses; the same rule for both sides is all that it needs."""
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        word = word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-1]
    if len(word) > 4:
        word = re.sub(r"(?:ing|ed|er|ly|e)$", "", word) if len(word) > 5 else re.sub(r"(?:ed|e)$", "", word)
        if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls":
            word = word[:-1]
    return word


FUNCTION_STEMS = frozenset(plain(word)[0] for word in FUNCTION_WORDS)
_MASK_CODE = int.from_bytes(digest(MASK)[:4], "little")
_NUMBER, _TELLS_NOTHING, _KEPT = 1 << 32, 1 << 33, 1 << 34


@lru_cache(maxsize=1 << 16)
def _coded(word: str) -> int:
    """The 32-bit hash of a word in the one notation, and above it the bits for what it is; 0 if left out."""
    said, number = plain(word)
    if not said:
        return 0
    code = int.from_bytes(digest(MASK + said if number else said)[:4], "little")
    function = said in FUNCTION_STEMS and not number
    return code | _KEPT | _NUMBER * number | _TELLS_NOTHING * function


class TokenPiece(NamedTuple):
    """The words of some texts in order: of each the text it is in, its 32-bit hash, whether it is a number,
    and whether it is a word that tells nothing. Those of text ``i`` are ``cuts[i]:cuts[i + 1]``.

    ``grams`` are the hashes of the runs of ``SIZE`` words with any number for any other; those of text ``i``
    are ``gram_cuts[i]:gram_cuts[i + 1]``, and run ``k`` of it begins at its word ``k``.
    """

    texts: pl.Series
    text: NDArray[np.int64]
    word: NDArray[np.uint32]
    number: NDArray[np.bool_]
    function: NDArray[np.bool_]
    cuts: NDArray[np.int64]
    gram_text: NDArray[np.int64]
    grams: NDArray[np.uint32]
    gram_cuts: NDArray[np.int64]

    def span(self, text: int) -> slice:
        """Where the words of a text are."""
        return slice(int(self.cuts[text]), int(self.cuts[text + 1]))

    def gram_span(self, text: int) -> slice:
        """Where the n-grams of a text are."""
        return slice(int(self.gram_cuts[text]), int(self.gram_cuts[text + 1]))


def pieces(texts: pl.Series) -> Iterator[TokenPiece]:
    """The words of many texts in the one notation, some thousand texts at a time."""
    for own, found in words(texts, PATTERN):
        yield _piece(own, found)


def _piece(own: pl.Series, found: WordColumns) -> TokenPiece:
    import numpy as np

    known = np.fromiter(map(_coded, found.vocabulary), np.int64, len(found.vocabulary))
    coded = known[found.word]
    kept = np.flatnonzero(coded)
    text, coded = found.text[kept], coded[kept]
    word, number = coded.astype(np.uint32), (coded & _NUMBER) != 0
    masked = np.where(number, np.uint32(_MASK_CODE), word)
    runs, first = grams(masked.astype(np.uint64), text, SIZE)
    places = np.arange(len(own) + 1)
    inside = text[first]
    cuts = np.searchsorted(text, places)
    gram_cuts = np.searchsorted(inside, places)
    run = (runs >> np.uint64(32)).astype(np.uint32)
    return TokenPiece(own, text, word, number, (coded & _TELLS_NOTHING) != 0, cuts, inside, run, gram_cuts)
