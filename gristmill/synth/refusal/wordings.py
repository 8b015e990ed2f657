"""One thing in several wordings: answers that name the same, and questions that differ by one slip."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from gristmill.verifiers.rules.short_answer import tokens

_OTHER = frozenset(
    (
        *("not", "no", "never", "non", "anti", "un", "former", "ex", "new", "old", "or", "and", "nor", "but"),
        *("north", "south", "east", "west", "northern", "southern", "eastern", "western", "upper", "lower"),
        *("great", "greater", "lesser", "half", "quarter", "pre", "post", "junior", "jr", "senior", "sr"),
        *("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "except"),
    )
)
"""Words that make another thing of a name, or two things: New Zealand is not Zealand."""
_ASKING = r"what|who|where|when|why|how"
_CONTRACTIONS = tuple(
    (re.compile(pattern, re.IGNORECASE), long)
    for pattern, long in (
        (rf"\b({_ASKING}|that|there|here|it|he|she)['’]s\b", r"\1 is"),
        (rf"\b({_ASKING}|they|we|you)['’]re\b", r"\1 are"),
        (r"\bcan['’]t\b", "cannot"),
        (r"\bwon['’]t\b", "will not"),
        (r"(?<=[a-z])n['’]t\b", " not"),
        (rf"\b({_ASKING})s\b(?= (?:a|an|the|this|that|your|his|her)\b)", r"\1 is"),
    )
)
_LONG = 6
"""A word of so many letters may be misspelt by one; shorter ones (Iran and Iraq) are words of their own."""


def wordings(answers: Sequence[str]) -> list[list[int]]:
    """Answers to one question in classes of one meaning, by their places: same words and numbers, or one
    answer's words within the other's ("Milky Way", "Milky Way Galaxy").

    An answer joins a longer one only where it lies within a single chain of longer ones: "Korea" is neither
    of "North Korea" and "South Korea". Words beside it that are numbers, or make another thing of a name
    (``New``, ``not``), keep two answers apart, and so does an answer that is a number itself.
    """
    words = [tuple(tokens(answer)) for answer in answers]
    longest = {one: _chain_end(one, set(words)) for one in words}
    classes: dict[tuple[str, ...], list[int]] = {}
    for place, one in enumerate(words):
        classes.setdefault(longest[one], []).append(place)
    return list(classes.values())


def _chain_end(one: tuple[str, ...], every: set[tuple[str, ...]]) -> tuple[str, ...]:
    """The longest wording of ``one`` among ``every``; itself where longer ones contradict each other."""
    longer = sorted((other for other in every if _within(one, other)), key=len)
    chained = all(_within(a, b) for a, b in pairwise(longer))
    return longer[-1] if longer and chained else one


def _within(short: tuple[str, ...], long: tuple[str, ...]) -> bool:
    """Whether ``long`` is ``short`` with further words before or behind it that change nothing."""
    size, spare = len(short), len(long) - len(short)
    if spare <= 0 or all(_numeric(word) for word in short):
        return False
    for start in range(spare + 1):
        if long[start : start + size] == short:
            beside = long[:start] + long[start + size :]
            return not any(word in _OTHER or _numeric(word) for word in beside)
    return False


def _numeric(word: str) -> bool:
    return any(character.isdigit() for character in word)


def written_out(question: str) -> str:
    """A question without contractions: "What's" is "What is"."""
    for pattern, long in _CONTRACTIONS:
        question = pattern.sub(long, question)
    return question


def slips(questions: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs of questions (by place) that differ in one long word, and there by one slip: a letter too many,
    too few, another one, or two neighbours exchanged.

    Linear in the text: two words one slip apart are equal with some letter of either taken out, and questions
    are found by the key of what is left. Each question is paired with the first of its key.
    """
    first: dict[int, int] = {}
    for place, question in enumerate(questions):
        words = tokens(question)
        for at, word in enumerate(words):
            if len(word) < _LONG or not word.isalpha():
                continue
            rest = (tuple(words[:at]), tuple(words[at + 1 :]))
            for spelling in {word, *(word[:i] + word[i + 1 :] for i in range(len(word)))}:
                found = first.setdefault(hash((rest, spelling)), place)
                if found != place:
                    yield found, place
