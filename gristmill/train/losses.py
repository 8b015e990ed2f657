"""Losses of preference training: pure functions of tensors, one number for each row.

``chosen`` and ``rejected`` are sums of log-probabilities (natural logarithms) over the tokens that carry
loss, ``*_mean`` their means over those tokens, and a ratio is such a sum under the trained model less that
under the reference. All tensors of one call have the same shape (rows,), and so has the result. ``flip`` is
the chance, 0 to 1, that a label is the wrong way round (the epsilon of conservative DPO).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = Any


def two_sided(logit: Tensor, flip: Tensor | float = 0.0) -> Tensor:
    """``-(1 - flip) log sigmoid(logit) - flip log sigmoid(-logit)``: the cross-entropy of a label that is
    wrong with probability ``flip``."""
    from torch.nn.functional import logsigmoid

    return -(1 - flip) * logsigmoid(logit) - flip * logsigmoid(-logit)


def dpo(
    chosen_ratio: Tensor,
    rejected_ratio: Tensor,
    beta: float,
    flip: Tensor | float = 0.0,
    offset: Tensor | float = 0.0,
) -> Tensor:
    """DPO (arXiv 2305.18290), ``-log sigmoid(beta (chosen_ratio - rejected_ratio) - offset)``.

    With an ``offset`` the chosen side must lead by that much (ODPO, arXiv 2402.10571). Over the model's own
    turns alone it is multi-turn DPO (arXiv 2502.19613).
    """
    return two_sided(beta * (chosen_ratio - rejected_ratio) - offset, flip)


def optimism(own_ratio: Tensor, beta: float, alpha: float) -> Tensor:
    """SELM's optimism (arXiv 2405.19332), ``alpha beta own_ratio``, to be added to DPO: the log-ratio of an
    answer that the reference gave itself.

    It takes probability from what the reference says anyway, and so leaves more to what it has not tried.
    """
    return alpha * beta * own_ratio


def copg(chosen_ratio: Tensor, rejected_ratio: Tensor, margin: Tensor, beta: float) -> Tensor:
    """CoPG (arXiv 2406.19185), ``-(margin - beta / 2 difference) difference``, ``difference`` being that of
    the log-ratios and ``margin`` that of the rewards. It is least where ``beta difference = margin``, as in
    the best policy under a price of ``beta`` on the divergence."""
    difference = chosen_ratio - rejected_ratio
    return -(margin - beta / 2 * difference) * difference


def ipo(chosen_ratio_mean: Tensor, rejected_ratio_mean: Tensor, beta: float) -> Tensor:
    """IPO (arXiv 2310.12036, equation 17), ``(difference - 1 / (2 beta))^2``, of ratios per token, as TRL has
    it from the authors."""
    return (chosen_ratio_mean - rejected_ratio_mean - 1 / (2 * beta)) ** 2


def simpo(
    chosen_mean: Tensor,
    rejected_mean: Tensor,
    beta: float,
    gamma_ratio: float,
    flip: Tensor | float = 0.0,
) -> Tensor:
    """SimPO (arXiv 2405.14734), ``-log sigmoid(beta (chosen_mean - rejected_mean - gamma_ratio))``; no
    reference. ``gamma_ratio`` is the paper's gamma / beta."""
    return two_sided(beta * (chosen_mean - rejected_mean - gamma_ratio), flip)


def cpo(chosen: Tensor, rejected: Tensor, beta: float, flip: Tensor | float = 0.0) -> Tensor:
    """CPO's preference term (arXiv 2401.08417), ``-log sigmoid(beta (chosen - rejected))``; no reference. The
    paper adds the likelihood of the chosen side (``nll``)."""
    return two_sided(beta * (chosen - rejected), flip)


def orpo(chosen_mean: Tensor, rejected_mean: Tensor, beta: float) -> Tensor:
    """ORPO (arXiv 2403.07691): the chosen side's ``-chosen_mean`` and ``beta`` times the odds-ratio term,
    ``-log sigmoid(log odds(chosen) - log odds(rejected))`` with ``odds = p / (1 - p)``, p per token."""
    import torch

    odds = [mean - torch.log1p(-torch.exp(mean)) for mean in (chosen_mean, rejected_mean)]
    return -chosen_mean + beta * two_sided(odds[0] - odds[1])


def kto(
    ratio: Tensor,
    wanted: Tensor,
    divergence: Tensor,
    beta: float,
    weights: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """KTO (arXiv 2402.01306) of labelled answers: ``1 - sigmoid(beta (ratio - divergence))`` for a wanted
    one, ``1 - sigmoid(beta (divergence - ratio))`` for another, times the weight of its kind.

    ``divergence`` is ``divergence_of`` answers to other prompts, a constant here.
    """
    import torch

    logit = beta * (ratio - divergence)
    return torch.where(
        wanted, weights[0] * (1 - torch.sigmoid(logit)), weights[1] * (1 - torch.sigmoid(-logit))
    )


def divergence_of(mismatched_ratio: Tensor) -> Tensor:
    """KTO's estimate of the divergence from the reference, of shape (): the mean log-ratio of answers put to
    other prompts, at least 0; without a gradient."""
    return mismatched_ratio.detach().mean().clamp(min=0)


def bco(ratio: Tensor, wanted: Tensor, shift: Tensor | float, beta: float) -> Tensor:
    """BCO (arXiv 2404.04656) of labelled answers, ``-log sigmoid(+-(beta ratio - shift))``: plus for a wanted
    one. ``shift`` is the running mean of all rewards ``beta ratio``."""
    import torch

    logit = beta * ratio - shift
    return two_sided(torch.where(wanted, logit, -logit))
