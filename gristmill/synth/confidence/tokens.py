"""Confidence from the log-probabilities of sampled tokens. All logarithms are natural, entropies in nats.

A server gives the probabilities of the few likeliest tokens at each position, 20 at most. What lies beyond is
known only by its mass: 1 minus their sum. So entropy is a lower bound here, and self-certainty has the bound
of its error beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from msgspec.structs import replace

from gristmill.core.engine import Completion, Sampling, TokenLogprob

TokenMeasure = Literal["mean_logprob", "min_logprob", "perplexity", "entropy", "self_certainty"]
"""What can be said of the tokens of a text."""
DISTRIBUTIONAL: frozenset[TokenMeasure] = frozenset({"entropy", "self_certainty"})
"""Those that need the likeliest alternatives of each token."""
ALTERNATIVES = 20
"""The most that servers of the OpenAI protocol return."""
LOWEST = -100.0
"""Log-probabilities below this count as this, so that one impossible token leaves a number."""
LEAST = 1e-12
"""A probability below this counts as this in self-certainty, which takes the logarithm of every one."""


class Bounded(NamedTuple):
    """A number that is at least ``low`` and at most ``high``."""

    low: float
    high: float


def mean_logprob(tokens: Sequence[TokenLogprob]) -> float:
    """The mean log-probability of the tokens, at most 0. ``ValueError`` without tokens."""
    return math.fsum(_logprobs(tokens)) / len(tokens)


def min_logprob(tokens: Sequence[TokenLogprob]) -> float:
    """The log-probability of the least likely token. ``ValueError`` without tokens."""
    return min(_logprobs(tokens))


def perplexity(tokens: Sequence[TokenLogprob]) -> float:
    """exp of the negative mean log-probability, at least 1. ``ValueError`` without tokens."""
    return math.exp(-mean_logprob(tokens))


def entropy(tokens: Sequence[TokenLogprob]) -> float | None:
    """The mean entropy of the tokens' distributions, in nats; ``None`` without alternatives.

    A lower bound: every token that is not shown is at most as likely as the least likely one that is, so the
    mass beyond adds at least itself times minus the logarithm of that.
    """
    found = [_entropy(token) for token in tokens if token.top]
    return math.fsum(found) / len(found) if found and len(found) == len(tokens) else None


def self_certainty(tokens: Sequence[TokenLogprob], vocabulary: int) -> Bounded | None:
    """-(1/(nV)) sum over tokens i and vocabulary v of log(V p_i(v)): the mean divergence KL(uniform || p_i)
    (arXiv 2502.18581). Larger is more certain; 0 is uniform. ``None`` without alternatives.

    ``low`` has the mass beyond the alternatives spread evenly, which is the least that it can be; ``high``
    has it on as few tokens as can hold it, and all others at 1e-12. With as many alternatives as the
    vocabulary has tokens both are the number itself. Probabilities are kept at 1e-12 or above. The tokens are
    the answer's own from its first to its last: published code takes them from one place too late.

    ``ValueError`` for a vocabulary smaller than the alternatives of a token.
    """
    if not tokens or not all(token.top for token in tokens):
        return None
    found = [_certainty(token, vocabulary) for token in tokens]
    return Bounded(*(math.fsum(side) / len(found) for side in zip(*found, strict=True)))


def with_logprobs(sampling: Sampling, measures: Sequence[TokenMeasure]) -> Sampling:
    """``sampling`` with the log-probabilities that the measures need; as it is without measures."""
    if not measures:
        return sampling
    most = ALTERNATIVES if DISTRIBUTIONAL.intersection(measures) else 0
    return replace(sampling, logprobs=max(most, sampling.logprobs or 0))


def by_phase(
    completion: Completion, measures: Sequence[TokenMeasure], vocabulary: int | None = None
) -> dict[str, float]:
    """The ``measures`` of a completion's answer by name, and of what it thought as ``thinking_NAME``."""
    answer = measured(completion.logprobs, measures, vocabulary)
    thinking = measured(completion.reasoning_logprobs, measures, vocabulary)
    return {**answer, **{f"thinking_{name}": value for name, value in thinking.items()}}


def measured(
    tokens: Sequence[TokenLogprob] | None, measures: Sequence[TokenMeasure], vocabulary: int | None = None
) -> dict[str, float]:
    """The ``measures`` of the tokens by name, those that can be told; nothing without tokens.

    ``self_certainty`` is its lower bound, and ``self_certainty_error`` how much more it can be.
    """
    if not tokens:
        return {}
    found: dict[str, float | None] = {}
    for measure in measures:
        if measure == "mean_logprob":
            found[measure] = mean_logprob(tokens)
        elif measure == "min_logprob":
            found[measure] = min_logprob(tokens)
        elif measure == "perplexity":
            found[measure] = perplexity(tokens)
        elif measure == "entropy":
            found[measure] = entropy(tokens)
        elif vocabulary is not None and (bounded := self_certainty(tokens, vocabulary)) is not None:
            found[measure] = bounded.low
            found[f"{measure}_error"] = bounded.high - bounded.low
    return {name: value for name, value in found.items() if value is not None}


def self_aligned(alone: float, given: float) -> float:
    """(ppl(a) - ppl(a|q)) / ppl(a), kept in [-1, 1], of an answer's perplexity without its question and with
    it (SAR, arXiv 2509.05489). 0: the question does not help to say the answer.

    ``ValueError`` for a perplexity below 1, except for rounding."""
    if alone < 1 - _ROUNDING or given < 1 - _ROUNDING:
        raise ValueError(f"perplexities are {alone} and {given}; they must be at least 1.")
    return min(1.0, max(-1.0, (alone - given) / alone))


_ROUNDING = 1e-6


def _logprobs(tokens: Sequence[TokenLogprob]) -> list[float]:
    if not tokens:
        raise ValueError("there are no tokens, so they have no probability")
    return [max(LOWEST, min(0.0, token.logprob)) for token in tokens]


def _shown(token: TokenLogprob) -> tuple[list[float], float]:
    """The probabilities that are known at a position, and the least among the alternatives."""
    top = [math.exp(min(0.0, score.logprob)) for score in token.top]
    least = min(top)
    if token.token not in {score.token for score in token.top}:
        top.append(math.exp(min(0.0, token.logprob)))
    return top, least


def _entropy(token: TokenLogprob) -> float:
    shown, least = _shown(token)
    beyond = max(0.0, 1 - math.fsum(shown))
    known = math.fsum(-p * math.log(p) for p in shown if p > 0)
    return max(0.0, known - beyond * math.log(max(least, LEAST)))


def _certainty(token: TokenLogprob, vocabulary: int) -> Bounded:
    shown, least = _shown(token)
    rest = vocabulary - len(shown)
    if rest < 0:
        raise ValueError(f"a token has {len(shown)} alternatives, more than the vocabulary of {vocabulary}.")
    known = math.fsum(math.log(max(p, LEAST)) for p in shown)
    beyond, least = max(0.0, 1 - math.fsum(shown)), max(least, LEAST)

    def of(tail: float) -> float:
        return -math.log(vocabulary) - (known + tail) / vocabulary

    if not rest:
        return Bounded(of(0.0), of(0.0))
    even = rest * math.log(max(min(beyond / rest, least), LEAST))
    full = min(rest, int(beyond / least))
    part = math.log(max(beyond - full * least, LEAST)) if full < rest else 0.0
    packed = full * math.log(least) + part + max(0, rest - full - 1) * math.log(LEAST)
    return Bounded(of(even), max(of(even), of(packed)))
