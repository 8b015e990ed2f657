"""Backward verification (FOBAR, arXiv 2308.07758): does a candidate answer lead back to the question's
numbers?

A number of the question is masked, the candidate is given as the answer, and the model is asked for the
number. A candidate is supported by how often the number is recovered. Formula and constants follow the
project's notes, which were not checked against the paper: P_f is the share of the votes, P_b(c) is
proportional to Z_c + 1e-8, and P(c) to P_f^alpha * P_b^(1 - alpha) with alpha 0.5. The prompt is the
project's own.

Also the project's own: a number equal to one in *any* candidate is never masked, so that no candidate gives
it away and all have the same trials; and a number is masked everywhere in the question, since a second
mention would give it away.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from gristmill.core.engine import Engine, Message, Request, Sampling
from gristmill.core.errors import RecipeError
from gristmill.core.prompts import fill
from gristmill.core.stages import derive_seed
from gristmill.verifiers.judges.base import draw
from gristmill.verifiers.rules.short_answer import extract
from gristmill.verifiers.text.numerals import is_number_word, numeral

EPSILON = 1e-8
_TOKEN = re.compile(
    r"[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])(?:\.[0-9]++)?|[0-9]++(?:\.[0-9]++)?|\.[0-9]++|[A-Za-z]++"
)
_JOINT = re.compile(r"\s+|\s?-\s?")
_NAMES = ("X", "Y", "Z", "N", "K", "Q", "UNKNOWN")
_PROMPT = """{question}

It is known that the answer to this question is {candidate}. What number does the unknown {name} stand for?
Reason step by step, then end with a line "The answer is N", N being the value of {name}."""


class Number(Struct, frozen=True):
    """A number in a text: its plain form (``1200.5``) and the characters ``start:end`` that it takes up."""

    value: str
    start: int
    end: int


class Masked(Struct, frozen=True):
    """A question in which the unknown ``name`` replaces the number ``value`` everywhere."""

    question: str
    value: str
    name: str


class Backed(Struct, frozen=True):
    """A candidate: its votes, how many of ``trials`` recovered a number, and its three probabilities.

    ``backward`` is ``None`` if nothing could be masked or there was only one candidate.
    """

    label: str
    votes: int
    recovered: int
    trials: int
    forward: float
    backward: float | None
    score: float


class BackwardRanking(Struct, frozen=True):
    """All candidates in the order of their first votes, and the masked ``values``.

    ``excluded`` counts the samples without a label.
    """

    candidates: tuple[Backed, ...]
    values: tuple[str, ...]
    excluded: int = 0

    @property
    def best(self) -> str | None:
        """The label with the highest score; ``None`` for a tie or without candidates."""
        top = max((c.score for c in self.candidates), default=0.0)
        first = [c.label for c in self.candidates if math.isclose(c.score, top)]
        return first[0] if len(first) == 1 else None


def numbers(text: str) -> tuple[Number, ...]:
    """The numbers of ``text``, in digits or in words ("twenty-five", "3.5 million"), in order.

    Not taken as numbers: ordinals ("3rd", "third"), digits inside a name ("x2"), and "one" and "a" alone,
    which rarely count anything. A sign is not part of a number here.
    """
    found: list[Number] = []
    for run in _runs(text):
        words = [t[0].lower() for t in run]
        at = 0
        while at < len(run):
            start, read = run[at].start(), _numeral(words, at)
            value, end = read or ("", at + 1)
            alone = end == at + 1 and words[at] == "one"
            inside = text[start - 1 : start].isalnum() or text[start - 1 : start] == "_"
            if read and not value.endswith("th") and not alone and not inside:
                found.append(Number(value, start, run[end - 1].end()))
            at = end
    return tuple(found)


def _runs(text: str) -> list[list[re.Match[str]]]:
    """Runs of tokens that are separated only by a space or a hyphen."""
    runs: list[list[re.Match[str]]] = []
    for token in _TOKEN.finditer(text):
        if runs and _JOINT.fullmatch(text, runs[-1][-1].end(), token.start()):
            runs[-1].append(token)
        else:
            runs.append([token])
    # "3rd" is the run "3" and the run "rd", with nothing between.
    followed = itertools.pairwise(runs)
    ordinal = {
        id(run)
        for run, after in followed
        if run[-1].end() == after[0].start() and after[0][0].lower() in ("st", "nd", "rd", "th")
    }
    return [run[:-1] if id(run) in ordinal else run for run in runs]


def _numeral(words: Sequence[str], at: int) -> tuple[str, int] | None:
    if words[at].isalpha() and not is_number_word(words[at]):
        return None  # numeral() reads "a hundred" and "minus five"; here the number begins later
    return numeral(words, at)


def maskings(question: str, candidates: Sequence[str]) -> tuple[Masked, ...]:
    """``question`` with one number masked at a time, in order; empty if no number can be masked.

    A value that occurs in the text of any candidate is not masked.
    """
    given = {n.value for c in candidates for n in numbers(c)}
    found = numbers(question)
    used = {w.upper() for w in re.findall(r"[A-Za-z]+", question)}
    name = next((n for n in _NAMES if n not in used), "UNKNOWN_NUMBER")
    values = dict.fromkeys(n.value for n in found if n.value not in given)
    return tuple(Masked(_replaced(question, found, value, name), value, name) for value in values)


def _replaced(text: str, found: Sequence[Number], value: str, name: str) -> str:
    for number in reversed(found):
        if number.value == value:
            text = text[: number.start] + name + text[number.end :]
    return text


def recovers(answer: str, value: str) -> bool:
    """Whether ``answer`` gives the number ``value`` in its box, after "the answer is", or in its last line.

    If there are several numbers, the last one counts.
    """
    found = extract(answer)
    if found is None:
        return False
    said = numbers(found.text) or _one(found.text)
    if not said:
        return False
    before = found.text[max(0, said[-1].start - 8) : said[-1].start]
    # "= -5" is negative; "20 - 5" and "20-5" end in a number that is subtracted.
    negative = re.search(r"(?:^|[^\w)\s])\s*[-−]$|\s[-−]$", before) is not None
    return not negative and said[-1].value == value


def _one(text: str) -> tuple[Number, ...]:
    return (Number("1", 0, 0),) if text.lower().split()[-1:] == ["one"] else ()


def backward_shares(recovered: Sequence[int], *, epsilon: float = EPSILON) -> list[float]:
    """P_b, proportional to Z_c + ``epsilon``; sums to 1."""
    whole = sum(recovered) + epsilon * len(recovered)
    return [(z + epsilon) / whole for z in recovered]


def posterior(
    votes: Sequence[int],
    recovered: Sequence[int] | None,
    *,
    alpha: float = 0.5,
    epsilon: float = EPSILON,
) -> list[float]:
    """P(c), proportional to P_f^alpha * P_b^(1 - alpha); without ``recovered`` it is P_f, the share of the
    votes.

    Raises ``ValueError`` for no votes, negative counts, different lengths, or ``alpha`` outside [0, 1].
    """
    if not 0 <= alpha <= 1 or epsilon <= 0:
        raise ValueError(
            f"alpha is {alpha} and epsilon {epsilon}; alpha must be in [0, 1] and epsilon above 0"
        )
    if sum(votes) <= 0 or min(votes) < 0 or (recovered and min(recovered) < 0):
        raise ValueError(
            f"votes {list(votes)} and recovered {recovered} must be counts, with at least one vote"
        )
    forward = [v / sum(votes) for v in votes]
    if recovered is None:
        return forward
    shares = backward_shares(recovered, epsilon=epsilon)
    raw = [f**alpha * b ** (1 - alpha) for f, b in zip(forward, shares, strict=True)]
    return [r / sum(raw) for r in raw]


def prompt(masked: Masked, candidate: str) -> str:
    """The prompt that asks for the masked number, given ``candidate`` as the answer."""
    return fill(_PROMPT, question=masked.question, candidate=candidate, name=masked.name)


async def rank(
    question: str,
    labels: Sequence[str | None],
    engine: Engine,
    *,
    seed: int,
    sampling: Sampling | None = None,
    samples: int = 8,
    max_masked: int | None = None,
    alpha: float = 0.5,
) -> BackwardRanking:
    """Rank the answers of forward samples by their votes and by the numbers that they recover.

    ``labels`` has one answer for each forward sample: the text that represents its class of equivalent
    answers, the same for the whole class; ``None`` for a sample without an answer. Each of the question's
    numbers (at most the first ``max_masked``) is asked for ``samples`` times with each candidate, so
    ``samples * masked * candidates`` completions are requested at once; pass a ``Session``, which paces them.
    An answer that is cut off recovers nothing. With fewer than two candidates nothing is requested.
    Raises the engine's errors, and ``RecipeError`` for ``samples`` or ``max_masked`` below 1.
    """
    if samples < 1 or (max_masked is not None and max_masked < 1):
        raise RecipeError(
            f"backward check: samples is {samples} and max_masked is {max_masked}.",
            remedy="Give numbers of at least 1.",
        )
    votes = Counter(label for label in labels if label is not None)
    excluded = len(labels) - votes.total()
    if not votes:
        return BackwardRanking((), (), excluded)
    masks = maskings(question, list(votes))[:max_masked] if len(votes) > 1 else ()
    calls = []
    for label, masked in itertools.product(votes, masks):
        message = Message("user", prompt(masked, label))
        drawn_with = derive_seed(seed, f"{label}\x1f{masked.value}")
        request = Request((message,), sampling or Sampling(max_tokens=1024), drawn_with)
        calls.append(_recoveries(request, masked.value, engine, samples))
    counts = await asyncio.gather(*calls)
    width = len(masks)
    recovered = [sum(counts[i * width : (i + 1) * width]) for i in range(len(votes))] if masks else None
    scores = posterior(list(votes.values()), recovered, alpha=alpha)
    backward = backward_shares(recovered) if recovered is not None else [None] * len(votes)
    backed = tuple(
        Backed(
            label=label,
            votes=votes[label],
            recovered=recovered[i] if recovered is not None else 0,
            trials=width * samples,
            forward=votes[label] / votes.total(),
            backward=backward[i],
            score=scores[i],
        )
        for i, label in enumerate(votes)
    )
    return BackwardRanking(backed, tuple(m.value for m in masks), excluded)


async def _recoveries(request: Request, value: str, engine: Engine, samples: int) -> int:
    completions = await draw(engine, request, samples)
    return sum(c.finished and recovers(c.text, value) for c in completions)
