"""How sure a model is: by its answer's tokens, and by the word "sure" against "unsure"."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from gristmill.core.engine import (
    Ability,
    Engine,
    Message,
    Request,
    Sampling,
    TokenLogprob,
    score_request,
)
from gristmill.core.errors import RecipeError
from gristmill.synth.refusal.measures import geometric_mean

Read = Literal["auto", "tokens", "score"]

_ALTERNATIVES = 20
FOLLOWED = 8
"""Beginnings of a word that are followed up, at most."""
_FLOOR = 0.01
"""A beginning under this share of the likeliest token that is a word, or begins one, is not followed up."""
_UNREADABLE = "\ufffd"
"""How a token that is part of a character is shown."""


def confidence(tokens: Sequence[TokenLogprob], text: str) -> float | None:
    """The geometric mean of the probabilities of an answer's tokens before its first "." token.

    R-Tuning's prediction confidence (arXiv 2311.09677, section 4): ``tokens`` are a greedy answer's, so
    that their probabilities are the greatest. Tokens behind the end of ``text`` (an end of turn, a stop
    string) do not count. 0 where no token is left: an empty answer, or one that begins with ".". ``None``
    where there are no tokens for a text that is not empty: the server gave no log-probabilities.
    """
    if not tokens and text.strip():
        return None
    kept: list[float] = []
    spelled, length = 0, len(text.strip())
    for token in tokens:
        if token.token.strip() == "." or spelled >= length:
            break
        kept.append(token.logprob)
        # The blank that begins an answer is not part of the text. Parts of a character are shown as a sign
        # each; counting none of them never ends too early.
        part = token.token if spelled else token.token.lstrip()
        spelled += 0 if _UNREADABLE in part else len(part)
    return geometric_mean(kept) or 0.0


class Words(NamedTuple):
    """Two statements taken apart: what both begin with, and the words in which they differ."""

    lead: str
    sure: str
    unsure: str


def words_of(sure: str, unsure: str) -> Words:
    """``"I am sure."`` and ``"I am unsure."`` as ``("I am", " sure", " unsure")``.

    ``RecipeError`` where one of what is left begins with the other: their tokens could not be told apart.
    """
    ours, theirs = sure.split(), unsure.split()
    shared = 0
    while shared < min(len(ours), len(theirs)) and ours[shared] == theirs[shared]:
        shared += 1
    lead = " ".join(ours[:shared])
    blank = " " if lead else ""
    first, second = (blank + " ".join(w[shared:]).rstrip(" .!") for w in (ours, theirs))
    a, b = first.strip().casefold(), second.strip().casefold()
    if not a or not b or a.startswith(b) or b.startswith(a):
        raise RecipeError(
            f"the statements {sure!r} and {unsure!r} cannot be told apart by how they go on.",
            remedy="Choose two of which neither begins with the other, such as 'I am sure.' and "
            "'I am unsure.'.",
        )
    return Words(lead, first, second)


class Sureness(NamedTuple):
    """The probability of "sure" against "unsure" (``None`` where neither was seen), and what both have of
    all probability (``None`` where that was not asked)."""

    sure: float | None
    mass: float | None


async def sureness(
    engine: Engine,
    messages: tuple[Message, ...],
    prefix: str,
    words: Words,
    *,
    read: Read = "auto",
) -> Sureness:
    """p(sure) / (p(sure) + p(unsure)) for how the answer goes on after ``prefix`` and ``words.lead``.

    Both are probabilities of whole words, whatever their tokens. ``score`` has the engine score both texts.
    ``tokens`` reads the alternatives of the next token: one that is a word, or that holds it and ends there,
    counts for that word; one that only begins a word (or both) is appended, and the alternatives after it
    count with its probability. So a shared first token is divided by what follows it. Where one word is
    seen and the other is not, though 20 alternatives are told, that one counts with the least of these, the
    most that it can have. ``auto`` scores where the engine can. Raises what the engine raises.
    """
    if read == "score" or (read == "auto" and Ability.SCORE in engine.abilities):
        texts = [prefix + words.lead + word for word in (words.sure, words.unsure)]
        scored = [(await engine.generate(score_request(messages, text)))[0].logprobs or () for text in texts]
        return _of_scores(*scored)
    masses, least = await _masses(engine, messages, prefix + words.lead, words[1:])
    seen = sum(masses)
    if not seen:
        return Sureness(None, 0.0)
    first, second = (mass or least for mass in masses)
    return Sureness(first / (first + second), seen)


def _of_scores(sure: Sequence[TokenLogprob], unsure: Sequence[TokenLogprob]) -> Sureness:
    shared = 0
    for a, b in zip(sure, unsure, strict=False):
        if a.token != b.token:
            break
        shared += 1
    first, second = (math.fsum(t.logprob for t in tokens[shared:]) for tokens in (sure, unsure))
    # By the difference of the two: the exponentials of both could be 0.
    odds = second - first
    share = math.exp(-odds) / (1 + math.exp(-odds)) if odds > 0 else 1 / (1 + math.exp(odds))
    return Sureness(share, min(1.0, math.exp(first) + math.exp(second)))


async def _masses(
    engine: Engine, messages: tuple[Message, ...], prefix: str, words: Sequence[str]
) -> tuple[list[float], float]:
    """The probability of each word, summed over the ways in which tokens spell it; and the most that a word
    may have which is not among the next token's alternatives."""
    wanted = [word.strip().casefold() for word in words]
    sampling = Sampling(temperature=0.0, max_tokens=1, logprobs=_ALTERNATIVES)
    masses = [0.0] * len(words)
    begun: list[tuple[float, str]] = [(1.0, "")]
    likeliest = least = 0.0
    for _ in range(1 + FOLLOWED):
        if not begun or begun[0][0] < _FLOOR * likeliest:
            break
        probability, spelled = begun.pop(0)
        [answer] = await engine.generate(Request(messages, sampling, prefix=prefix + spelled))
        told = _alternatives(answer.logprobs or ())
        if not spelled and len(told) >= _ALTERNATIVES:
            least = math.exp(min(logprob for _, logprob in told))
        for token, logprob in told:
            word, whole = _fit((spelled + token).lstrip().casefold(), wanted)
            if word is None:
                continue
            here = probability * math.exp(logprob)
            likeliest = max(likeliest, here)
            if whole:
                masses[word] += here
            else:
                begun.append((here, spelled + token))
        begun.sort(key=lambda path: (-path[0], path[1]))
    return masses, least


def _alternatives(tokens: Sequence[TokenLogprob]) -> list[tuple[str, float]]:
    """The next token's alternatives; the sampled token may be among them."""
    if not tokens:
        return []
    first = tokens[0]
    return list(({first.token: first.logprob} | {t.token: t.logprob for t in first.top}).items())


def _fit(text: str, words: Sequence[str]) -> tuple[int | None, bool]:
    """The word that ``text`` is or begins, and whether it is whole ("surely" is not "sure")."""
    for i, word in enumerate(words):
        if text.startswith(word) and not text[len(word) : len(word) + 1].isalnum():
            return i, True
    begun = [i for i, word in enumerate(words) if text and word.startswith(text)]
    return (begun[0], False) if begun else (None, False)
