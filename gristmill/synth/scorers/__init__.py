"""Scorers: numbers with names for answers and pairs, and the stages that apply them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.synth.scorers.base import Answered, PairScorer, Scorer, of_pair, of_sample, unscored
    from gristmill.synth.scorers.loading import load_scorer
    from gristmill.synth.scorers.stages import ScorePairs, ScoreSamples
    from gristmill.synth.scorers.verdicts import VerifierScore

__all__ = [
    "Answered",
    "PairScorer",
    "ScorePairs",
    "ScoreSamples",
    "Scorer",
    "VerifierScore",
    "load_scorer",
    "of_pair",
    "of_sample",
    "unscored",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Answered": ".base",
        "PairScorer": ".base",
        "ScorePairs": ".stages",
        "ScoreSamples": ".stages",
        "Scorer": ".base",
        "VerifierScore": ".verdicts",
        "load_scorer": ".loading",
        "of_pair": ".base",
        "of_sample": ".base",
        "unscored": ".base",
    },
)
