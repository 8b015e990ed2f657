"""Scorers: numbers with names for answers and pairs, and the stages that apply them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.synth.scorers.base import Answered, PairScorer, Scorer, of_pair, of_sample, unscored
    from gristmill.synth.scorers.combining import (
        Attributes,
        Direction,
        Ensemble,
        EnsemblePairs,
        Features,
        system_message,
    )
    from gristmill.synth.scorers.follow_up import FollowUp
    from gristmill.synth.scorers.likelihood import DensityRatio, Implicit, Likelihood
    from gristmill.synth.scorers.loading import load_scorer
    from gristmill.synth.scorers.preferences import InternalJudge, Logits
    from gristmill.synth.scorers.process_rows import ProcessRewards
    from gristmill.synth.scorers.relevance import Relevance
    from gristmill.synth.scorers.reward import ProcessReward, RewardModel
    from gristmill.synth.scorers.stages import ScorePairs, ScoreSamples
    from gristmill.synth.scorers.verdicts import VerifierScore

__all__ = [
    "Answered",
    "Attributes",
    "DensityRatio",
    "Direction",
    "Ensemble",
    "EnsemblePairs",
    "Features",
    "FollowUp",
    "Implicit",
    "InternalJudge",
    "Likelihood",
    "Logits",
    "PairScorer",
    "ProcessReward",
    "ProcessRewards",
    "Relevance",
    "RewardModel",
    "ScorePairs",
    "ScoreSamples",
    "Scorer",
    "VerifierScore",
    "load_scorer",
    "of_pair",
    "of_sample",
    "system_message",
    "unscored",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Answered": ".base",
        "Attributes": ".combining",
        "DensityRatio": ".likelihood",
        "Direction": ".combining",
        "Ensemble": ".combining",
        "EnsemblePairs": ".combining",
        "Features": ".combining",
        "FollowUp": ".follow_up",
        "Implicit": ".likelihood",
        "InternalJudge": ".preferences",
        "Likelihood": ".likelihood",
        "Logits": ".preferences",
        "PairScorer": ".base",
        "ProcessReward": ".reward",
        "ProcessRewards": ".process_rows",
        "Relevance": ".relevance",
        "RewardModel": ".reward",
        "ScorePairs": ".stages",
        "ScoreSamples": ".stages",
        "Scorer": ".base",
        "VerifierScore": ".verdicts",
        "load_scorer": ".loading",
        "of_pair": ".base",
        "of_sample": ".base",
        "system_message": ".combining",
        "unscored": ".base",
    },
)
