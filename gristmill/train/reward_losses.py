"""Losses of reward models: pure functions of tensors, each a closed form, one number for each item.

Rewards and log-ratios are 1-dimensional tensors with one number for each pair or answer, logits of steps are
``[steps, 2]``. Nothing is averaged here: a trainer divides by the number of items in its batch.
"""

from __future__ import annotations

from typing import Any

from gristmill.train.losses import two_sided


def bradley_terry(difference: Any, margin: Any, flip: Any) -> Any:
    """-(1 - flip) log sigmoid(d - margin) - flip log sigmoid(margin - d), d = reward of the chosen side less
    that of the rejected one.

    The margin is that of Secrets of RLHF II (arXiv 2401.06080), inside the sigmoid (its Eq. 6 prints it
    outside); ``flip`` is the chance in [0, 1] that the label is wrong, its label smoothing. A pair whose
    sides are exchanged needs a margin of the other sign.
    """
    return two_sided(difference - margin, flip)


def no_preference(difference: Any) -> Any:
    """Half of -log sigmoid either way, smallest where the rewards are equal (Crome, arXiv 2506.16507)."""
    return two_sided(difference, 0.5)


def centred(chosen: Any, rejected: Any) -> Any:
    """(chosen + rejected)^2, which keeps the rewards of a pair around 0 (arXiv 2312.09244)."""
    return (chosen + rejected) ** 2


def regression(outputs: Any, targets: Any) -> Any:
    """The mean squared error of the attributes that an answer has scores for (HelpSteer2, arXiv 2406.08673).

    ``outputs`` and ``targets`` are ``[answers, attributes]``; a target that is NaN is not known. Every answer
    has at least one that is.
    """
    import torch

    known = ~torch.isnan(targets)
    errors = (outputs - torch.where(known, targets, outputs)) ** 2
    return errors.sum(-1) / known.sum(-1)


def goal_conditioned(source: Any, goal: Any, other: Any) -> Any:
    """-log sigmoid(cos(source, goal)) - log sigmoid(-cos(source, other)) of hidden states ``[pairs, width]``.

    ``source`` and ``goal`` are an earlier and a later state of the chosen answer, ``other`` is a state of the
    rejected one (goal-conditioned reward models, arXiv 2407.13887).
    """
    from torch.nn.functional import cosine_similarity

    near, far = cosine_similarity(source, goal), cosine_similarity(source, other)
    return two_sided(near) + two_sided(-far)


def two_class(logits: Any, values: Any) -> Any:
    """Cross-entropy of the softmax over two logits, bad and good, with the soft target (1 - v, v).

    ER-PRM (arXiv 2412.11006): over these two alone, not over the vocabulary; ``values`` are in [0, 1], so
    that a hard label is one that is 0 or 1.
    """
    return two_sided(logits[..., 1] - logits[..., 0], 1 - values)


def outcome(log_ratio: Any, label: Any, beta: float) -> Any:
    """Cross-entropy of sigmoid(beta * log ratio of the whole answer) with its outcome, 0 or 1: the implicit
    process reward model (arXiv 2412.01981)."""
    return two_sided(beta * log_ratio, 1 - label)
