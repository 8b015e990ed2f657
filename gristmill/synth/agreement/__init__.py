"""What the samples of a problem say together: votes, their weights, and labels made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.synth.agreement.combined import Aggregate, UniversalVote
    from gristmill.synth.agreement.crossed import CrossVotes, cross_rewards, group_advantages
    from gristmill.synth.agreement.labels import PseudoLabels, calibrate
    from gristmill.synth.agreement.mixture import Mixture, fit, pruned
    from gristmill.synth.agreement.paraphrase import Paraphrase
    from gristmill.synth.agreement.vote import Voted, VoteShares, Voting
    from gristmill.synth.agreement.weights import borda_weights, model_weights, path_weights

__all__ = [
    "Aggregate",
    "CrossVotes",
    "Mixture",
    "Paraphrase",
    "PseudoLabels",
    "UniversalVote",
    "VoteShares",
    "Voted",
    "Voting",
    "borda_weights",
    "calibrate",
    "cross_rewards",
    "fit",
    "group_advantages",
    "model_weights",
    "path_weights",
    "pruned",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Aggregate": ".combined",
        "CrossVotes": ".crossed",
        "Mixture": ".mixture",
        "Paraphrase": ".paraphrase",
        "PseudoLabels": ".labels",
        "UniversalVote": ".combined",
        "VoteShares": ".vote",
        "Voted": ".vote",
        "Voting": ".vote",
        "borda_weights": ".weights",
        "calibrate": ".labels",
        "cross_rewards": ".crossed",
        "fit": ".mixture",
        "group_advantages": ".crossed",
        "model_weights": ".weights",
        "path_weights": ".weights",
        "pruned": ".mixture",
    },
)
