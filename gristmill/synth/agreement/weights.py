"""Weights of samples in a vote, from their ranks, their models or their probabilities.

Each function gives one weight a sample, in the order given; ``verifiers.rules.votes.vote`` adds them up. A
sample that cannot vote has the answer ``None`` and the weight 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gristmill.synth.agreement.mixture import Mixture, fit, pruned
from gristmill.verifiers.rules.votes import Grouping, vote


def borda_weights(
    answers: Sequence[str | None], scores: Sequence[float | None], power: float = 0.5
) -> list[float]:
    """(N - rank + 1)^power of each sample by its score, the highest first (arXiv 2502.18581, Borda voting).

    ``power`` 0 is the plain majority, and a large one the sample with the highest score. The project's own:
    only samples with an answer and a score are ranked (published code lets outputs without one keep their
    rank), and equal scores share the mean of the weights of their ranks, so that the order of samples does
    not matter. A score that is missing or not a number has weight 0.

    ``ValueError`` for lists of different length and for a negative power.
    """
    if len(answers) != len(scores):
        raise ValueError(f"{len(scores)} scores for {len(answers)} answers; give one for each.")
    if not 0 <= power < math.inf:
        raise ValueError(f"the power {power} is not a number of at least 0.")
    ranked = sorted(
        (-score, i)
        for i, (answer, score) in enumerate(zip(answers, scores, strict=True))
        if answer is not None and score is not None and not math.isnan(score)
    )
    weights = [0.0] * len(answers)
    at = 0
    while at < len(ranked):
        end = next((k for k in range(at, len(ranked)) if ranked[k][0] != ranked[at][0]), len(ranked))
        shared = math.fsum((len(ranked) - rank) ** power for rank in range(at, end)) / (end - at)
        for _, i in ranked[at:end]:
            weights[i] = shared
        at = end
    return weights


def model_weights(
    answers: Sequence[str | None], models: Sequence[str | None], *, group: Grouping | None = None
) -> list[float]:
    """The self-consistency of each sample's model, which is the share of its samples in its largest class
    (RLCCF, arXiv 2508.12338).

    The sum of these weights over a class is the collective score of its label. A share is of all samples of a
    model, those without an answer included: the project's own, so that a model that answers once of eight
    times is not one that always agrees with itself.

    ``ValueError`` for lists of different length.
    """
    if len(answers) != len(models):
        raise ValueError(f"{len(models)} models for {len(answers)} answers; give one for each.")
    own: dict[str | None, float] = {}
    for model in dict.fromkeys(models):
        said = [answer for answer, name in zip(answers, models, strict=True) if name == model]
        own[model] = max(vote(said, group=group).totals, default=0.0) / len(said)
    return [0.0 if a is None else own[m] for a, m in zip(answers, models, strict=True)]


def path_weights(
    answers: Sequence[str | None],
    logprobs: Sequence[float | None],
    texts: Sequence[str],
    *,
    prune: bool = False,
    mixture: Mixture | None = None,
) -> list[float]:
    """The probability of each different text, exp of its ``logprobs``: perplexity consistency of RPC
    (arXiv 2502.00511). With ``prune`` paths that are probably bad have weight 0 (its reasoning pruning).

    ``logprobs`` are natural logarithms: the mean of the tokens', as in the authors' code, or the sum, as in
    their theory. A text that occurs again has weight 0, since the sum is over unique paths; so has one
    without a number or an answer, and one of probability 0. ``mixture`` is fitted to the paths where it is
    not given; see ``pruned`` for when nothing is.

    ``ValueError`` for lists of different length and for a log-probability above 0.
    """
    if not len(answers) == len(logprobs) == len(texts):
        raise ValueError(
            f"{len(answers)} answers, {len(logprobs)} log-probabilities and {len(texts)} texts; "
            "give one of each for each sample."
        )
    weights, seen = [0.0] * len(answers), set[str]()
    for i, (answer, logprob, text) in enumerate(zip(answers, logprobs, texts, strict=True)):
        if answer is None or logprob is None or math.isnan(logprob) or text in seen:
            continue
        if logprob > _ROUNDING:
            raise ValueError(f"the log-probability {logprob} is above 0.")
        seen.add(text)
        weights[i] = math.exp(min(logprob, 0.0))
    if prune:
        places = [i for i, weight in enumerate(weights) if weight > 0]
        paths = [weights[i] for i in places]
        for i in pruned(paths, mixture if mixture is not None else fit(paths)):
            weights[places[i]] = 0.0
    return weights


_ROUNDING = 1e-6
"""Servers round, so that a certain token can have a log-probability just above 0."""
